"""Before a disaster: move on purpose with nothing lost, and what a disaster would cost now (TR 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from smhvlab.backup.crash import BackupDone, CrashConsistentBackup, CrashState
from smhvlab.dr.landing import Ground
from smhvlab.dr.replication import Mirror, Replication
from smhvlab.dr.roles import read_roles, record
from smhvlab.dr.sites import DrProcedure, homes_by_vm, snapinfo_lun
from smhvlab.errors import NotAllowed
from smhvlab.frames import frame
from smhvlab.site import Site
from smhvlab.snapinfo import Backup
from smhvlab.steps import step

if TYPE_CHECKING:
    import pandas as pd

SECONDS: Mapping[str, float] = {
    "ontap.snapmirror.break": 2,
    "ontap.lun.clone": 1,
    "windows.rescan": 10,
    "windows.vm.import": 3,
    "windows.vm.start": 40,
    "decision": 300,
}
"""What the operations of a failover are assumed to take; ``decision``: until somebody has understood and approved."""

_WAVE = 10  # VMs that are imported and started side by side


@dataclass(frozen=True, repr=False)
class Moved(BackupDone):
    """VMs that were shut down, backed up and carried over; they can be failed over with nothing lost."""

    mirrors: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [super().__str__(), *(f"  {text}" for text in self.mirrors)]
        return "\n".join([*lines, "  Next, on the other site: connect-snapinfo, then failover."])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(text)}</li>" for text in self.mirrors)
        return f"{super()._repr_html_()}<ul>{items}</ul><p>Next, on the other site: connect_snapinfo, failover.</p>"


class _ShutDown(DrProcedure[Any]):
    """What comes before the last backup."""

    @step(
        "Shut the VMs down",
        tr="8",
        items=lambda s: tuple(vm.name for vm in s.vms if vm.state == "Running"),
        counts=lambda s: {"windows.vm.shutdown": sum(vm.state == "Running" for vm in s.vms)},
    )
    def shut_down(self, s: CrashState) -> None:
        roles = read_roles(self.site, [vm.id for vm in s.vms if vm.id in Ground(self.site).roles()])
        record(self.site, roles, self.snapinfo, cluster=self.nodes.cluster or "")  # it goes with the last backup
        for node, vms in self.nodes.by_node([vm.id for vm in s.vms]):
            node.hyperv.ensure_all_shut_down(vms)

    @shut_down.undo
    def start_again(self, s: CrashState) -> None:
        for node, vms in self.nodes.by_node([vm.id for vm in s.vms if vm.state == "Running"]):
            node.hyperv.ensure_all_running(vms)


class PlannedMigration(CrashConsistentBackup, _ShutDown):
    """Leave this site as planned: shut down, back up, carry over"""

    tr = "8"

    def survey(self) -> CrashState:
        """As for a backup; every volume of it and of SnapInfo must be mirrored to the other site.

        Raises:
            NotAllowed: a volume is not mirrored, its mirror is not healthy, or a VM of no dataset runs on one of
                its volumes: the failover would be refused for it.
        """
        state = super().survey()
        ready = {(m.source.svm, m.source.volume): m for m in self.other_replication.mirrors()}
        for volume in (*state.volumes, state.snapinfo_volume):
            mirror = ready.get((volume.svm, volume.name))
            if mirror is None or mirror.state != "snapmirrored" or not mirror.healthy:
                raise NotAllowed(
                    f"The volume {volume} is not mirrored to {self.other.name}",
                    why="" if mirror is None else f"{mirror.state}; {mirror.problem}",
                    next_action="Replicate it first: site.dr.protect().",
                    tr="8",
                )
        self._refuse_others(state)
        return state

    def _refuse_others(self, state: CrashState) -> None:
        """VMs of other datasets may still be migrated after this one."""
        own = {(volume.svm, volume.name) for volume in state.volumes}
        known = {member.id for dataset in self.snapinfo.datasets() for member in dataset.members}
        staying = [vm for vm in self.nodes.vms() if vm.running and vm.id not in known]
        places = homes_by_vm(self.site, staying) if staying else {}
        for vm in staying:
            taken = {str(lun.volume) for lun, _ in places[vm.id].values() if (lun.svm, lun.volume.name) in own}
            if taken:
                raise NotAllowed(
                    f"{vm.name} runs on {', '.join(sorted(taken))} and is in no dataset: it would stay behind",
                    why="the failover takes no volume over from which a VM still runs here",
                    next_action=f"Take {vm.name} along (site.change_dataset), shut it down, or move its files away.",
                    tr="8",
                )

    @step(
        "Update the mirrors",
        tr="8",
        items=lambda s: (*s.volumes, s.snapinfo_volume),
        counts=lambda s: {"ontap.snapmirror.start": len(s.volumes) + 1},
    )
    def carry_over(self, s: CrashState) -> None:
        self.other_replication.update(self._mirrors(s))

    def _mirrors(self, s: CrashState) -> list[Mirror]:
        wanted = {(v.svm, v.name) for v in (*s.volumes, s.snapinfo_volume)}
        return [m for m in self.other_replication.mirrors() if (m.source.svm, m.source.volume) in wanted]

    def result(self, state: CrashState) -> Moved:
        """The backup, and what was sent."""
        done = super().result(state)
        told = tuple(f"{m}: {m.transferred:,} bytes" for m in self._mirrors(state))
        return Moved(done.backup, done.snapshots, told)


def what_if(site: Site) -> pd.DataFrame:
    """For each VM of a dataset: what would be lost, and how long it would be down, if this site died now.

    Columns: vm, dataset, backup (the newest one that has arrived whole on the other site, SnapInfo included), rpo
    (seconds since it was taken, -1: everything is lost), rto (estimated seconds until the VM runs there, -1: never),
    finding. The estimate stands on ``SECONDS``; a rehearsal measures.

    Raises:
        NotAllowed: the site has no partner.
    """
    if site.partner is None:
        raise NotAllowed(
            f"The site {site.name} has no partner", next_action="Connect both: smhvlab.dr.sites.couple(...).", tr="8"
        )
    tools, there = site.tools(), Replication(site.partner.tools().storage)
    mirrors = {(m.source.svm, m.source.volume): m for m in there.mirrors()}
    arrived = {end: _copies(there, mirror) for end, mirror in mirrors.items()}
    info, _ = snapinfo_lun(site)
    known = arrived.get((info.svm, info.volume.name), set())
    backups, now = tools.snapinfo.backups(), site.now()
    types = {"vm": "str", "dataset": "str", "backup": "str", "rpo": "int64", "rto": "int64", "finding": "str"}
    rows: list[dict[str, object]] = []
    position = 0
    for dataset in tools.snapinfo.datasets():
        for member in dataset.members:
            mine = [b for b in backups if b.dataset == dataset.name and any(vm.id == member.id for vm in b.vms)]
            good, finding = _newest(mine, arrived, known)
            row: dict[str, object] = {"vm": member.name, "dataset": dataset.name, "backup": "", "rpo": -1, "rto": -1}
            if good is not None:
                row |= {
                    "backup": good.name,
                    "rpo": round((now - datetime.fromisoformat(good.time)).total_seconds()),
                    "rto": round(_down(good, position)),
                }
                position += 1
            rows.append(row | {"finding": finding})
    return frame(rows, types)


def _copies(there: Replication, mirror: Mirror) -> set[str]:
    volume = there.storage.volume(mirror.destination.volume, svm=mirror.destination.svm)
    return set() if volume is None else set(there.copies(volume).values())


def _newest(
    backups: Sequence[Backup], arrived: Mapping[tuple[str, str], set[str]], known: set[str]
) -> tuple[Backup | None, str]:
    if not backups:
        return None, "there is no backup of it"
    finding = ""
    for backup in reversed(backups):
        missing = [lun.volume for lun in backup.luns if lun.snapshot not in arrived.get((lun.svm, lun.volume), set())]
        if not missing and any(name.startswith(backup.name) for name in known):
            return backup, finding
        what = f"volume {missing[0]}" if missing else "SnapInfo"
        finding = finding or f"{backup.name} has not arrived there: {what}"
    return None, finding


def _down(backup: Backup, position: int) -> float:
    """Seconds until the VM at this position of all of them runs on the other site."""
    volumes, luns = len({(lun.svm, lun.volume) for lun in backup.luns}) + 1, len(backup.luns) + 1
    once = SECONDS["ontap.snapmirror.break"] * volumes + (SECONDS["ontap.lun.clone"] + SECONDS["windows.rescan"]) * luns
    waves = position // _WAVE + 1
    return SECONDS["decision"] + once + waves * (SECONDS["windows.vm.import"] + SECONDS["windows.vm.start"])
