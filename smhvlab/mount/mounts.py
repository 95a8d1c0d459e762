"""Which backups are mounted: a document in SnapInfo for each, so that every console and retention know of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import msgspec

from smhvlab.errors import NotFound, NotUnique
from smhvlab.mount.guestdisks import GuestDisk
from smhvlab.mount.image import Image
from smhvlab.snapinfo import SnapInfo

PART = "Mounts"


@dataclass(frozen=True)
class Mount:
    """A backup that is mounted.

    Attributes:
        name: ``mount_MM-dd-yyyy_HH.mm.ss`` and a part of its own.
        recovered: whether the image is the recovered one (TR 6.8/2).
        host: where it is mounted.
        place: where the host had the LUN at the time of the backup.
        guests: virtual disks of it that are attached to the host as well.
    """

    name: str
    backup: str
    dataset: str
    time: str
    host: str
    recovered: bool
    image: Image
    place: str
    guests: tuple[GuestDisk, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.backup} at {self.image.access_path}"


class Mounts:
    """The mounts that SnapInfo knows of."""

    def __init__(self, snapinfo: SnapInfo) -> None:
        self._snapinfo = snapinfo

    def all(self) -> list[Mount]:
        """Every mount, oldest first."""
        return sorted(self._read()[0].values(), key=lambda mount: (mount.time, mount.name))

    def damaged(self) -> dict[str, str]:
        """Files of mounts that cannot be read, with the reason."""
        return self._read()[1]

    def _read(self) -> tuple[dict[str, Mount], dict[str, str]]:
        paths = [path for path in self._snapinfo.files(PART) if path.endswith(".json")]
        return self._snapinfo.read_sound(paths, "//", partial(msgspec.json.decode, type=Mount))

    def one(self, wanted: str) -> Mount:
        """The mount of a name, an access path, or a backup that is mounted once. Raises NotFound, NotUnique."""
        mounts = self.all()
        key = wanted.rstrip("\\").casefold()
        for mount in mounts:
            if key in (mount.name.casefold(), mount.image.access_path.rstrip("\\").casefold()):
                return mount
        matches = [mount for mount in mounts if mount.backup.casefold() == key]
        if len(matches) == 1:
            return matches[0]
        listed = ", ".join(str(mount) for mount in matches or mounts)
        if matches:
            raise NotUnique(f"{wanted} is mounted {len(matches)} times", next_action=f"Name one: {listed}.", tr="6.8")
        raise NotFound(
            f"Nothing is mounted as {wanted!r}",
            next_action=f"Mounted now: {listed}."
            if listed
            else "Nothing is mounted now: mount a backup first, site.mount(BACKUP).",
            tr="6.8",
        )

    def ensure(self, mount: Mount) -> None:
        """The mount is written down."""
        if not self._exists(f"{mount.name}.json"):
            text = msgspec.json.format(msgspec.json.encode(mount), indent=1).decode()
            self._snapinfo.write_new(f"{self._snapinfo.folder()}\\{PART}", f"{mount.name}.json", text, "//")

    def discard(self, name: str) -> None:
        """The mount is not written down any more."""
        for leaf in (f"{name}.json", f"{name}.json.new"):
            if self._exists(leaf):
                path = f"{self._snapinfo.folder()}\\{PART}\\{leaf}"
                self._snapinfo.host.run("Remove-Item", {"LiteralPath": path, "Force": True})

    def _exists(self, leaf: str) -> bool:
        path = f"{self._snapinfo.folder()}\\{PART}\\{leaf}"
        return bool(self._snapinfo.host.run("Test-Path", {"LiteralPath": path})[0])
