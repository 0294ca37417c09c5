"""Where a run goes on from: the checkpoint laid into `resume/`, or a later one that a run in its directory has left."""

from pathlib import Path

from trainer.checkpoint import checkpoints_in, read_meta
from trainer.errors import CheckpointRefused


def starting_point(run_dir: Path) -> Path | None:
    """The checkpoint to go on from; None: the run begins. Raises CheckpointRefused."""
    resume, left = run_dir / "resume", checkpoints_in(run_dir / "checkpoints")
    newest = max(left, default=None)
    if not resume.exists():
        if resume.is_symlink():
            raise CheckpointRefused(f"{resume}: a link to nothing; let it lead to a checkpoint, or remove it")
        return None if newest is None else left[newest]
    return resume if newest is None or newest <= read_meta(resume).step else left[newest]
