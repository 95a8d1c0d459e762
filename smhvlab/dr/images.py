"""Mirrored volumes and the images of backups in them: chosen, taken and connected at the other site (TR 8).

SnapInfo records where a backup's image is on the site that made it. Here the volume is the mirror's destination, the
Snapshot copy has the same name, the path inside it is the same; only LUN uuid and serial number are others. The disk's
GUID is a part of the bytes, so it says whether the right disk has arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from smhvlab.backup.sets import CHECKPOINT_BUILD
from smhvlab.dr.landing import Landing, Spot
from smhvlab.dr.replication import Mirror, Replication
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.mount.mbr import signature_of
from smhvlab.nodes import Nodes
from smhvlab.snapdrive import HostDisk
from smhvlab.snapinfo import Backup, BackupLun, BackupVm
from smhvlab.storage import LunRef, VolumeRef

_GPT_HEADER, _SECTOR = 512, 512
_DISK_GUID = slice(56, 72)
_BY_HAND = "Connect an older Snapshot copy of SnapInfo, or restore the LUNs by hand."


class Manner(StrEnum):
    """How a mirror is broken off to a backup; by default as the hosts' era does it.

    TODAY: the break itself goes back to the backup's Snapshot copy. TR: as SnapDrive did it up to Windows Server 2012:
    break, then a volume-based SnapRestore of a volume with one LUN, which leaves the relationship uninitialized, or a
    single-file SnapRestore of each of several LUNs, which leaves it broken off. What can be done next does not depend
    on it: a Snapshot copy that both ends have is enough for a resync.
    """

    TODAY = "today"
    TR = "tr"


def manner_named(name: str) -> Manner | None:
    """The manner of a name, None for "": the era decides. Raises NotAllowed."""
    if name and name not in tuple(Manner):
        raise NotAllowed(
            f"{name!r} is no manner of breaking a mirror off",
            next_action=f"Choose one of {', '.join(Manner)}, or none: then the hosts' era decides.",
            tr="8/FO1",
        )
    return Manner(name) if name else None


def manner_of(nodes: Nodes) -> Manner:
    """As it is done in the era of a site's hosts: SnapDrive's way before production checkpoints."""
    return Manner.TODAY if nodes.build() >= CHECKPOINT_BUILD else Manner.TR


@dataclass(frozen=True)
class Image:
    """One LUN of a backup, at the mirror's destination.

    Attributes:
        lun: path of the LUN in the destination volume.
        path: path of the consistent image inside the Snapshot copy; the same as ``lun`` or a clone beside it.
        unique_id: of the disk at the site that made the backup: SnapInfo's key for it.
        backup: name of the backup.
    """

    lun: str
    path: str
    snapshot: str
    disk_guid: str
    access_path: str
    unique_id: str
    backup: str
    shared: bool = False

    def spot(self, landing: Landing) -> Spot:
        """What its LUN becomes at a landing. Raises NotAllowed as ``Landing.placement``."""
        placement = landing.placement(self.access_path, shared=self.shared)
        return Spot(self.access_path, self.disk_guid, placement)

    def __str__(self) -> str:
        return f"{self.access_path} from {self.snapshot}{self.path}"


@dataclass(frozen=True)
class MirroredVolume:
    """A destination volume and the images that are wanted of it; ``luns``: how many LUNs it holds in all."""

    mirror: Mirror
    volume: VolumeRef
    snapshot: str
    images: tuple[Image, ...]
    luns: int

    def __str__(self) -> str:
        return f"{self.mirror} to {self.snapshot}"

    def clones(self, name: str) -> dict[str, str]:
        """Names of the clones that show all images, by the Snapshot copy: images of two backups may need two."""
        others = sorted({image.snapshot for image in self.images} - {self.snapshot})
        return {self.snapshot: name} | {other: f"{name}__{number}" for number, other in enumerate(others, start=2)}

    def end_state(self, manner: Manner) -> str:
        """What the relationship is called afterwards."""
        return end_state(manner, luns=self.luns)

    def plan(self, manner: Manner) -> str:
        """What a break does, as a plan tells it."""
        if not self.mirror.broken:
            return f"{self} ({self.end_state(manner)})"
        what = "its volume" if manner is Manner.TR and self.luns == 1 else "each of its LUNs"
        return f"{self} (broken off before: {what} goes back to that Snapshot copy)"


def end_state(manner: Manner, *, luns: int) -> str:
    """What a relationship is called after a failover of a volume with so many LUNs, and why (TR 8, failover step 1)."""
    if manner is Manner.TODAY:
        return "broken_off"
    if luns == 1:
        return "uninitialized after a volume-based SnapRestore"
    return "broken_off after single-file SnapRestores"


def mirrored_backups(replication: Replication, backups: Iterable[Backup]) -> list[tuple[Backup, str]]:
    """Backups that have LUNs mirrored here, oldest first, and why each cannot be used ("" if it can).

    A backup that SnapInfo knows and whose Snapshot copy did not arrive is newer than the mirrored data. One with a LUN
    that is not mirrored is told too, and so is any other of the same datasets: it is passed over, not unknown.
    """
    mirrors = _by_volume(replication)
    names: dict[str, set[str]] = {}
    found, elsewhere = [], set()
    for backup in backups:
        ends = {(lun.svm, lun.volume): mirrors.get((lun.svm, lun.volume)) for lun in backup.luns}
        missing = [f"{svm}:{volume} is not mirrored here" for (svm, volume), mirror in ends.items() if mirror is None]
        if len(missing) == len(ends):
            elsewhere.add(backup.name)
        late = []
        for lun in backup.luns:
            mirror = ends[lun.svm, lun.volume]
            if mirror is None:
                continue
            if str(mirror.destination) not in names:
                names[str(mirror.destination)] = set(replication.copies(_volume(replication, mirror)).values())
            if lun.snapshot not in names[str(mirror.destination)]:
                late.append(f"{mirror.destination} has no Snapshot copy {lun.snapshot}")
        if late:
            missing.append(f"SnapInfo is newer than the data: {'; '.join(late)}")
        found.append((backup, "; ".join(missing)))
    datasets = {backup.dataset for backup, _ in found if backup.name not in elsewhere}
    ours = {mirror.source.svm for mirror in mirrors.values()}
    return [
        (backup, missing)
        for backup, missing in found
        if backup.name not in elsewhere or (backup.dataset in datasets and any(lun.svm in ours for lun in backup.luns))
    ]


def choose_backups(known: Sequence[tuple[Backup, str]], names: Sequence[str]) -> list[Backup]:
    """The backups of these names, or the newest of each dataset whose data arrived; oldest first.

    Args:
        known: what ``mirrored_backups`` gave.
        names: backups that are wanted; empty for the newest ones.

    Raises:
        NotFound: there is no such backup, or none at all.
        NotAllowed: the data of a backup did not arrive: SnapInfo is newer than they are, or a LUN is not mirrored.
    """
    if not known:
        raise NotFound(
            "SnapInfo here knows no backup whose volumes are mirrored to this site",
            next_action="Bring the other site's SnapInfo here first: site.dr.connect_snapinfo() (failover steps "
            "1 to 3).",
            tr="8",
        )
    if names:
        by_name = {backup.name: (backup, missing) for backup, missing in known}
        whole = [backup.name for backup, missing in known if not missing]
        found = []
        for name in names:
            if name not in by_name:
                raise NotFound(
                    f"There is no replicated backup {name}",
                    next_action=f"Known here: {', '.join(by_name)}.",
                    tr="8",
                )
            backup, missing = by_name[name]
            if missing:
                raise NotAllowed(
                    f"The data of {name} did not arrive here",
                    why=missing,
                    next_action=f"Choose one of {', '.join(whole)}." if whole else _BY_HAND,
                    tr="8",
                )
            found.append(backup)
        return found
    newest: dict[str, Backup] = {}
    for backup, missing in known:
        if not missing:
            newest[backup.dataset] = backup
    if not newest:
        raise NotAllowed(
            "No backup of SnapInfo has arrived here with its data",
            why=known[-1][1],
            next_action=_BY_HAND,
            tr="8",
        )
    return sorted(newest.values(), key=lambda backup: (backup.time, backup.name))


def choose_machines(chosen: Sequence[Backup], names: Sequence[str]) -> tuple[BackupVm, ...]:
    """The VMs of these names or ids in the backups, or all of them. Raises NotFound."""
    everything = {vm.id: vm for backup in chosen for vm in backup.vms}
    if not names:
        return tuple(everything.values())
    found = []
    for name in names:
        match = [vm for vm in everything.values() if name.casefold() in (vm.name.casefold(), vm.id.casefold())]
        if not match:
            raise NotFound(
                f"The VM {name} is in none of the backups {', '.join(backup.name for backup in chosen)}",
                next_action=f"They hold {', '.join(vm.name for vm in everything.values())}.",
                tr="8",
            )
        found += match
    return tuple(found)


def backups_for(chosen: Sequence[Backup], vms: Collection[BackupVm]) -> list[Backup]:
    """The backups with only those LUNs on which these VMs have files: what else they hold is not touched."""
    ids = {vm.id for vm in vms}
    found = []
    for backup in chosen:
        wanted = {lun for vm in backup.vms if vm.id in ids for lun in _luns_of(backup, vm)}
        if wanted:
            found.append(replace(backup, luns=tuple(lun for lun in backup.luns if lun in wanted)))
    return found


def _luns_of(backup: Backup, vm: BackupVm) -> Iterator[BackupLun]:
    mine = [lun for lun in backup.luns if not lun.vms or vm.id in lun.vms]
    checkpoints = (vm.checkpoints + "\\",) if vm.checkpoints else ()
    files = (vm.configuration_file, *(disk.path for disk in vm.disks), *vm.parents, *vm.leaves.values(), *checkpoints)
    for file in files:
        homes = [lun for lun in mine if file.casefold().startswith(lun.access_path.casefold())]
        if homes:
            yield max(homes, key=lambda lun: len(lun.access_path))


def _by_volume(replication: Replication) -> dict[tuple[str, str], Mirror]:
    """Relationships by the volume that a backup may name: the source, or the destination itself (an older backup)."""
    mirrors = replication.mirrors()
    return {(m.destination.svm, m.destination.volume): m for m in mirrors} | {
        (m.source.svm, m.source.volume): m for m in mirrors
    }


def images_for(backup: Backup, vms: Iterable[BackupVm]) -> Iterator[BackupLun]:
    """One image of each LUN of a backup: where every node made a set of its own, that in which these VMs recovered.

    Raises:
        NotAllowed: VMs on one LUN recovered in different images of it (TR 12).
    """
    wanted = {vm.id: vm.name for vm in vms}
    for images in _images(backup):
        needed = {image: [wanted[one] for one in image.vms if one in wanted] for image in images}
        used = [image for image, names in needed.items() if names]
        if len(used) > 1:
            newest = ", ".join(needed[used[-1]])
            raise NotAllowed(
                f"The LUN of {images[0].access_path} would need {len(used)} images of {backup.name}: "
                + "; ".join(f"one for {', '.join(needed[image])}" for image in used),
                why="each node made a set of its own: in one image the VMs of the other are as after a crash, and a "
                "LUN can be connected at one point in time only",
                next_action=f"Fail over {newest} first (vms=..., --vm), whose image is the newest. Then bring each of "
                f"the others out of its own: site.restore({backup.name!r}, VM, to_host=...), as the TR does "
                "(Restore-Backup -RestoreToAlternateHost). A crash-consistent backup has one image for all VMs.",
                tr="8",
            )
        yield (used or images)[0]


def newer_images(backup: Backup, vms: Iterable[BackupVm]) -> list[str]:
    """Images of a backup that are newer than those in which these VMs recovered: a failover to them loses the newer."""
    ids, names = {vm.id for vm in vms}, {vm.id: vm.name for vm in backup.vms}
    lost = [
        image
        for images in _images(backup)
        if (used := [number for number, image in enumerate(images) if ids.intersection(image.vms)])
        for image in images[used[-1] + 1 :]
    ]
    return [f"{backup.name} (the image in which {', '.join(names[i] for i in one.vms)} recovered)" for one in lost]


def _images(backup: Backup) -> Iterable[list[BackupLun]]:
    """The images of each LUN, in the order in which their sets were made."""
    found: dict[str, list[BackupLun]] = {}
    for lun in backup.luns:
        found.setdefault(lun.unique_id, []).append(lun)
    return found.values()


def find_volumes(
    replication: Replication, backups: Sequence[Backup], vms: Sequence[BackupVm]
) -> tuple[MirroredVolume, ...]:
    """The destination volumes of backups, each with the images that are right for these VMs.

    Raises:
        NotAllowed: two of the backups hold the same LUN, or VMs recovered in two images of it; a LUN can be at one
            point in time only.
        NotFound: a LUN of a backup is not in the destination.
    """
    mirrors = _by_volume(replication)
    wanted: dict[str, list[tuple[Backup, BackupLun]]] = {}
    by_end: dict[str, Mirror] = {}
    for backup in backups:
        for lun in images_for(backup, vms):
            mirror = mirrors[lun.svm, lun.volume]
            by_end[str(mirror.destination)] = mirror
            entries = wanted.setdefault(str(mirror.destination), [])
            for other, known in entries:
                if known.unique_id == lun.unique_id and other.name != backup.name:
                    raise NotAllowed(
                        f"The LUN of {lun.access_path} is in both {other.name} and {backup.name}",
                        next_action="Name one of these backups; VMs of the other one can be restored afterwards.",
                        why="a LUN can be connected at one point in time only",
                        tr="8",
                    )
            entries.append((backup, lun))
    everything = replication.storage.luns()
    found = []
    for end in sorted(wanted):
        volume = _volume(replication, by_end[end])
        present = [lun for lun in everything if lun.volume.uuid == volume.uuid]
        order = list(replication.copies(volume).values())
        images = tuple(_image(replication, present, backup, lun) for backup, lun in wanted[end])
        snapshot = max((image.snapshot for image in images), key=order.index)
        found.append(MirroredVolume(by_end[end], volume, snapshot, images, len(present)))
    return tuple(found)


def _volume(replication: Replication, mirror: Mirror) -> VolumeRef:
    volume = replication.storage.volume(mirror.destination.volume, svm=mirror.destination.svm)
    if volume is None:
        raise NotFound(f"The volume {mirror.destination} is gone", next_action="Look at site.mirrors().", tr="8")
    return volume


def _image(replication: Replication, present: Sequence[LunRef], backup: Backup, lun: BackupLun) -> Image:
    home = next((one for one in present if one.path == lun.path), None)
    if home is None:  # the image is a clone beside the LUN: the disk's GUID tells which one
        home = next((one for one in present if disk_guid(replication, one) == lun.disk_guid.casefold()), None)
    if home is None:
        raise NotFound(
            f"The LUN of {lun.access_path} (disk {lun.disk_guid}) is not among the mirror's LUNs",
            next_action="Choose a backup that was replicated after the LUN had been made.",
            tr="8",
        )
    return Image(
        lun=home.path,
        path=lun.path,
        snapshot=lun.snapshot,
        disk_guid=lun.disk_guid,
        access_path=lun.access_path,
        unique_id=lun.unique_id,
        backup=backup.name,
        shared=lun.shared,
    )


def disk_guid(replication: Replication, lun: LunRef) -> str:
    """GUID in a LUN's partition table, as Windows writes it, or the signature in its MBR; in lower case."""
    start = replication.wire.read_lun(lun.uuid, offset=0, size=_GPT_HEADER + _SECTOR)
    if found := signature_of(start[:_SECTOR]):
        return found.casefold()
    return f"{{{UUID(bytes_le=start[_GPT_HEADER:][_DISK_GUID])}}}"


def take_images(
    replication: Replication,
    volumes: Sequence[MirroredVolume],
    manner: Manner,
    *,
    check: Callable[[Sequence[MirroredVolume]], None],
) -> list[Mirror]:
    """Break the mirrors so that each volume is what its backup was; newer Snapshot copies may be lost with it.

    Args:
        check: called with the volumes that were writable before, ahead of any restore; it refuses.

    Returns:
        The mirrors that were broken off before: ``recover_luns`` has to take all images of their volumes.
    """
    today = manner is Manner.TODAY
    kept = replication.break_off({volume.mirror: volume.snapshot if today else "" for volume in volumes})
    check([volume for volume in volumes if volume.mirror in kept])
    for volume in volumes:
        if not today and volume.luns == 1:
            replication.restore_volume(volume.volume, volume.snapshot)
    return kept


def recover_luns(
    replication: Replication, volumes: Sequence[MirroredVolume], manner: Manner, *, kept: Collection[str]
) -> None:
    """Put the consistent image into each LUN whose own contents in the Snapshot copy are something else.

    The clones in which the guests were recovered came back with the volume; they are removed once they are taken.

    Args:
        kept: uuids of the mirrors that were broken off before: no break has brought their volumes to the backup.
    """
    storage = replication.storage
    for volume in volumes:
        whole = volume.mirror.uuid not in kept if manner is Manner.TODAY else volume.luns == 1
        for image in volume.images:
            if whole and image.snapshot == volume.snapshot and image.path == image.lun:
                continue
            lun = lun_of(replication, volume, image)
            storage.restore_lun(lun, snapshot=image.snapshot, path=image.path)
        for image in volume.images:
            if image.path != image.lun:
                storage.discard_lun(f"/vol/{volume.volume.name}{image.path}", svm=volume.volume.svm)


def lun_of(replication: Replication, volume: MirroredVolume, image: Image) -> LunRef:
    """The LUN of an image as it is now."""
    return replication.storage.lun(f"/vol/{volume.volume.name}{image.lun}", svm=volume.volume.svm)


def check_places(disks: Sequence[HostDisk], volumes: Sequence[MirroredVolume], luns: dict[str, str]) -> None:
    """Refuse mount points that other disks have; ``luns``: UniqueIds of the images' LUNs here, by access path.

    Raises:
        NotAllowed: the LUN type and mount point must be the same as on the primary (TR 8).
    """
    taken = {path.casefold(): disk for disk in disks for path in disk.access_paths}
    for volume in volumes:
        for image in volume.images:
            disk = taken.get(image.access_path.casefold())
            if disk is not None and disk.unique_id != luns.get(image.access_path):
                raise NotAllowed(
                    f"{image.access_path} is the mount point of disk {disk.number} here",
                    why=f"the VMs of {image.backup} have their files at {image.access_path}: the mount point must be "
                    "the same as on the primary",
                    next_action="Give that disk another drive letter or folder, then plan again.",
                    tr="8",
                )
