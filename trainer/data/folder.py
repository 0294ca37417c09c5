"""The user's own images: found, looked at once, then read from what was kept of them or from their files."""

import torch

from trainer.config import DatasetFacts, TrainingConfig
from trainer.data.dataset import Array, Dataset, Pixels
from trainer.data.files import FoundImages, ImageFile, find_images
from trainer.data.look import Look, Looked, named_unreadable, refuse_unreadable
from trainer.data.residence import fits_on_device, placed
from trainer.data.shelf import Shelf, data_directory
from trainer.data.sources import FileSource, StreamedPixels


def load_folder(config: TrainingConfig, device: torch.device) -> Dataset:
    """Raises ConfigError when the folders or the images in them are not as they should be."""
    folders = config.folders
    assert folders is not None
    found, px = find_images(folders), folders.image_px
    size_bytes = len(found) * 3 * px * px
    resident = fits_on_device(config.loading, size_bytes, device)
    shelf = Shelf(data_directory(config.data_dir), f"folder-{found.fingerprint}-{px}px")
    look = Look(found, px, resident, config.loading.workers, folders.unreadable)
    remarks = _remarks_on(found)
    looked = look.remembered(shelf)
    if looked is None:
        with shelf.lock() as unwritable:
            looked = look.remembered(shelf)  # another rank may have been quicker
            if looked is None:
                hindrance = unwritable or (shelf.lack_of_room(size_bytes) if resident else None)
                looked = look.now(shelf if hindrance is None else None)
                if hindrance is not None:
                    remarks.append(f"folders: all images are looked at again at every start, since {hindrance}")
    unreadable = looked.about.unreadable
    refuse_unreadable(found, unreadable, folders.unreadable)
    if unreadable:
        remarks.append(f"folders: {named_unreadable(found, unreadable)}; left out, as folders.unreadable says")
    return _dataset(found, looked, px, device, mirrors=folders.mirrors, resident=resident, remarks=remarks)


def _remarks_on(found: FoundImages) -> list[str]:
    if not found.strays:
        return []
    first, count = found.strays[0], len(found.strays)
    return [f"folders: {count} images outside the class directories are not used, such as {first}"]


def _dataset(
    found: FoundImages,
    looked: Looked,
    px: int,
    device: torch.device,
    *,
    mirrors: bool,
    resident: bool,
    remarks: list[str],
) -> Dataset:
    about = looked.about
    train, test = (
        [file for name, file in files.items() if name not in about.unreadable] for files in (found.train, found.test)
    )
    train_classes = torch.tensor([file.label for file in train if file.label >= 0])

    def pixels(files: list[ImageFile], array: Array | None) -> Pixels:
        if array is not None:
            return placed(array, device, resident=resident)
        return StreamedPixels(FileSource([file.path for file in files], px), device)

    return Dataset(
        facts=DatasetFacts(
            train_images=len(train_classes),
            test_images=len(test),
            classes=len(found.class_names),
            image_px=px,
            extra_unlabelled=len(train) - len(train_classes),
            mirrors=mirrors,
        ),
        train=pixels(train, looked.train),
        train_classes=train_classes,
        test=pixels(test, looked.test),
        test_classes=torch.tensor([file.label for file in test]),
        mean=torch.tensor(about.mean),
        std=torch.tensor(about.std),
        class_names=found.class_names,
        fingerprint=about.fingerprint,
        names=tuple(file.name for file in train),
        remarks=tuple(remarks),
    )
