"""Crash-consistent backup of a dataset (TR 6.2 workflow, 10): Snapshot copies of the LUNs, registered in SnapInfo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import Any

from smhvlab.backup.evidence import VmEvidence
from smhvlab.backup.group import GroupedBackup, GroupedState
from smhvlab.backup.survey import named
from smhvlab.snapinfo import Backup
from smhvlab.steps import step


@dataclass(frozen=True, kw_only=True)
class CrashState(GroupedState):
    """What one crash-consistent backup touches and creates."""

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
            vms=tuple(replace(vm, evidence=VmEvidence("crash", why)) for vm in self.vms),
            luns=named(self.luns, self.name),
            evidence=("Crash-consistent: no guest was quiesced; its state is that after a loss of power.", self.point),
            excluded=self.excluded,
            engine="Snapshot copies",
            failed=self.failed,
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
        return "\n".join(lines + [f"  Not in the backup: {text}" for text in (*backup.failed, *backup.excluded)])

    def _repr_html_(self) -> str:
        backup = self.backup
        rows = "".join(
            f"<tr><td>{escape(lun.volume)}</td><td>{escape(lun.snapshot)}</td><td>{escape(lun.path)}</td></tr>"
            for lun in backup.luns
        )
        evidence = "".join(f"<li>{escape(sentence)}</li>" for sentence in backup.evidence)
        excluded = "".join(f"<li>not in the backup: {escape(text)}</li>" for text in (*backup.failed, *backup.excluded))
        vms = escape(", ".join(vm.name for vm in backup.vms))
        return (
            f"<p><b>{escape(backup.name)}</b>: {escape(backup.registered_as)}; {vms}</p>"
            f"<table><tr><th>volume</th><th>Snapshot copy</th><th>LUN</th></tr>{rows}</table>"
            f"<ul>{evidence}{excluded}</ul>"
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
        return CrashState(**common, **self.point(found.volumes, str(common["name"])))

    @step(
        "Consistency group over the volumes",
        tr="10",
        items=lambda s: (s.group,),
        when=lambda s: bool(s.group),
        otherwise="one volume needs none, or the array offers no common point",
    )
    def group(self, s: CrashState) -> None:
        self.storage.ensure_group(s.group, s.volumes)

    @group.undo
    def drop_group(self, s: CrashState) -> None:
        self.storage.discard_group(s.group)

    @step(
        "Snapshot copies of the LUNs",
        tr="6.2/3",
        items=lambda s: tuple(f"{v}: {s.name}" for v in s.volumes),
        counts=lambda s: {"ontap.snapshot.create": len(s.volumes)},
    )
    def snapshots(self, s: CrashState) -> None:
        self.take(s, comment=f"crash-consistent backup of {s.dataset}")

    @snapshots.undo
    def drop_snapshots(self, s: CrashState) -> None:
        self.storage.discard_snapshots(s.volumes, s.name)

    @step(
        "Dissolve the consistency group",
        tr="10",
        items=lambda s: (s.group,),
        when=lambda s: bool(s.group),
        otherwise="none was made for this backup",
    )
    def ungroup(self, s: CrashState) -> None:
        self.storage.discard_group(s.group)

    @step("Register the backup in SnapInfo", tr="6.2/4", items=lambda s: (f"{s.name}.json",))
    def register(self, s: CrashState) -> None:
        self.snapinfo.ensure_backup(s.record)

    @register.undo
    def unregister(self, s: CrashState) -> None:
        self.snapinfo.discard_backup(s.dataset, s.name)

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
        self.storage.discard_snapshots([s.snapinfo_volume], s.name)

    def result(self, state: CrashState) -> BackupDone:
        """The backup's record."""
        return BackupDone(state.record, tuple(f"{v}: {state.name}" for v in (*state.volumes, state.snapinfo_volume)))
