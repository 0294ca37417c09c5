"""What is kept of the user's own images, by their content; later starts find it by the stamps of their files.

For images of the same names and sizes there is a directory:

    lock             held by the one who looks at such images
    at-<stamps>      the content that files of these stamps have, so that they need not be read
    <content>/       a shelf: what was found out and decoded of images with this content
    new/             such a shelf that is being filled
"""

import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from trainer.data.files import FoundImages
from trainer.data.shelf import Shelf, shelf_named

_CONTENT = re.compile(r"content-[0-9a-f]{16}")


class KnownImages:
    """A place on disk for images of the same names and sizes, whatever they show."""

    def __init__(self, data_dir: Path, found: FoundImages, px: int) -> None:
        self._shelf = shelf_named(data_dir, f"images-{found.outline}-{px}px")
        self.directory = self._shelf.directory
        self._record = f"at-{found.stamps}"

    def lock(self) -> AbstractContextManager[str | None]:
        """As that of a shelf."""
        return self._shelf.lock()

    def lack_of_room(self, size_bytes: int) -> str | None:
        """As that of a shelf."""
        return self._shelf.lack_of_room(size_bytes)

    def content(self) -> str | None:
        """What files with these stamps were found to hold; None when they were never read."""
        try:
            content = (self.directory / self._record).read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
        return content if _CONTENT.fullmatch(content) else None

    def has_any(self) -> bool:
        """Whether any images of these names and sizes were looked at before."""
        return any(self.directory.glob("content-*/about.json"))

    def of(self, content: str) -> Shelf:
        """The shelf of one content."""
        return Shelf(self.directory / content)

    def begin(self) -> Shelf:
        """An empty shelf, to be filled; raises OSError."""
        self.abandon()
        new = self._new()
        new.directory.mkdir()
        return new

    def abandon(self) -> None:
        """Remove the shelf that was begun."""
        shutil.rmtree(self._new().directory, ignore_errors=True)

    def settle(self, content: str) -> None:
        """The shelf that was begun is whole, and that of this content; raises OSError."""
        place = self.of(content).directory
        shutil.rmtree(place, ignore_errors=True)
        self._new().directory.rename(place)
        self.remember(content)

    def remember(self, content: str) -> None:
        """Files with these stamps hold this content; raises OSError."""
        with self._shelf.appearing(self._record) as file:
            file.write(content.encode("ascii"))

    def _new(self) -> Shelf:
        return Shelf(self.directory / "new")
