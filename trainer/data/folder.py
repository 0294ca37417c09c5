"""The user's own images: found, looked at once, then read from what was kept of them or from their files."""

import torch

from trainer.config import DatasetFacts, TrainingConfig
from trainer.data.dataset import Dataset, Pixels
from trainer.data.files import FoundImages, find_images, other_kinds
from trainer.data.image_file import ImageFile
from trainer.data.known import KnownImages
from trainer.data.look import Look, Looked, LookedPart
from trainer.data.residence import fits_on_device, placed
from trainer.data.shelf import data_directory
from trainer.data.sources import FileSource, StreamedPixels
from trainer.data.unreadable import named_unreadable, refuse_unreadable


def load_folder(config: TrainingConfig, device: torch.device) -> Dataset:
    """Raises ConfigError when the folders or the images in them are not as they should be."""
    folders = config.folders
    assert folders is not None
    found, px = find_images(folders), folders.image_px
    size_bytes = len(found) * 3 * px * px
    resident = fits_on_device(config.loading, size_bytes, device)
    known = KnownImages(data_directory(config.data_dir), found, px)
    look = Look(found, px, resident, config.loading.workers, folders.unreadable)
    remarks = _remarks_on(found)
    looked = look.remembered(known)
    if looked is None:
        with known.lock() as unwritable:
            # another rank may have been quicker
            looked = look.remembered(known) or look.recognised(known, writable=unwritable is None)
            hindrance = unwritable
            if looked is None:
                hindrance = unwritable or (known.lack_of_room(size_bytes) if resident else None)
                looked = look.now(known if hindrance is None else None)
            if hindrance is not None:
                remarks.append(f"folders: all images are looked at again at every start, since {hindrance}")
    unreadable = looked.about.unreadable
    refuse_unreadable(found, unreadable, folders.unreadable)
    if unreadable:
        remarks.append(f"folders: {named_unreadable(found, unreadable)}; left out, as folders.unreadable says")
    return _dataset(found, looked, px, device, mirrors=folders.mirrors, resident=resident, remarks=remarks)


def _remarks_on(found: FoundImages) -> list[str]:
    remarks = []
    if found.strays:
        first, count = found.strays[0], len(found.strays)
        remarks.append(f"folders: {count} images outside the class directories are not used, such as {first}")
    if found.others:
        remarks.append(f"folders: {other_kinds(found.others)} are not used, such as {found.others[0]}")
    return remarks


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

    def pixels(files: list[ImageFile], part: LookedPart) -> Pixels:
        if part.pixels is not None:
            return placed(part.pixels, device, resident=resident)
        return StreamedPixels(FileSource(files, part.sha256, px), device)

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
