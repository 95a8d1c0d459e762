"""Copying a file on a host: it grows under a name of its own, and gets the wanted one when it is whole (TR 6.8)."""

from __future__ import annotations

from collections.abc import Callable

from smhvlab.errors import NameTaken, NotFound
from smhvlab.mount.vhdimage import VirtualDisks, copy_seconds
from smhvlab.wires.powershell import PowerShellWire


class FileCopies:
    """Copies of files on one host. ``partial`` is always a name that nobody but the run which copies can use.

    So a ``partial`` that is gone was renamed: only then is the file that has the wanted name the run's own.
    """

    def __init__(self, host: PowerShellWire, *, tr: str) -> None:
        self.host = host
        self.files = VirtualDisks(host)
        self.tr = tr

    def ensure_whole(
        self, source: str, partial: str, *, size: int, on_percent: Callable[[int], None] | None = None
    ) -> None:
        """A copy of a file of so many bytes is there under its first name. Raises NotFound: it is not complete."""
        self.files.discard_file(partial)  # of an interrupted try: Windows may give it its full length first
        what = {"LiteralPath": source, "Destination": partial, "Force": True}
        self.host.run("Copy-Item", what, timeout=copy_seconds(size), on_percent=on_percent)
        if self.files.length(partial) != size:
            raise NotFound(
                f"The copy {partial} is not complete",
                next_action="Look for space on its disk, then try again.",
                tr=self.tr,
            )

    def ensure_named(self, partial: str, path: str, *, size: int) -> None:
        """A copy that is whole has the wanted name.

        Raises:
            NameTaken: somebody else's file has it by now. NotFound: the copy is gone.
        """
        if self.files.length(partial) is None:
            if self.files.length(path) == size:
                return  # an earlier try got through
            raise NotFound(f"The copy {partial} is gone", next_action="Copy the file again.", tr=self.tr)
        if self.host.run("Test-Path", {"LiteralPath": path})[0]:
            raise NameTaken(
                f"{path} has come into being during the copy",
                next_action="Name another file: what is there is not this copy.",
                tr=self.tr,
            )
        self.host.run("Rename-Item", {"LiteralPath": partial, "NewName": path.rpartition("\\")[2]})

    def discard_named(self, partial: str, path: str, *, size: int) -> None:
        """The file is gone if it is the copy: what has the name while the copy still has its first one is not."""
        if self.files.length(partial) is None and self.files.length(path) == size:
            self.files.discard_file(path)
