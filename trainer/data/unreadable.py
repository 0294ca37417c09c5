"""Files that cannot be read as images: when that is too much, and how they are named."""

from typing import Literal

from trainer.data.files import NAMED_AT_MOST, FoundImages, listed
from trainer.errors import ConfigError, first_few

IfUnreadable = Literal["fail", "skip"]


def refuse_unreadable(found: FoundImages, unreadable: dict[str, str], if_unreadable: IfUnreadable) -> None:
    """Raise ConfigError where unreadable files are not to be left out, or a class has no others."""
    if unreadable and if_unreadable == "fail":
        raise ConfigError(
            f"folders: {named_unreadable(found, unreadable)}; mend or remove them, or set folders.unreadable: skip"
        )
    extra = [name for name, file in found.train.items() if file.label < 0]
    if extra and all(name in unreadable for name in extra):
        raise ConfigError(f"folders.unlabelled: no image can be read; {named_unreadable(found, unreadable)}")
    for field, files in (("folders.labelled", found.train), ("folders.test", found.test)):
        left = {file.label for name, file in files.items() if name not in unreadable}
        empty = [name for label, name in enumerate(found.class_names) if label not in left]
        if empty:
            raise ConfigError(
                f"{field}: no image can be read of {listed(empty)}; {named_unreadable(found, unreadable)}"
            )


def named_unreadable(found: FoundImages, unreadable: dict[str, str]) -> str:
    """How many files cannot be read, the first few by name and why."""
    first = first_few([f"{name} ({reason})" for name, reason in unreadable.items()], NAMED_AT_MOST)
    return f"{len(unreadable)} of {len(found)} images cannot be read: {first}"
