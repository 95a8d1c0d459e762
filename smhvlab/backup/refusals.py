"""What a backup refuses because of where its VMs lie, or of what else is at work there; nothing here changes the site.

A refusal names the thing, the reason, what to do next, and the section of the TR that says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from smhvlab.backup.found import Found, files_of
from smhvlab.doctor import Unfinished
from smhvlab.errors import BackupFailed, NotAllowed
from smhvlab.hyperv import Vm
from smhvlab.mount.image import PREFIX
from smhvlab.nodes import Nodes
from smhvlab.restore.announced import Announced
from smhvlab.snapdrive import HostDisk
from smhvlab.snapinfo import BackupVm, Dataset
from smhvlab.storage import LunRef

MOST_SHARED = 15
"""Cluster shared volumes of one storage system that a dataset may hold (TR 12)."""

CHECKPOINTS = "smhvlab_"
"""What the names of the checkpoints begin with through which a backup is made."""

_DURING_A_RESTORE = "a backup during a restore has no configuration of the VM"
_RESTORE = "RestoreVm"
"""The flow that takes a VM's configuration away for a while: others that restore files leave it alone."""
_RECOVERING = re.compile(r"\.rws\Z")
"""Names of LUN clones that exist only while a backup is recovered,"""
_RESTORING = re.compile(r"_restore_\d\d-\d\d-\d{4}")
"""or while a restore copies files."""


# --- what else is at work


def under_way(
    runs: Iterable[Unfinished], machines: Sequence[Vm], datasets: Callable[[], Sequence[Dataset]], *, exclusive: bool
) -> list[str]:
    """Sentences on backups of these VMs that this station makes now; refuses what must not run beside others.

    Args:
        runs: what the journals of this station know, except of the asking run itself.
        exclusive: whether the backup that asks is application-consistent.

    Raises:
        NotAllowed: a VM is being restored; or it is in another application-consistent backup, as the one that asks.
    """
    names = {text.casefold() for vm in machines for text in (vm.name, vm.id)}
    told = []
    for run in runs:
        what, parameters = run.header.flow.rpartition(":")[2], run.header.parameters
        if what == _RESTORE and str(parameters.get("vm", "")).casefold() in names:
            raise _restored(str(parameters["vm"]), run)
        if run.alive and what.endswith("Backup") and "dataset" in parameters:
            told += _beside(str(parameters["dataset"]), machines, datasets(), exclusive and "Crash" not in what)
    return told


def _restored(vm: str, run: Unfinished) -> NotAllowed:
    return NotAllowed(
        f"A restore of {vm} {'is under way' if run.alive else 'was interrupted'}",
        next_action="Wait for its end." if run.alive else f"smhvlab doctor --resume {run.run} finishes it.",
        why=_DURING_A_RESTORE,
        tr="6.7",
    )


def refuse_restored(dataset: Dataset, announced: Iterable[Announced], own: Sequence[Unfinished], *, seat: str) -> None:
    """Refuse a dataset of which some station restores a VM; ``own``: what this seat's journals know.

    Raises NotAllowed.
    """
    ids = {member.id for member in dataset.members}
    for one in announced:
        if one.vm in ids:
            for run in own:
                if one.seat == seat and one.run == run.run:
                    raise _restored(one.name, run)
            raise one.refusal(_DURING_A_RESTORE, tr="6.7")


def _beside(other: str, machines: Sequence[Vm], datasets: Sequence[Dataset], exclusive: bool) -> list[str]:
    members = {m.id for dataset in datasets if dataset.name.casefold() == other.casefold() for m in dataset.members}
    both = ", ".join(vm.name for vm in machines if vm.id in members)
    if not both:
        return []
    if exclusive:
        raise NotAllowed(
            f"A backup of the dataset {other} is under way, with {both}",
            next_action="Wait for its end; give the datasets schedules apart.",
            why="a VM can be in one application-consistent backup at a time",
            tr="6.2",
        )
    return [_parallel(f"a backup of the dataset {other}, with {both}")]


def _parallel(what: str) -> str:
    return f"{what} is under way: backups side by side may meet time-outs of SnapDrive (TR 10)"


def other_stations(found: Found, luns: Sequence[LunRef], *, exclusive: bool) -> list[str]:
    """What backups and restores of other stations show on array and hosts; as ``under_way``.

    Nobody can read another station's journals. What a backup or a restore makes for as long as it works has names by
    which everybody knows it: clones of LUNs, and checkpoints.
    """
    volumes = {volume.uuid for volume in found.volumes}
    on_them = [lun for lun in luns if lun.volume.uuid in volumes]
    if restoring := [lun for lun in on_them if _RESTORING.search(lun.name)]:
        raise _busy(f"Another restore is at work on the volume {restoring[0].volume}", f"{restoring[0]}", tr="6.7")
    told = []
    if recovering := [lun for lun in on_them if _RECOVERING.search(lun.name)]:
        if exclusive:
            volume = recovering[0].volume
            raise _busy(f"Another backup is at work on the volume {volume}", f"{recovering[0]}", tr="6.2, appendix")
        told.append(_parallel(f"another backup on the volume {recovering[0].volume}"))
    for vm in found.machines:
        if names := [name for name in vm.checkpoint_names if name.startswith(CHECKPOINTS)]:
            if exclusive:
                raise _busy(f"Another backup is at work on {vm.name}", f"its checkpoint {names[0]}", tr="6.2")
            told.append(_parallel(f"another backup of {vm.name}"))
    return told


def _busy(message: str, sign: str, *, tr: str) -> NotAllowed:
    return NotAllowed(
        message,
        next_action="Wait for its end; if nothing runs on any station, look for what it left with smhvlab doctor.",
        why=f"{sign} exists only while one runs",
        tr=tr,
    )


def refuse_redirected(found: Found) -> None:
    """Refuse shared volumes of Windows Server 2008 R2 that somebody has in redirected access now (TR 12).

    Raises NotAllowed.
    """
    paths = {access.casefold() for disk in found.used.values() for access in disk.access_paths}
    for volume in found.shared:
        if volume.redirected and volume.path.casefold() in paths:
            raise NotAllowed(
                f"{volume.path} is in redirected access",
                next_action="Wait for the other backup's end; if there is none: Resume-ClusterResource -Name "
                f"'{volume.resource}'.",
                why="a backup at work on another node has taken the volume over, or a failed one has left it so",
                tr="12",
            )


# --- where the VMs lie


def refuse_foreign_files(
    homes: dict[tuple[str, str], HostDisk | None], luns: dict[str, LunRef], *, array: str
) -> dict[tuple[str, str], HostDisk]:
    """The homes, all on LUNs of the array. Raises NotAllowed (TR 6.2)."""
    lying = {place: home for place, home in homes.items() if home is not None and home.unique_id in luns}
    foreign = [path for (host, path) in homes if (host, path) not in lying]
    if foreign:
        raise NotAllowed(
            f"{foreign[0]} is not on a LUN of {array}",
            next_action="Move all files of the VM (VHDs, configuration, checkpoints) to LUNs of the array.",
            why=f"{len(foreign)} file(s) or folder(s) of the dataset's VMs lie elsewhere",
            tr="6.2",
        )
    return lying


def refuse_borrowed(found: Found) -> None:
    """Refuse VMs with files on a FlexClone that goes again: their backup would go with it. Raises NotAllowed."""
    for (host, path), home in found.homes.items():
        volume = found.luns[home.unique_id].volume
        if volume.name.startswith(PREFIX):
            names = ", ".join(vm.name for vm in found.machines if vm.host == host and path in files_of(vm))
            raise NotAllowed(
                f"{names} has {path} on the FlexClone volume {volume}",
                next_action="Take the disk of a mounted backup away from the VM first: site.detach(...).",
                why="the clone of a mounted backup goes with the unmount, and the new backup would go with it",
                tr="6.8",
            )


def refuse_disks(found: Found, nodes: Nodes, disks: Sequence[HostDisk]) -> None:
    """Refuse boot LUNs, and shared volumes that are MBR, unknown to a node, or too many. Raises NotAllowed."""
    for disk in found.used.values():
        if disk.boot:
            raise NotAllowed(
                f"{disk.host} has started from the LUN that holds VMs (disk {disk.number})",
                next_action="Move the VMs to another LUN.",
                why="VMs on a SAN boot LUN are not supported",
                tr="6.2",
            )
    shared = [disk for disk in found.used.values() if found.is_shared(disk)]
    redirected = nodes.blind() if shared else {}
    resources = {volume.path.casefold(): volume.resource for volume in found.shared}
    for disk in shared:
        path = next(path for path in disk.access_paths if path.casefold() in resources)
        if disk.style == "MBR":
            raise NotAllowed(
                f"Disk {disk.number} ({path}) has an MBR partition table",
                next_action="Move the VMs to a GPT disk: MBR LUNs are not supported for shared volumes.",
                tr="4.1",
            )
        apart = redirected.get(resources[path.casefold()], [])
        blind = [n.name for n in found.nodes if n.name in apart or not _sees(n.name, disk.unique_id, disks)]
        if blind:
            raise NotAllowed(
                f"{path} is not connected to {', '.join(blind)}",
                next_action="Map its LUN to every node of the cluster, or move the VMs elsewhere.",
                why="shared volumes of some nodes only (asymmetric clustering) are not supported",
                tr="11.3",
            )
    _refuse_mixture(found)
    if len(shared) > MOST_SHARED:
        raise NotAllowed(
            f"The dataset {found.dataset.name} lies on {len(shared)} cluster shared volumes",
            next_action=f"Split it into datasets of at most {MOST_SHARED} shared volumes of one storage system.",
            tr="12",
        )


def _sees(host: str, unique_id: str, disks: Sequence[HostDisk]) -> bool:
    return any(disk.host == host and disk.unique_id == unique_id for disk in disks)


def _refuse_mixture(found: Found) -> None:
    both = [vm.name for vm in found.machines if len({found.is_shared(d) for d in found.disks_of(vm).values()}) > 1]
    if both:
        raise NotAllowed(
            f"{both[0]} lies partly on a cluster shared volume and partly on another disk",
            next_action="Keep all files of a VM on cluster shared volumes, or none.",
            tr="12",
        )
    sorts = {found.on_shared(vm) for vm in found.machines}
    if len(sorts) > 1:
        some = ", ".join(vm.name for vm in found.machines if not found.on_shared(vm))
        raise NotAllowed(
            f"The dataset {found.dataset.name} mixes VMs on cluster shared volumes with VMs on dedicated disks",
            next_action="Make a dataset of each kind.",
            why=f"on dedicated disks: {some}",
            tr="6.1, 12",
        )


# --- whether they can take part


def why_offline(vm: Vm, found: Found, answering: set[str], *, location: bool) -> str:
    """Why a VM cannot be backed up while it runs, "" if it can (TR 6.4); ``answering``: ids of VMs whose service does.

    ``location``: whether it matters where its checkpoints are kept (until Windows Server 2012).
    """
    if not vm.running:
        return f"is {vm.state}"
    if vm.id not in answering:
        return "has its integration service for backup switched off"
    if location and not vm.has_checkpoints:
        homes = {found.homes[vm.host, disk.path].unique_id for disk in vm.disks if not disk.passthrough}
        if found.homes[vm.host, vm.checkpoints + "\\"].unique_id not in homes:
            return "keeps its VM snapshots on another LUN than its VHDs: create one VM snapshot first (TR 6.2)"
    return ""


def kept_checkpoints(machines: Sequence[Vm]) -> list[str]:
    """Sentences on VMs whose checkpoints limit a restore (TR 6.7)."""
    return [
        f"{vm.name} has Hyper-V checkpoints: it comes back with them only from LUNs that hold nothing else (TR 6.7)"
        for vm in machines
        if any(not name.startswith(CHECKPOINTS) for name in vm.checkpoint_names)
    ]


def need_known(vms: Sequence[BackupVm], known: Collection[str], *, host: str) -> None:
    """The writers of a host must know each of these VMs (by id) before anything is copied (TR 6.2).

    Raises BackupFailed.
    """
    if missing := [vm.name for vm in vms if vm.id not in known]:
        raise BackupFailed(
            f"No VSS writer of {host} knows {', '.join(missing)}",
            vms=missing,
            next_action="Look at vssadmin list writers there: vmms must run. Was the VM moved just now?",
            tr="6.2/1",
        )
