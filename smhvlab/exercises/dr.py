"""Exercises of the lessons on disaster recovery (TR 8): each check looks at both sites itself."""

from __future__ import annotations

from collections.abc import Callable

from smhvlab.dr.plan import what_if
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair, homes
from smhvlab.errors import ConnectionFailed
from smhvlab.exercises.first import Exercise, Goal
from smhvlab.site import Site
from smhvlab.storage import VolumeRef


def protected_vm(pair: SitePair, *, vm: str = "app01") -> Exercise:
    """Protect one more VM against the loss of the site (TR 8)."""
    first = pair.primary

    def in_dataset() -> str:
        members = {member.name for dataset in first.tools().snapinfo.datasets() for member in dataset.members}
        return "" if vm in members else f"{vm} is in no dataset"

    def arrived() -> str:
        table = what_if(first)
        rows = table[table["vm"] == vm]
        return "" if len(rows) and int(rows["rpo"].max()) >= 0 else f"{vm}: {rows['finding'].iloc[0]}"

    return Exercise(
        f"{vm} survives the loss of the site",
        "8",
        (
            Goal(f"{vm} is in a dataset", in_dataset, f'site.create_dataset("Apps", ["{vm}"])'),
            Goal(
                "A backup of it has arrived on the other site, with its SnapInfo",
                arrived,
                "Its volume needs a relationship (protect again), it needs a backup, and after the backup the mirrors "
                "need an update.",
            ),
        ),
    )


def backup_there(pair: SitePair, *, dataset: str = "All", vm: str = "sql01") -> Exercise:
    """Protect the work of the second site after a failover (TR 8)."""
    second = pair.secondary

    def taken() -> str:
        volumes = {(volume.svm, volume.name) for volume in _volumes_of(second, vm)}
        for backup in second.tools().snapinfo.backups():
            if backup.dataset == dataset and {(lun.svm, lun.volume) for lun in backup.luns} & volumes:
                return ""
        return f"SnapInfo of {second.name} knows no backup of {dataset} that was taken there"

    return Exercise(
        f"a backup of {dataset} on the second site",
        "8",
        (
            Goal(
                f"There is a backup of {vm} from the volumes that it uses now",
                taken,
                "The dataset came with SnapInfo, and the VMs kept their ids: back it up on the second site.",
            ),
        ),
    )


def new_storage(pair: SitePair, *, vm: str = "sql01", rows: int = 1) -> Exercise:
    """Fail back to a site whose volumes were destroyed (TR 8)."""
    first = pair.primary
    before = {volume.uuid for volume in _volumes_of(first, vm)}

    def fresh() -> str:
        now = _volumes_of(first, vm)
        if not now:
            return f"{vm} does not live on volumes of {first.name}"
        return "" if not before & {volume.uuid for volume in now} else f"the volumes of {vm} are the old ones"

    def runs() -> str:
        found = [machine for machine in first.tools().nodes.vms() if machine.name == vm]
        return "" if found and found[0].running else f"{vm} does not run on {first.name}"

    def complete() -> str:
        sql = first.tools().sql
        short = [name for name in sql.databases(vm) if sql.count(vm, name) < rows]
        return f"{', '.join(short)} of {vm} lost rows" if short else ""

    def mirrored() -> str:
        names = {(volume.svm, volume.name) for volume in _volumes_of(first, vm)}
        there = Replication(pair.secondary.tools().storage).mirrors()
        good = {(m.source.svm, m.source.volume) for m in there if m.state == "snapmirrored"}
        return "" if names <= good else f"the volumes of {vm} are not mirrored to {pair.secondary.name}"

    return Exercise(
        "failback to new storage",
        "8",
        (
            Goal(f"{vm} lives on new volumes of the first site", fresh, "lose_volumes(pair), reverse, failback."),
            Goal(f"{vm} runs on the first site", runs, "pair.primary.dr.failback()"),
            Goal("No row was lost", complete, "Was the extra update made before the failback?"),
            Goal("The first direction is mirrored again", mirrored, "pair.secondary.dr.return_to_normal()"),
        ),
    )


def guests_went_home(
    pair: SitePair, *, own: str, dataset: str, vms: tuple[str, ...] = ("sql01", "app01"), guests: str = "All"
) -> Exercise:
    """Fail back from a second site that has VMs of its own; these, their dataset and their backups stay (TR 8).

    Args:
        own: the second site's own VM, ``dataset`` that which holds it.
        vms: the guests; ``guests``: their dataset.
    """
    first, second = pair.primary, pair.secondary
    running = {machine.id for machine in second.tools().nodes.vms() if machine.name == own and machine.running}
    kept = {backup.name for backup in second.tools().snapinfo.backups() if backup.dataset == dataset}
    taken = [backup.name for backup in second.tools().snapinfo.backups() if backup.dataset == guests][-1:]

    def answering(probe: Callable[[], str]) -> Callable[[], str]:
        """The probe, where the first site may be dead still."""

        def careful() -> str:
            try:
                return probe()
            except ConnectionFailed:
                return f"{first.name} does not answer"

        return careful

    def home() -> str:
        there = {machine.name for machine in first.tools().nodes.vms() if machine.running}
        missing = [vm for vm in vms if vm not in there]
        return f"{', '.join(missing)} do not run on {first.name}" if missing else ""

    def stayed() -> str:
        now = {machine.id for machine in second.tools().nodes.vms() if machine.running}
        lost = kept - {backup.name for backup in second.tools().snapinfo.backups()}
        if not running <= now:
            return f"{own} does not run on {second.name} any more"
        return f"SnapInfo of {second.name} lost {', '.join(sorted(lost))}" if lost else ""

    def left() -> str:
        still = [machine.name for machine in second.tools().nodes.vms() if machine.name in vms]
        return f"{', '.join(still)} are registered on {second.name}" if still else ""

    def known() -> str:
        missing = set(taken) - {backup.name for backup in first.tools().snapinfo.backups()}
        return f"SnapInfo of {first.name} does not know {', '.join(sorted(missing))}" if missing else ""

    def mirrored() -> str:
        names = {(volume.svm, volume.name) for vm in vms for volume in _volumes_of(first, vm)}
        there = Replication(second.tools().storage).mirrors()
        good = {(m.source.svm, m.source.volume) for m in there if m.state == "snapmirrored"}
        return "" if names and names <= good else f"the guests' volumes are not mirrored to {second.name}"

    return Exercise(
        "the guests go home",
        "8",
        (
            Goal(
                "The guests run on the first site",
                answering(home),
                "Power, pair.secondary.dr.reverse(), pair.primary.dr.failback().",
            ),
            Goal(f"{own} and its backups stay on the second site", stayed, "Nothing of a failback touches them."),
            Goal("The second site has no VM of the first any more", left, "pair.secondary.dr.return_to_normal()"),
            Goal(
                "The first site knows the backup that was taken there",
                answering(known),
                "Its SnapInfo comes with the failback.",
            ),
            Goal("The first direction is mirrored again", answering(mirrored), "pair.secondary.dr.return_to_normal()"),
        ),
    )


def lose_volumes(pair: SitePair, *, vm: str = "sql01") -> tuple[str, ...]:
    """Destroy the volumes that a VM had on the first site and SnapInfo's, while its hosts are down; returns names.

    The VM runs on the second site; the volumes are those that its mirrors came from.
    """
    storage = pair.primary.tools().storage
    there = Replication(pair.secondary.tools().storage)
    used = {volume.name for volume in _volumes_of(pair.secondary, vm)}
    doomed = [m.source for m in there.mirrors() if m.destination.volume in used or m.source.volume == "snapinfo"]
    here = Replication(storage)
    for mirror in here.outgoing():
        if mirror.source.volume in {end.volume for end in doomed}:
            here.release(mirror.uuid)
    for end in doomed:
        storage.discard_volume(end.volume, svm=end.svm)
    return tuple(sorted(end.volume for end in doomed))


def _volumes_of(site: Site, vm: str) -> list[VolumeRef]:
    """The volumes on which a VM of a site lives."""
    machines = [machine for machine in site.tools().nodes.vms() if machine.name == vm]
    return [lun.volume for lun, _ in homes(site, machines).values()]
