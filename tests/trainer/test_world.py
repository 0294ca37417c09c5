"""Which device a rank takes, told by its environment alone."""

import re
from pathlib import Path

import pytest
import torch

from tests.trainer.launch import start
from trainer.errors import ConfigError
from trainer.world import join_world

NO_CUDA = {"CUDA_VISIBLE_DEVICES": "", "ELASTIC_REQUIRE_CUDA": "1"}


def test_a_rank_that_was_given_gpus_does_not_train_without(run_dir: Path) -> None:
    """An empty list hides every GPU, so this tells the same on a machine that has some."""
    with start(run_dir, environ=NO_CUDA) as run:
        assert run.wait() == [2]
        (said,) = run.stderr().splitlines()
    assert said.startswith("trainer: this run was given GPUs")
    assert "nvidia-smi" in said
    assert run.lines() == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_it_says_which_gpus_it_was_given() -> None:
    with pytest.raises(ConfigError, match=re.escape("given GPUs (CUDA_VISIBLE_DEVICES: 2,3)")):
        join_world({"CUDA_VISIBLE_DEVICES": "2,3", "ELASTIC_REQUIRE_CUDA": "1"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
@pytest.mark.parametrize("environ", [{}, {"ELASTIC_REQUIRE_CUDA": "0"}])
def test_without_that_a_cpu_will_do(environ: dict[str, str]) -> None:
    assert join_world(environ).device.type == "cpu"
