"""Out of memory: the setting that is named and the value that is given do make it fit."""

import itertools
import sys
from pathlib import Path

import pytest
import torch

from tests.trainer.launch import TINY, start
from trainer.config import TrainingConfig
from trainer.data.digits import load_digits
from trainer.errors import ConfigError, OutOfMemory
from trainer.memory import advice, advised, images_per_pass, images_that_fit, ran_out, smaller_passes
from trainer.precision import Precision
from trainer.state import TrainState, build_state
from trainer.world import World

CPU = torch.device("cpu")
MIB = 1 << 20


def make(**settings: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"labels": 50, "steps": 10, **settings})


class TestAdvice:
    def test_more_shards_keep_the_batch(self) -> None:
        assert advice(make(batch=128, labelled_batch=32, shards=2), "bf16", ranks=1, fitting=20) == (
            "out of memory in a pass of 64 images, of which about 20 fit; set shards: 8 (the same batch)"
        )

    def test_a_batch_that_cannot_be_cut_further_becomes_smaller_with_the_same_share_of_labels(self) -> None:
        assert advice(make(batch=192, labelled_batch=48, shards=16), "bf16", ranks=1, fitting=8) == (
            "out of memory in a pass of 12 images, of which about 6 fit; "
            "set batch: 96 and labelled_batch: 16 (another batch)"
        )

    def test_supervised_it_is_the_labelled_batch(self) -> None:
        changes = smaller_passes(make(method="supervised", batch=24, labelled_batch=24, shards=8), 1, fitting=2)
        assert changes == {"labelled_batch": 16}

    def test_without_exact_a_pass_is_all_that_a_rank_does(self) -> None:
        config = make(batch=128, labelled_batch=32, shards=8, exact=False)
        assert advice(config, "bf16", ranks=2, fitting=20) == (
            "out of memory in a pass of 64 images, of which about 20 fit; set exact: true (the same batch)"
        )
        assert smaller_passes(config, 2, fitting=5) == {"exact": True, "shards": 32}

    @pytest.mark.parametrize("fitting", [2, 3, 5, 8, 13, 31, 64])
    @pytest.mark.parametrize("method", ["mean_teacher", "supervised"])
    def test_whatever_is_told_is_a_config_whose_passes_fit(self, method: str, fitting: int) -> None:
        cases = itertools.product([(128, 32), (96, 24), (48, 16), (320, 64)], [1, 2, 4, 8], [True, False], [1, 2])
        tried = 0
        for (batch, labelled), shards, exact, ranks in cases:
            settings = {"batch": batch, "labelled_batch": labelled, "shards": shards, "exact": exact, "method": method}
            config = make(**settings)
            if ranks > shards or images_per_pass(config, ranks) <= fitting:
                continue
            changed = make(**{**settings, **smaller_passes(config, ranks, fitting)})
            assert 2 <= images_per_pass(changed, ranks) <= fitting, (settings, ranks)
            tried += 1
        assert tried or (method, fitting) == ("supervised", 64)

    @pytest.mark.parametrize("fitting", [0, 1])
    def test_where_not_even_two_fit_it_is_told_what_takes_less_each(self, fitting: int) -> None:
        told = advice(make(model={"name": "resnet50"}), "fp32", ranks=1, fitting=fitting)
        assert told == (
            "out of memory in a pass of 16 images, and not even 2 fit; set model.checkpoint_activations: true, "
            "or set precision: bf16, or set model.name: resnet18, or give it a device with more memory"
        )
        assert advice(make(model={"checkpoint_activations": True}), "bf16", ranks=1, fitting=fitting) == (
            "out of memory in a pass of 16 images, and not even 2 fit; give it a device with more memory"
        )

    def test_at_most_half_of_what_did_not_fit_is_told_to_fit(self) -> None:
        told = advice(make(batch=128, labelled_batch=32, shards=8), "bf16", ranks=1, fitting=500)
        assert "a pass of 16 images, of which about 8 fit; set shards: 16" in told


class TestMeasuring:
    def test_the_difference_of_two_passes_is_what_images_cost(self) -> None:
        # 100 MiB whatever the number, and 10 MiB an image.
        assert images_that_fit(lambda images: (100 + 10 * images) * MIB, lambda: 900 * MIB) == 80

    def test_less_than_two_are_none(self) -> None:
        assert images_that_fit(lambda images: (100 + 10 * images) * MIB, lambda: 119 * MIB) == 0

    @pytest.mark.parametrize(("largest", "fitting"), [(1, 0), (3, 2)])
    def test_a_measurement_may_run_out_itself(self, largest: int, fitting: int) -> None:
        def measure(images: int) -> int:
            if images > largest:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return images

        assert images_that_fit(measure, lambda: 1000) == fitting

    def test_another_error_is_not_taken_for_it(self) -> None:
        assert not ran_out(RuntimeError("shape mismatch"))
        assert ran_out(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"))
        with pytest.raises(ZeroDivisionError):
            images_that_fit(lambda images: 1 // 0, lambda: 1000)


class TestAStepThatRunsOut:
    def state(self, config: TrainingConfig) -> TrainState:
        return build_state(config, config.plan(load_digits(CPU).facts), CPU)

    def run(self, error: RuntimeError, precision: Precision = "fp32") -> None:
        config = make(batch=4096, labelled_batch=1024, shards=1)
        plan, state = config.plan(load_digits(CPU).facts), self.state(config)
        with advised(config, plan, state, precision, World(0, 1, CPU)):
            raise error

    def test_is_told_in_a_sentence_and_as_bad_input(self) -> None:
        with pytest.raises(OutOfMemory, match=r"out of memory in a pass of 4096 images, of which about \d+ fit; set "):
            self.run(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."))
        assert issubclass(OutOfMemory, ConfigError)

    def test_any_other_error_stays_what_it_is(self) -> None:
        with pytest.raises(RuntimeError, match="shape mismatch"):
            self.run(RuntimeError("shape mismatch"))


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is not kept everywhere")
def test_a_run_that_runs_out_ends_with_advice_and_no_traceback(tmp_path: Path) -> None:
    settings = {"batch": 262_144, "labelled_batch": 65_536, "shards": 1, "precision": "fp32"}  # 4 GB after one layer
    with start(tmp_path / "run", TINY | settings, command=(sys.executable, "-c", LIMITED)) as run:
        assert run.wait() == [2], run.stderr()
        told = run.stderr().strip().splitlines()[-1]
        assert "Traceback" not in run.stderr()
    assert told.startswith("trainer: out of memory in a pass of 262144 images, of which about ")
    fitting = int(told.split(" of which about ")[1].split()[0])
    shards = int(told.split("set shards: ")[1].split()[0])
    assert 2 <= 262_144 // shards <= fitting < 20_000  # the first layer alone keeps 16 KiB an image, twice


LIMITED = f"""
import resource, runpy, sys
import torch
free = {1200 * MIB}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + free, used + free))
sys.argv = ["trainer", *sys.argv[1:]]
runpy.run_module("trainer", run_name="__main__")
"""
"""A trainer that can have so much more memory than torch's libraries take."""
