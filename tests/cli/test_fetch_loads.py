"""The lines that `elastic fetch` prints load what a real training run has left."""

import hashlib
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.bucket import submit_job
from orchestrator.jobs.head import Manifest, ManifestFile, commit, seal
from orchestrator.spec.load import load_job
from orchestrator.store.protocol import Store
from tests.cli.conftest import ElasticProcess
from tests.cli.stored_jobs import NOW
from tests.support.specs import trained
from tests.trainer.launch import start

TRY_IT = """
import torchvision.models.resnet
assert type(model) is torchvision.models.resnet.ResNet and not model.training
with torch.no_grad():
    logits = model(torch.rand(4, 3, 8, 8))
assert logits.shape == (4, 10) and logits.isfinite().all(), logits
assert float(model.bn1.running_mean.abs().sum()) > 0, "statistics of a network that has seen nothing"
"""

_numbers = count()


def nonce() -> str:
    return f"{next(_numbers):032d}"


def train_and_commit(store: Store, directory: Path, *changes: str) -> None:
    """A job of two steps, trained by the real trainer and committed as an agent does."""
    job = "name: digits\ntraining: {steps: 2, batch: 8, labelled_batch: 4, shards: 2}\n"
    spec = load_job(job, [f"training.{change}" for change in changes])
    submit_job(store, spec, NOW, nonce)
    with start(directory, trained(spec).model_dump(mode="json", exclude_none=True)) as run:
        run.finish()
        (final,) = run.checkpoints()
    prefix = layout.checkpoint_prefix("digits", 2, 1)
    files = []
    for path in sorted(final.iterdir()):
        store.upload(path, prefix + path.name)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(ManifestFile(name=path.name, size_bytes=path.stat().st_size, sha256=digest))
    manifest = Manifest(step=2, generation=1, final=True, files=tuple(files))
    store.create(layout.manifest_key(prefix), manifest.model_dump_json().encode())
    seal(store, "digits", 1, 1, nonce)
    commit(store, "digits", 1, manifest, nonce)


@pytest.mark.parametrize(
    ("changes", "model"),
    [
        ((), "teacher"),
        (("method=supervised", "model.stem=imagenet", "optimizer.lr=0.001"), "student"),
        (("consistency.second_head=true", "model.name=resnet34"), "teacher"),
    ],
    ids=["teacher, small images", "student, large images", "two heads"],
)
def test_the_lines_load_the_model_into_torchvisions_network(
    elastic_process: ElasticProcess, store: Store, tmp_path: Path, changes: tuple[str, ...], model: str
) -> None:
    train_and_commit(store, tmp_path / "run", *changes)
    folder = tmp_path / "it's \\ a folder"
    fetched = elastic_process("fetch", "digits", str(folder))
    assert fetched.returncode == 0, fetched.stderr
    assert f"The {model} (final). To load it:" in fetched.stderr
    lines = [line.strip() for line in fetched.stderr.split("To load it:")[1].splitlines() if line.strip()]
    assert any("weights_only=True" in line for line in lines)
    loaded = subprocess.run(
        [sys.executable, "-c", "\n".join(lines) + TRY_IT],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
