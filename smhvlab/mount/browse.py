"""The folders of a mounted backup: those of the host's volume, and those inside the guests' virtual disks (TR 6.8)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from smhvlab.errors import NotAllowed, NotFound
from smhvlab.mount.mounts import Mount, Mounts
from smhvlab.tables import Tools
from smhvlab.wires.powershell import PowerShellWire, Record

_OWN = ("smhvlab_", "hot_")  # differencing disks that were put beside the images


@dataclass(frozen=True)
class Entry:
    """A file or folder.

    Attributes:
        disk: number of the VM's virtual disk, -1 for the host's volume.
        source: full path under which the host reads it.
        leaf: whether it is a leaf of the checkpoint that the backup was made through, later than the backup.
    """

    disk: int
    name: str
    folder: bool
    size: int
    modified: str
    source: str
    leaf: bool = False


def listing(tools: Tools, mount: str, *, vm: str = "", path: str = "\\") -> list[Entry]:
    """What a folder holds, folders first.

    Raises:
        NotFound: no such mount, VM or folder. NotUnique: several mounts of the backup.
        NotAllowed: the virtual disks are not attached.
    """
    found = Mounts(tools.snapinfo).one(mount)
    inside = (path[2:] if path[1:2] == ":" else path).strip("\\")
    host = tools.nodes[found.host].host
    leaves = () if vm else _leaves(tools, found)
    entries = [
        replace(entry, leaf=entry.source.casefold() in leaves)
        for disk, root in _roots(found, vm)
        for folder in [root + inside]
        if host.run("Test-Path", {"LiteralPath": folder, "PathType": "Container"})[0]
        for entry in _entries(host, disk, folder)
    ]
    if not entries and inside and not _any(host, found, vm, inside):
        raise NotFound(
            f"{found.name} holds no folder \\{inside}" + (f" of {vm}" if vm else ""),
            next_action="Begin at the root: leave path out.",
            tr="6.8/9",
        )
    return sorted(entries, key=lambda entry: (not entry.folder, entry.name.casefold(), entry.disk))


def _leaves(tools: Tools, mount: Mount) -> frozenset[str]:
    """Where the leaves of the backup's checkpoints are in the image, folded."""
    vms = tools.snapinfo.backup(mount.backup).vms
    root = mount.image.access_path
    return frozenset((root + leaf[len(mount.place) :]).casefold() for vm in vms for leaf in vm.leaves.values())


def _any(host: PowerShellWire, mount: Mount, vm: str, inside: str) -> bool:
    return any(bool(host.run("Test-Path", {"LiteralPath": root + inside})[0]) for _, root in _roots(mount, vm))


def _roots(mount: Mount, vm: str) -> list[tuple[int, str]]:
    if not vm:
        return [(-1, mount.image.access_path)]
    if not mount.guests:
        raise NotAllowed(
            f"The virtual disks of {mount.name} are not attached to {mount.host}",
            next_action="Unmount it, and mount the backup with guests=True.",
            tr="6.8",
        )
    roots = [(disk.disk, disk.folder) for disk in mount.guests if disk.vm.casefold() == vm.casefold()]
    if not roots:
        raise NotFound(
            f"{mount.name} has no virtual disk of {vm}",
            next_action=f"It has those of {', '.join(sorted({disk.vm for disk in mount.guests}))}.",
            tr="6.8",
        )
    return roots


def _entries(host: PowerShellWire, disk: int, folder: str) -> list[Entry]:
    where = {"LiteralPath": folder, "Force": True}
    select = ("Name", "FullName", "Length", "LastWriteTime", "Attributes")
    found = []
    for record in host.run("Get-ChildItem", where, select=select):
        name = str(record["Name"])
        if name.casefold() in ("system volume information", "$recycle.bin") or (disk < 0 and name.startswith(_OWN)):
            continue
        found.append(_entry(record, disk, name))
    return found


def _entry(record: Record, disk: int, name: str) -> Entry:
    modified = record["LastWriteTime"]
    folder = "Directory" in str(record["Attributes"])
    return Entry(
        disk,
        name,
        folder,
        0 if folder else int(record["Length"] or 0),
        modified.isoformat(" ", "seconds") if hasattr(modified, "isoformat") else str(modified or ""),
        str(record["FullName"]),
    )
