"""Out of memory: one sentence that names the setting to change and the value that fits.

What an image costs is measured when it is too late, by passes of 2 and of 4 images: the difference is two images, the
rest is there whatever their number.
"""

import resource
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import Tensor

from trainer.allocator import give_back
from trainer.config import Plan, TrainingConfig
from trainer.errors import OutOfMemory
from trainer.peak_memory import peak_bytes
from trainer.precision import Precision
from trainer.state import TrainState
from trainer.trial import blank_images, try_pass
from trainer.world import World

MOST_SHARDS = 1024
USABLE = {"cuda": 0.9, "cpu": 0.5}
"""Share of the free memory to count on: blocks leave gaps, and on a CPU the kernels' scratch space is not measured."""

_SAYINGS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS)


@contextmanager
def advised(
    config: TrainingConfig, plan: Plan, state: TrainState, precision: Precision, world: World
) -> Iterator[None]:
    """Turn running out of memory into OutOfMemory with advice; the state is of no use then."""
    try:
        yield
        return
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        # What did not fit is still referred to by the functions that failed, and would be in the way of measuring.
        traceback.clear_frames(error.__traceback__)

    def measure(images: int) -> int:
        return peak_bytes(lambda: _pass_of(images, plan.image_px, state, precision), world.device)

    fitting = images_that_fit(measure, lambda: available_bytes(world.device))
    raise OutOfMemory(advice(config, precision, world.size, fitting))


def images_that_fit(measure: Callable[[int], int], available: Callable[[], int]) -> int:
    """How many images a pass can have: 0 when not even 2.

    measure: the peak memory of a pass of so many images; it may raise what `ran_out` knows.
    """
    peaks: list[int] = []
    for images in (2, 4):
        try:
            peaks.append(measure(images))
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            return 2 * len(peaks)
    each = max(1, (peaks[1] - peaks[0]) // 2)
    fixed = max(0, peaks[0] - 2 * each)
    fitting = (available() - fixed) // each
    return fitting if fitting >= 2 else 0


def available_bytes(device: torch.device) -> int:
    """Memory that this process can still have and use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
    else:
        give_back()
        free = psutil.virtual_memory().available
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, limit - psutil.Process().memory_info().vms)
    return int(USABLE[device.type] * free)


def advice(config: TrainingConfig, precision: Precision, ranks: int, fitting: int) -> str:
    """The sentence, when at most `fitting` images fit into a pass."""
    images = images_per_pass(config, ranks)
    fitting = min(fitting, images // 2)  # so many did not, whatever was measured
    if fitting < 2:
        remedies = _remedies(config, precision)
        return f"out of memory in a pass of {images} images, and not even 2 fit; {', or '.join(remedies)}"
    changes = smaller_passes(config, ranks, fitting)
    settings = " and ".join(f"{name}: {str(value).lower()}" for name, value in changes.items())
    kept = "another batch" if changes.keys() & {"batch", "labelled_batch"} else "the same batch"
    return f"out of memory in a pass of {images} images, of which about {fitting} fit; set {settings} ({kept})"


def images_per_pass(config: TrainingConfig, ranks: int) -> int:
    """How many images go through a network at once."""
    return config.images_per_step // (config.shards if config.exact else ranks)


def smaller_passes(config: TrainingConfig, ranks: int, fitting: int) -> dict[str, int | bool]:
    """Which settings to change, and to what, so that a pass has at most `fitting` images: of the same batch if it can.

    With `exact: false` a pass is all that a rank does, so more shards change nothing; with `exact` it is one of them.
    """
    exact: dict[str, int | bool] = {} if config.exact else {"exact": True}
    shards = _shards_for(config, fitting)
    if shards == config.shards:
        return exact
    if shards is not None:
        return exact | {"shards": shards}
    images = 0 if config.exact else fitting * ranks // config.shards * config.shards
    if images >= 2 * config.shards:
        return _batch_of(config, images)
    return exact | _batch_of(config, fitting * config.shards)


def _shards_for(config: TrainingConfig, fitting: int) -> int | None:
    """The fewest shards of which each fits, for the same batch; None where it cannot be cut so."""
    shards = config.shards
    while shards <= MOST_SHARDS and not config.batch % shards and not config.labelled_batch % shards:
        if 2 <= config.images_per_step // shards <= fitting:
            return shards
        shards *= 2
    return None


def _batch_of(config: TrainingConfig, images: int) -> dict[str, int | bool]:
    """A batch of so many images, with about the same share of labelled ones."""
    if config.method == "supervised":
        return {"labelled_batch": images}
    labelled = config.labelled_batch * images // config.batch // config.shards * config.shards
    return {"batch": images, "labelled_batch": max(config.shards, labelled)}


def _remedies(config: TrainingConfig, precision: Precision) -> list[str]:
    remedies = []
    if not config.model.checkpoint_activations:
        remedies.append("set model.checkpoint_activations: true")
    if precision == "fp32":
        remedies.append("set precision: bf16")
    if config.dataset == "folder":
        remedies.append("set folders.image_px to less")
    if config.model.name != "resnet18":
        remedies.append("set model.name: resnet18")
    return [*remedies, "give it a device with more memory"]


def _pass_of(images: int, image_px: int, state: TrainState, precision: Precision) -> None:
    """What a step does with so many images, so far as memory goes: the teacher's pass comes between the student's."""

    def both(views: Tensor) -> tuple[Tensor, Tensor]:
        result = state.student.model.heads(views)
        if state.teacher is not None:
            with torch.no_grad():
                state.teacher.model.heads(views)
        return result

    try_pass(state.student, both, blank_images(state.student, images, image_px), precision)
