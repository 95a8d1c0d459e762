"""SnapDrive's part: LUNs as disks of a Hyper-V host - find, bring online, mount, disconnect (TR 2.2, 5.1, 6.8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from smhvlab.errors import NotAllowed, NotFound
from smhvlab.storage import LunRef, Storage
from smhvlab.wires.powershell import Output, PowerShellWire, Record, Running
from smhvlab.wires.wave import collect

BASIC_DATA = "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"
"""GPT type of an ordinary partition; a disk also has a small reserved one that is never mounted."""

_DISK_FIELDS = ("Number", "UniqueId", "Guid", "Signature", "PartitionStyle", "IsOffline", "IsBoot")
_FLAGS = ("IsHidden", "IsReadOnly", "IsShadowCopy", "NoDefaultDriveLetter")
_PARTITION = ("DiskNumber", "PartitionNumber", "GptType", "AccessPaths", *_FLAGS)
_ATTEMPTS = 12  # rescans of five seconds until a mapped LUN must have arrived


@dataclass(frozen=True)
class HostDisk:
    """A disk of a host.

    Attributes:
        number: the host's disk number; changes when disks come and go.
        unique_id: identity of the LUN behind it.
        guid: GPT disk GUID, or the signature of an MBR disk (``0x0123ABCD``); "" for a raw one.
        access_paths: where its data partition is mounted (drive letters and folders, each with a final backslash).
        volume_path: ``\\\\?\\Volume{...}\\`` of its data partition, "" while it has none.
        partition: number of its data partition, 0 while it has none.
        host: the host that shows it so; the other nodes of a cluster show it offline.
        shadow: whether its data partition carries a shadow copy's attributes (hidden, read-only, shadow copy).
        boot: whether the host has started from it.
    """

    number: int
    unique_id: str
    guid: str
    style: str
    offline: bool
    access_paths: tuple[str, ...] = ()
    volume_path: str = ""
    partition: int = 0
    host: str = ""
    shadow: bool = False
    boot: bool = False


class SnapDrive:
    """LUNs of the array as disks of one host."""

    def __init__(self, host: PowerShellWire, storage: Storage, *, initiator: str | None = None) -> None:
        self.host = host
        self.storage = storage
        self._initiator = initiator

    # --- reading

    def initiator(self) -> str:
        """The host's iSCSI qualified name. Raises NotFound."""
        if self._initiator is None:
            ports = self.host.run("Get-InitiatorPort", select=("NodeAddress", "ConnectionType"))
            names = [str(p["NodeAddress"]) for p in ports if str(p["NodeAddress"]).startswith("iqn.")]
            if not names:
                raise NotFound(
                    "The host has no iSCSI initiator",
                    next_action="Start the service MSiSCSI on the host and log in to the SVM's iSCSI portals.",
                    tr="2.2",
                )
            self._initiator = names[0]
        return self._initiator

    def disks(self) -> list[HostDisk]:
        """All disks of the host with their data partition; two requests whatever their number."""
        return self.read_disks(*collect(self.begin_disks()))

    def begin_disks(self) -> Iterator[Running]:
        """Start what ``disks`` asks, for a wave over several hosts; ``read_disks`` understands the two answers."""
        yield self.host.begin("Get-Disk", select=_DISK_FIELDS)
        yield self.host.begin("Get-Partition", select=_PARTITION)

    def read_disks(self, found: Output, partitions: Output) -> list[HostDisk]:
        """The disks that ``begin_disks`` asked for."""
        by_disk: dict[int, list[Record]] = {}
        for partition in partitions:
            by_disk.setdefault(int(partition["DiskNumber"]), []).append(partition)
        name = self.host.endpoint.name
        return [_disk(record, by_disk.get(int(record["Number"]), []), host=name) for record in found]

    def disk(self, unique_id: str) -> HostDisk | None:
        """The disk of an identity, or None if the host does not see it."""
        for disk in self.disks():
            if disk.unique_id == unique_id:
                return disk
        return None

    def folder_disk(self, path: str, disks: Sequence[HostDisk]) -> HostDisk | None:
        """The disk on which a path lies: the longest mounted access path wins. None: not on any of them."""
        matches = [
            (len(access), disk)
            for disk in disks
            for access in disk.access_paths
            if path.casefold().startswith(access.casefold())
        ]
        return max(matches, key=lambda match: match[0])[1] if matches else None

    # --- changing

    def ensure_connected(self, lun: LunRef, *, igroup: str, access_path: str) -> HostDisk:
        """The LUN is mapped, its disk online and writable, and its data partition mounted at the path.

        Raises:
            NotFound: the disk does not arrive on the host, or holds no data partition.
            NotAllowed: the path is taken by another disk.
        """
        self.storage.ensure_map(lun, igroup)
        disk = self.ensure_online(self.arrived(lun))
        if not disk.partition:
            raise NotFound(
                f"The LUN {lun} has no data partition to mount at {access_path}",
                why=f"the host shows its disk {disk.number} as {disk.style}",
                next_action="If it should hold data, let the host read its partition table again (Update-Disk -Number "
                f"{disk.number}) and look at the LUN; format it only if it is new and empty.",
                tr="2.2",
            )
        self.ensure_mounted(disk, access_path)
        return disk

    def arrived(self, lun: LunRef) -> HostDisk:
        """The disk of a mapped LUN; rescans until it is there. Raises NotFound after a minute of host time."""
        for attempt in range(_ATTEMPTS):
            self.host.run("Update-HostStorageCache", {})
            disk = self.disk(lun.unique_id)
            if disk is not None:
                return disk
            if attempt + 1 < _ATTEMPTS:
                self.host.sleep(5)
        raise NotFound(
            f"The disk of {lun} did not arrive on the host",
            next_action="Check the LUN map, the host's iSCSI sessions and the LIFs of the SVM.",
            tr="5.1",
        )

    def ensure_online(self, disk: HostDisk) -> HostDisk:
        """The disk is online and writable, its data partition no longer marked as a shadow copy's (TR 6.2).

        Returns what the host then shows of it.
        """
        if disk.offline:
            self.host.run("Set-Disk", {"Number": disk.number, "IsOffline": False})
        self.host.run("Set-Disk", {"Number": disk.number, "IsReadOnly": False})
        again = self.disk(disk.unique_id)
        if again is not None and self.clear_shadow(again):
            again = self.disk(disk.unique_id)
        if again is None or again.offline:
            raise NotFound(
                f"Disk {disk.number} ({disk.unique_id}) did not come online",
                next_action="Read OfflineReason in Get-Disk on the host.",
                tr="5.1",
            )
        return again

    def clear_shadow(self, disk: HostDisk) -> bool:
        """The data partition is an ordinary one, not marked as a shadow copy's; returns whether it was (TR 6.2)."""
        if disk.shadow and disk.partition:
            place = {"DiskNumber": disk.number, "PartitionNumber": disk.partition}
            self.host.run("Set-Partition", {**place, **dict.fromkeys(_FLAGS, False)})
            return True
        return False

    def ensure_offline(self, unique_id: str) -> None:
        """The host no longer uses the disk of an identity; a disk that is not there is fine."""
        disk = self.disk(unique_id)
        if disk is not None and not disk.offline:
            self.host.run("Set-Disk", {"Number": disk.number, "IsOffline": True})

    def ensure_mounted(self, disk: HostDisk, access_path: str) -> None:
        """The disk's data partition is reachable at a drive letter or an empty folder (made if need be)."""
        if access_path.casefold() in {path.casefold() for path in disk.access_paths}:
            return
        for other in self.disks():
            if access_path.casefold() in {path.casefold() for path in other.access_paths}:
                raise NotAllowed(
                    f"{access_path} already is the mount point of disk {other.number}",
                    next_action="Choose another drive letter or folder.",
                    tr="6.8",
                )
        if len(access_path) > 3:
            self.host.run("New-Item", {"Path": access_path, "ItemType": "Directory", "Force": True})
        self.host.run(
            "Add-PartitionAccessPath",
            {"DiskNumber": disk.number, "PartitionNumber": disk.partition, "AccessPath": access_path},
        )

    def discard_letters(self, disk: HostDisk, access_path: str) -> None:
        """A disk that is mounted at a folder has no drive letter, which Windows gives to what comes online."""
        for path in disk.access_paths:
            if len(path) == len("C:\\") < len(access_path):
                self.host.run(
                    "Remove-PartitionAccessPath",
                    {"DiskNumber": disk.number, "PartitionNumber": disk.partition, "AccessPath": path},
                )

    def discard_connection(self, lun: LunRef | None, *, igroup: str, access_path: str) -> None:
        """The LUN is unmounted, offline and unmapped, and the host has forgotten its disk. None: only the folder."""
        free = False
        if lun is not None:
            disk = self.disk(lun.unique_id)
            if disk is not None:
                if access_path.casefold() in {path.casefold() for path in disk.access_paths}:
                    self.host.run(
                        "Remove-PartitionAccessPath",
                        {"DiskNumber": disk.number, "PartitionNumber": disk.partition, "AccessPath": access_path},
                    )
                    free = True
                if not disk.offline:
                    self.host.run("Set-Disk", {"Number": disk.number, "IsOffline": True})
            self.storage.discard_map(lun.uuid, igroup)
            self.host.run("Update-HostStorageCache", {})
        if len(access_path) <= 3 or not (free or self._is_free(access_path)):
            return
        if self.host.run("Test-Path", {"LiteralPath": access_path})[0]:
            self.host.run("Remove-Item", {"LiteralPath": access_path, "Force": True})

    def _is_free(self, access_path: str) -> bool:
        """Whether no disk is mounted at a folder."""
        path = access_path.casefold()
        return all(path not in {each.casefold() for each in disk.access_paths} for disk in self.disks())

    def flush(self, disk: HostDisk) -> None:
        """Everything the host has written to the disk's volume is on the LUN."""
        self.host.run("Write-VolumeCache", {"Path": disk.volume_path})

    def files(self, folder: str) -> list[str]:
        """Full paths of all files below a folder; Windows' own bookkeeping folders are left out."""
        records = self.host.run(
            "Get-ChildItem",
            {"LiteralPath": folder, "Recurse": True, "File": True, "Force": True},
            select=("FullName",),
        )
        paths = [str(record["FullName"]) for record in records]
        return sorted(p for p in paths if not _is_systems_own(p.casefold()))


def _is_systems_own(path: str) -> bool:
    return "\\system volume information\\" in path or "\\$recycle.bin\\" in path


def signature(number: int) -> str:
    """The signature of an MBR disk as it is written down where another disk has its GUID."""
    return f"0x{number:08X}"


def is_signature(identity: str) -> bool:
    """Whether a disk's identity is a signature, and no GUID."""
    return identity.startswith("0x")


def identity(record: Record) -> str:
    """What tells a disk (of Get-Disk) from others: its GPT GUID, or the signature of its MBR; "" for a raw one."""
    return str(record["Guid"] or "") or (signature(int(record["Signature"])) if record["Signature"] else "")


def _disk(record: Record, partitions: Iterable[Record], *, host: str) -> HostDisk:
    disk = HostDisk(
        number=int(record["Number"]),
        unique_id=str(record["UniqueId"] or "").upper(),
        guid=identity(record),
        style=str(record["PartitionStyle"]),
        offline=bool(record["IsOffline"]),
        host=host,
        boot=bool(record["IsBoot"]),
    )
    for partition in partitions:
        if str(partition["GptType"] or BASIC_DATA).casefold() != BASIC_DATA:
            continue
        paths = [str(path) for path in partition["AccessPaths"] or ()]
        volume = next((path for path in paths if path.startswith("\\\\?\\Volume")), "")
        return replace(
            disk,
            access_paths=tuple(path for path in paths if not path.startswith("\\\\?\\")),
            volume_path=volume,
            partition=int(partition["PartitionNumber"]),
            # An ordinary partition may ask for no letter too; without that attribute Windows would give it one.
            shadow=any(bool(partition[flag]) for flag in _FLAGS if flag != "NoDefaultDriveLetter"),
        )
    return disk
