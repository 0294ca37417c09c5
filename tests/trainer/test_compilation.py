"""`compile: true`: the same bits from killed and resumed runs, and a run all the same where nothing can be compiled."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trainer.launch import TINY, Run, result, resume_from, start
from trainer.compilation import compile_heads
from trainer.config import Model
from trainer.model import build_model
from trainer.network import FlatNetwork
from trainer.trial import blank_images, try_pass

pytestmark = pytest.mark.timeout(900)

CPU = torch.device("cpu")
COMPILED = TINY | {"compile": True, "method": "supervised"}
"""Supervised, as a teacher takes as long again to compile."""
COMPILED_WITHIN_S = 300.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was compiled once is found again by the next run of this module, and by no run outside."""
    return {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path_factory.mktemp("compiled"))}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, cache: dict[str, str]) -> Iterator[Run]:
    """A compiled run from start to end."""
    with start(tmp_path_factory.mktemp("compiled run") / "run", COMPILED, environ=cache) as run:
        run.processes[0].wait(COMPILED_WITHIN_S)
        run.finish()
        yield run


@pytest.mark.requires("g++")
class TestWithACompiler:
    def test_its_cost_is_told_and_the_checkpoint_knows_of_it(self, compiled: Run) -> None:
        (note,) = compiled.notes()
        assert note.startswith("compiled in ")
        assert note.endswith(" s")
        meta = json.loads((compiled.checkpoints()[-1] / "meta.json").read_text())
        assert meta["made_with"]["compiled"]

    def test_killed_and_resumed_it_comes_to_the_same_bits(
        self, compiled: Run, cache: dict[str, str], tmp_path: Path
    ) -> None:
        with start(tmp_path / "killed", COMPILED, environ=cache | {"ELASTIC_CHECKPOINT_EVERY_S": "0"}) as run:
            run.wait_for_checkpoint()
            run.signal(signal.SIGKILL)
            run.wait()
            latest = run.checkpoints()[-1]
        with start(resume_from(latest, tmp_path / "resumed"), COMPILED, environ=cache) as run:
            run.finish()
            assert result(run)["digest"] == result(compiled)["digest"]
            assert all(note.startswith("compiled in ") for note in run.notes())

    def test_two_ranks_come_to_the_same_bits_as_one(self, compiled: Run, cache: dict[str, str], tmp_path: Path) -> None:
        with start(tmp_path / "two", COMPILED, ranks=2, environ=cache) as run:
            run.finish()
            assert result(run)["digest"] == result(compiled)["digest"]


def test_without_a_compiler_it_trains_all_the_same_and_says_why(undisturbed: Run, tmp_path: Path) -> None:
    hidden = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "empty")}
    with start(tmp_path / "run", TINY | {"compile": True}, environ=hidden) as run:
        run.finish()
        (note,) = run.notes()
        assert note.startswith("compile: not compiled, training goes on without (")
        assert "compiler" in note
        meta = json.loads((run.checkpoints()[-1] / "meta.json").read_text())
        assert not meta["made_with"]["compiled"]
        ours, theirs = (torch.load(r.checkpoints()[-1] / "teacher.pt") for r in (run, undisturbed))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_trial_leaves_everything_as_it_was() -> None:
    network = FlatNetwork(build_model(Model(), 10, 8, seed=0), CPU)
    gradients = torch.ones_like(network.weights)
    network.collect_gradients_in(gradients)
    network.batch_statistics.fill_(3)
    weights = network.weights.clone()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)

    def heads(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        torch.rand(1)
        return network.model.heads(images)

    try_pass(network, heads, blank_images(network, 4, 8), "bf16")
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(network.batch_statistics, torch.full_like(network.batch_statistics, 3))
    assert torch.equal(gradients, torch.ones_like(gradients))
    assert torch.equal(network.weights, weights)


def test_out_of_memory_while_compiling_is_no_matter_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    network = FlatNetwork(build_model(Model(), 10, 8, seed=0), CPU)

    def too_large(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", too_large)
    with pytest.raises(torch.OutOfMemoryError):
        compile_heads(network, blank_images(network, 4, 8), "fp32", exact=True)
