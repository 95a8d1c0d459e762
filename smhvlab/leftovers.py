"""What holds Snapshot copies, and what interrupted work has left on a site that no run will ever take away."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from netapp_ontap.resources.snapshot import Snapshot
from netapp_ontap.resources.volume import Volume

from smhvlab.backup.group import GROUPS
from smhvlab.backup.refusals import CHECKPOINTS
from smhvlab.backup.shadowcopy import SET
from smhvlab.mount.image import FOLDER, PREFIX, clone_name
from smhvlab.mount.mounts import Mounts
from smhvlab.protection.store import PolicyStore
from smhvlab.restore.announced import Announcements, this_station
from smhvlab.storage import VolumeRef
from smhvlab.tables import Tools

_CLONE = "name,uuid,svm.name,clone.parent_volume.name,clone.parent_snapshot.name"
_RESTORES = (clone_name("restore_"), f"{FOLDER}restore_")  # how the names of their clones and folders begin
_BACKUPS = "a backup makes it, and takes it away at its end"
_OWNERS = {
    "volume_clone": "a FlexClone volume depends on it",
    "lun_clone": "a LUN clone is being split from it",
    "snapmirror": "SnapMirror needs it as its base",
    "vserver_dr": "SVM disaster recovery needs it",
    "snapdiff": "a comparison of Snapshot copies is under way",
}


@dataclass(frozen=True)
class Busy:
    """A Snapshot copy that cannot be deleted, why, and what would free it."""

    volume: str
    snapshot: str
    owners: str
    why: str
    next: str


@dataclass(frozen=True)
class Leftover:
    """Something that nobody will take away.

    Attributes:
        kind: ``FlexClone volume``, ``mount``, ``folder``, the ``announcement`` of a restore, and of a backup
            ``checkpoint``, ``consistency group`` and ``Snapshot copy``.
        name: what it is called.
        why: how it is known to be left over.
        next: what to do.
    """

    kind: str
    name: str
    why: str
    next: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.why}. {self.next}"


def busy(tools: Tools) -> list[Busy]:
    """Every busy Snapshot copy of the array, by volume and name."""
    mounts = {mount.image.clone: mount for mount in Mounts(tools.snapinfo).all()}
    volumes = tools.rest.collect(Volume, fields=_CLONE)
    clones: dict[tuple[str, str], list[str]] = {}
    for record in volumes:
        if parent := record.get("clone", {}).get("parent_volume", {}).get("name"):
            key = parent, record["clone"]["parent_snapshot"]["name"]
            clones.setdefault(key, []).append(record["name"])
    found = []
    for record in volumes:
        volume = VolumeRef(record["uuid"], record["name"], record["svm"]["name"])
        for copy in tools.storage.snapshots(volume):
            if not (owners := copy.get("owners", ())):
                continue
            holders = sorted(clones.get((volume.name, copy["name"]), ()))
            mounted = [mounts[name] for name in holders if name in mounts]
            if mounted:
                why = "; ".join(f"{mount.backup} is mounted at {mount.image.access_path}" for mount in mounted)
                action = "; ".join(f'site.unmount("{mount.name}")' for mount in mounted)
            else:
                why = "; ".join(_OWNERS.get(owner, f"ONTAP says {owner}") for owner in owners)
                why += f": {', '.join(holders)}" if holders else ""
                action = (
                    "Split the clone, or delete it if no VM lives on it."
                    if holders
                    else "Wait for its end, or break the relationship."
                )
            found.append(Busy(volume.name, copy["name"], ", ".join(owners), why, action))
    return sorted(found, key=lambda entry: (entry.volume, entry.snapshot))


def leftovers(tools: Tools, *, pending: bool) -> list[Leftover]:
    """What is left of mounts, verifications, restores and backups.

    Other stations' journals are out of reach: what only they can know of is told with its age, and nothing of restores
    while any is announced.

    Args:
        pending: whether runs wait for the doctor; what they have made is theirs then, and nothing is told but mounts
            whose FlexClone volume somebody has deleted, and what other stations have announced.
    """
    mounts = Mounts(tools.snapinfo).all()
    volumes = tools.rest.collect(Volume, fields="name,create_time,type")
    mirrored = {record["name"] for record in volumes if record.get("type") == "dp"}
    made = {record["name"]: str(record.get("create_time", ""))[:19].replace("T", " ") for record in volumes}
    found = [
        Leftover(
            "mount",
            mount.name,
            f"its FlexClone volume {mount.image.clone} is gone",
            f'site.unmount("{mount.name}") takes it out of SnapInfo',
        )
        for mount in mounts
        if mount.image.clone not in made
    ]
    store = PolicyStore(tools.snapinfo)
    found += [
        Leftover("file of SnapInfo", path, why, "Restore it from a Snapshot copy of the SnapInfo LUN")
        for damaged in (tools.snapinfo.damaged(), store.damaged(), Mounts(tools.snapinfo).damaged())
        for path, why in sorted(damaged.items())
    ]
    announced = Announcements(tools.snapinfo).all()
    found += [
        Leftover("announcement", f"of the restore of {one}", "another station may be at work", one.advice)
        for one in announced
        if not pending or one.station != this_station()
    ]
    if pending:
        return found
    known = {mount.image.clone for mount in mounts}
    spared = _RESTORES if announced else ()  # another station's restore has its image there, whose journal is there
    found += [
        Leftover(
            "FlexClone volume",
            name,
            f"no mount in SnapInfo and no unfinished run of this station knows it; it was made at {made[name]}",
            "If no other station verifies, mounts or restores since then (smhvlab doctor there): unmap its LUNs and "
            "delete it; it keeps a Snapshot copy busy",
        )
        for name in sorted(made)
        if name.startswith(PREFIX) and name not in known and not name.startswith(spared)
    ]
    paths = {mount.image.access_path.rstrip("\\").casefold() for mount in mounts}
    paths |= {disk.folder.rstrip("\\").casefold() for mount in mounts for disk in mount.guests}
    if tools.host.run("Test-Path", {"LiteralPath": FOLDER})[0]:
        folders = tools.host.run("Get-ChildItem", {"LiteralPath": FOLDER, "Directory": True}, select=("FullName",))
        found += [
            Leftover("folder", path, "nothing is mounted there", "Remove it if it is empty")
            for path in sorted(str(record["FullName"]) for record in folders)
            if path.casefold() not in paths and not path.startswith(spared)
        ]
    return [*found, *_of_backups(tools, mirrored)]


def _of_backups(tools: Tools, mirrored: Collection[str]) -> Iterator[Leftover]:
    """What is there only while a backup is at work; what a mirror has brought of it belongs to the other site."""
    idle = "If no backup is at work on any station"
    for vm in tools.nodes.vms():
        seen = tools.nodes[vm.host].hyperv.with_checkpoints(vm) if vm.has_checkpoints else vm
        for name in seen.checkpoint_names:
            if name.startswith(CHECKPOINTS):
                remove = f"Get-VMSnapshot -VMName '{vm.name}' -Name '{name}' | Remove-VMSnapshot"
                yield Leftover("checkpoint", f"{name} of {vm.name}", _BACKUPS, f"{idle}, on {vm.host}: {remove}")
    for name, _ in tools.storage.groups().values():
        if name.startswith(GROUPS):
            yield Leftover("consistency group", name, _BACKUPS, f"{idle}: delete it; its volumes and copies stay")
    for record in tools.rest.collect(Snapshot, "*", fields="name,volume.name", name="{*"):
        if SET.fullmatch(record["name"]) and record["volume"]["name"] not in mirrored:
            where = f"{record['name']} of volume {record['volume']['name']}"
            yield Leftover("Snapshot copy", where, "a shadow copy set that no backup has named", f"{idle}: delete it")
