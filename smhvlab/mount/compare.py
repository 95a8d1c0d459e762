"""Two mounted copies of one VM, file by file: what a backup's kind means for the bytes of its guest (TR 6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from smhvlab.errors import NotAllowed, NotFound
from smhvlab.mount.mounts import Mount, Mounts
from smhvlab.tables import Tools
from smhvlab.wires.powershell import PowerShellWire

_HOT: Final = bytes.fromhex("d9d505f920a163d7")
"""How a rollback journal begins that still has to be played back; one that is at rest begins with zeros."""

_JOURNALS: Final = (".ldf", "-journal")
_AREA: Final = "{3808876b-c176-4e48-b7ae-04046e6cc752}"
"""Ends the names of the files in which a guest's own shadow copies keep what was overwritten."""


class Verdict(StrEnum):
    """How a file of two copies compares."""

    SAME = "same"
    DIFFERS = "differs"
    LEFT = "only left"
    RIGHT = "only right"


@dataclass(frozen=True)
class GuestFile:
    """A file of one copy; ``digest`` is its SHA-256, ``hot`` a journal that still has to be played back."""

    size: int
    digest: str
    hot: bool = False


@dataclass(frozen=True)
class Pair:
    """A file of the guest in both copies; ``disk`` counts the VM's virtual disks from 0."""

    disk: int
    path: str
    left: GuestFile | None
    right: GuestFile | None

    @property
    def verdict(self) -> Verdict:
        """How it compares."""
        if self.left is None or self.right is None:
            return Verdict.RIGHT if self.left is None else Verdict.LEFT
        return Verdict.SAME if self.left.digest == self.right.digest else Verdict.DIFFERS

    @property
    def area(self) -> bool:
        """Whether it is the difference area of a shadow copy that the guest made for a backup."""
        return self.path.casefold().endswith(_AREA)


@dataclass(frozen=True)
class Copy:
    """One of the two: which backup, which of its Snapshot copies, where it is mounted."""

    mount: str
    backup: str
    registered_as: str
    snapshot: str
    image: str
    recovered: bool

    @property
    def state(self) -> str:
        """What the image holds."""
        if self.recovered:
            return "recovered: the guest's own writers were quiesced"
        return "not recovered: as after a loss of power"


@dataclass(frozen=True)
class Comparison:
    """Two copies of one VM. ``pairs``: every file of either, by disk and path."""

    vm: str
    left: Copy
    right: Copy
    pairs: tuple[Pair, ...]

    def of(self, verdict: Verdict) -> tuple[Pair, ...]:
        """The files of a verdict."""
        return tuple(pair for pair in self.pairs if pair.verdict is verdict)

    def hot(self, side: str) -> tuple[str, ...]:
        """Paths of the journals that have to be played back on the ``left`` or the ``right``."""
        found: list[str] = []
        for pair in self.pairs:
            file: GuestFile | None = getattr(pair, side)
            if file is not None and file.hot:
                found.append(pair.path)
        return tuple(found)


def compare(tools: Tools, left: str, right: str, vm: str) -> Comparison:
    """Hash every file of a VM in two mounts; reads only.

    Args:
        left, right: names or paths of mounts that were made with ``guests=True``.

    Raises:
        NotFound: no such mount, or it holds no virtual disk of the VM. NotUnique: several mounts of the backup.
        NotAllowed: the virtual disks of a mount are not attached.
    """
    mounts = Mounts(tools.snapinfo)
    one, other = mounts.one(left), mounts.one(right)
    first, second = _files(tools, one, vm), _files(tools, other, vm)
    keys = sorted({*first, *second}, key=lambda key: (key[0], key[1].casefold()))
    pairs = tuple(Pair(disk, path, first.get((disk, path)), second.get((disk, path))) for disk, path in keys)
    return Comparison(vm, _copy(tools, one), _copy(tools, other), pairs)


def _copy(tools: Tools, mount: Mount) -> Copy:
    backup = tools.snapinfo.backup(mount.backup)
    image = mount.image
    return Copy(mount.name, backup.name, backup.registered_as, image.snapshot, image.path, mount.recovered)


def _files(tools: Tools, mount: Mount, vm: str) -> Mapping[tuple[int, str], GuestFile]:
    host = tools.nodes[mount.host].host
    if not mount.guests:
        raise NotAllowed(
            f"The virtual disks of {mount.name} are not attached to {mount.host}",
            next_action="Unmount it, and mount the backup with guests=True.",
            tr="6.8",
        )
    disks = [disk for disk in mount.guests if disk.vm.casefold() == vm.casefold()]
    if not disks:
        raise NotFound(
            f"{mount.name} has no virtual disk of {vm}",
            next_action=f"It has those of {', '.join(sorted({disk.vm for disk in mount.guests}))}.",
            tr="6.8",
        )
    found: dict[tuple[int, str], GuestFile] = {}
    for disk in disks:
        count = 1
        while bool(host.run("Test-Path", {"LiteralPath": disk.place(count)})[0]):
            for inside, file in _of_volume(host, disk.place(count)).items():
                found[disk.disk, inside] = file
            count += 1
    return found


def _of_volume(host: PowerShellWire, root: str) -> dict[str, GuestFile]:
    """Every file of a volume by its path inside, Windows' own bookkeeping too: shadow copies are kept there."""
    where = {"LiteralPath": root, "Recurse": True, "File": True, "Force": True}
    listed = host.run("Get-ChildItem", where, select=("FullName", "Length"))
    sizes = {str(record["FullName"]): int(record["Length"]) for record in listed}
    if not sizes:
        return {}
    hashes = host.run("Get-FileHash", {"LiteralPath": sorted(sizes)}, select=("Path", "Hash"))
    digests = {str(record["Path"]): str(record["Hash"]).lower() for record in hashes}
    return {
        "\\" + path[len(root) :].lstrip("\\"): GuestFile(size, digests[path], _is_hot(host, path))
        for path, size in sizes.items()
    }


def _is_hot(host: PowerShellWire, path: str) -> bool:
    if not path.casefold().endswith(_JOURNALS):
        return False
    head = host.run("Get-Content", {"LiteralPath": path, "Encoding": "Byte", "TotalCount": len(_HOT)})
    return bytes(int(byte) for byte in head) == _HOT
