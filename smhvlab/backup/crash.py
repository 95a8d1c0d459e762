"""Crash-consistent backup of a dataset (TR 6.2 workflow, 10): Snapshot copies of the LUNs, registered in SnapInfo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import Any

from smhvlab.backup.evidence import VmEvidence
from smhvlab.backup.found import named
from smhvlab.backup.group import GroupedBackup, GroupedState
from smhvlab.backup.refusals import need_known
from smhvlab.backup.sets import CHECKPOINT_BUILD
from smhvlab.snapinfo import Backup
from smhvlab.steps import step
from smhvlab.vss import Vss, parse_components


@dataclass(frozen=True, kw_only=True)
class CrashState(GroupedState):
    """What one crash-consistent backup touches and creates.

    Attributes:
        writers: hosts whose Hyper-V writers are asked for the VMs' metadata; none from Windows Server 2016 on.
    """

    writers: tuple[str, ...]

    def script(self) -> str:
        """Where DiskShadow's lines may be put on a host."""
        return f"C:\\Windows\\Temp\\smhvlab_{self.own_name}.dsh"

    @property
    def record(self) -> Backup:
        """What SnapInfo keeps."""
        why = "no guest was quiesced"
        return Backup(
            name=self.name,
            dataset=self.dataset,
            time=self.time,
            consistency="crash",
            common_point=self.common_point,
            host=self.host,
            vms=tuple(replace(vm, evidence=VmEvidence("crash", why, frozen=0.0)) for vm in self.kept),
            luns=named(self.luns, self.name),
            evidence=("Crash-consistent: no guest was quiesced; its state is that after a loss of power.", self.point),
            excluded=self.excluded,
            engine="Snapshot copies",
            failed=self.not_kept,
            warnings=self.warnings,
            writers=self.writers,
            run=self.run,
        )


@dataclass(frozen=True)
class BackupDone:
    """A backup that was taken."""

    backup: Backup
    snapshots: tuple[str, ...]

    def __str__(self) -> str:
        backup = self.backup
        lines = [f"Backup {backup.name}: {backup.registered_as}; {', '.join(vm.name for vm in backup.vms)}"]
        lines += [f"  {sentence}" for sentence in backup.evidence]
        lines += [f"  Not in the backup: {text}" for text in (*backup.failed, *backup.excluded)]
        return "\n".join(lines + [f"  Warning: {text}" for text in backup.warnings])

    def _repr_html_(self) -> str:
        backup = self.backup
        rows = "".join(
            f"<tr><td>{escape(lun.volume)}</td><td>{escape(lun.snapshot)}</td><td>{escape(lun.path)}</td></tr>"
            for lun in backup.luns
        )
        evidence = "".join(f"<li>{escape(sentence)}</li>" for sentence in backup.evidence)
        excluded = "".join(f"<li>not in the backup: {escape(text)}</li>" for text in (*backup.failed, *backup.excluded))
        warnings = "".join(f"<li>warning: {escape(text)}</li>" for text in backup.warnings)
        vms = escape(", ".join(vm.name for vm in backup.vms))
        return (
            f"<p><b>{escape(backup.name)}</b>: {escape(backup.registered_as)}; {vms}</p>"
            f"<table><tr><th>volume</th><th>Snapshot copy</th><th>LUN</th></tr>{rows}</table>"
            f"<ul>{evidence}{excluded}{warnings}</ul>"
        )


class CrashConsistentBackup(GroupedBackup[CrashState]):
    """Back up a dataset, crash-consistent."""

    tr = "6.2, 10"
    exclusive = False  # TR 10: crash-consistent backups may run beside others

    def __init__(self, site: object, *, dataset: str) -> None:
        super().__init__(site, dataset=dataset)
        self.dataset = dataset

    def survey(self) -> CrashState:
        """Find each VM's files down to their volumes and choose the backup's name. Raises as ``look``."""
        found = self.look()
        common: dict[str, Any] = self.common(found)
        hosts = dict.fromkeys(vm.host for vm in found.machines) if found.build < CHECKPOINT_BUILD else ()
        return CrashState(**common, **self.point(found.volumes, common["name"], common["run"]), writers=tuple(hosts))

    @step(
        "Ask the Hyper-V writers for the VMs' metadata",
        tr="6.2/2",
        items=lambda s: s.writers,
        counts=lambda s: {"windows.vss.identify": len(s.writers)},
        when=lambda s: bool(s.writers),
        otherwise="from Windows Server 2016 on the hosts tell all that is needed without VSS",
    )
    def ask_writers(self, s: CrashState) -> None:
        """VSS is used for nothing else here: no set is made, and nobody is frozen (TR 10)."""
        for name in self.track(s.writers):
            vss = Vss(self.nodes[name].host)
            lines = vss.writers_metadata(s.script())
            vss.discard_files([s.script()])
            known = {one.vm_id for one in parse_components(lines)}
            need_known([vm for vm in s.vms if vm.host == name], known, host=name)
            self.snapinfo.ensure_writers(s.dataset, s.name, name, lines, run=s.run)

    @ask_writers.undo
    def drop_metadata(self, s: CrashState) -> None:
        for name in s.writers:
            Vss(self.nodes[name].host).discard_files([s.script()])
        self.snapinfo.discard_writers(s.dataset, s.name, s.writers, run=s.run)

    @step(
        "Consistency group over the volumes",
        tr="10",
        items=lambda s: (s.group,),
        when=lambda s: bool(s.group),
        otherwise="one volume needs none, or the array offers no common point",
    )
    def group(self, s: CrashState) -> CrashState:
        return self.grouped(s)

    @group.undo
    def drop_group(self, s: CrashState) -> None:
        self.ungrouped(s)

    @step(
        "Snapshot copies of the LUNs",
        tr="6.2/3",
        items=lambda s: tuple(f"{v}: {s.name}" for v in s.volumes),
        counts=lambda s: {"ontap.snapshot.create": len(s.volumes)},
    )
    def snapshots(self, s: CrashState) -> CrashState:
        self.take(s, what=f"crash-consistent backup of {s.dataset}")
        return replace(self.untouched(s, files=True), taken=True)

    @snapshots.undo
    def drop_snapshots(self, s: CrashState) -> None:
        self.discard_taken(s, what=f"crash-consistent backup of {s.dataset}")

    @step(
        "Dissolve the consistency group",
        tr="10",
        items=lambda s: (s.group,),
        when=lambda s: bool(s.group),
        otherwise="none was made for this backup",
    )
    def ungroup(self, s: CrashState) -> None:
        self.ungrouped(s)

    @step("Register the backup in SnapInfo", tr="6.2/4", items=lambda s: (f"{s.name}.json",))
    def register(self, s: CrashState) -> None:
        self.snapinfo.ensure_backup(s.record)

    @register.undo
    def unregister(self, s: CrashState) -> None:
        self.snapinfo.discard_backup(s.dataset, s.name, run=s.run)

    @step(
        "Snapshot copy of the SnapInfo LUN",
        tr="6.3",
        items=lambda s: (f"{s.snapinfo_volume}: {s.name}",),
        counts=lambda s: {"ontap.snapshot.create": 1},
    )
    def protect(self, s: CrashState) -> None:
        self.keep_snapinfo(s)

    @protect.undo
    def drop_protection(self, s: CrashState) -> None:
        self.drop_snapinfo(s)

    def result(self, state: CrashState) -> BackupDone:
        """The backup's record."""
        return BackupDone(state.record, tuple(f"{v}: {state.name}" for v in (*state.volumes, state.snapinfo_volume)))
