"""The lessons' exercises: each check looks at the site itself, says what is missing, and gives the next hint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from smhvlab.errors import NotFound
from smhvlab.hyperv import Vm
from smhvlab.panels import html
from smhvlab.site import Site
from smhvlab.snapinfo import Backup
from smhvlab.storage import VolumeRef

ROWS: Final = 100
"""Rows in each database before the backup of the SQL Server test (TR appendix, Table 4)."""
_LEFTOVER_GROUP: Final = "old_product"


class Reached(StrEnum):
    """How a goal stands."""

    YES = "reached"
    NO = "missing"
    LATER = "not looked at yet"


@dataclass(frozen=True)
class Goal:
    """One thing that has to hold on the site.

    Attributes:
        what: the goal, one sentence without a full stop.
        probe: looks at the site; returns what is missing, "" if nothing is.
        hint: what to try next.
    """

    what: str
    probe: Callable[[], str]
    hint: str


@dataclass(frozen=True)
class Finding:
    """What a check found about one goal."""

    what: str
    reached: Reached
    missing: str = ""
    hint: str = ""


_SIGNS: Final = {
    Reached.YES: ("✓", html.GOOD),
    Reached.NO: ("✗", html.BAD),
    Reached.LATER: ("○", html.PALE),
}


@dataclass(frozen=True)
class Verdict:
    """What a check found, goal by goal; after the first that is missing nothing more is looked at."""

    title: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every goal is reached."""
        return all(finding.reached is Reached.YES for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.title}: {'solved' if self.passed else 'not solved yet'}"]
        for finding in self.findings:
            lines.append(f"  {_SIGNS[finding.reached][0]} {finding.what}")
            if finding.missing:
                lines += [f"      {finding.missing}", f"      Hint: {finding.hint}"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = []
        for finding in self.findings:
            sign, colour = _SIGNS[finding.reached]
            about = html.text(finding.what)
            if finding.missing:
                about += html.tag("div", html.text(finding.missing))
                about += html.tag("div", html.tag("b", "Hint: "), html.text(finding.hint))
            rows.append([html.sign(sign, finding.reached, colour), about])
        outcome = html.sign("✓", "solved", html.GOOD) if self.passed else html.sign("✗", "not solved yet", html.BAD)
        return html.card(
            f"Exercise: {self.title}",
            outcome,
            html.table(["", "Goal"], rows),
            accent=html.GOOD if self.passed else html.BAD,
        )


@dataclass(frozen=True)
class Exercise:
    """A task, told as goals. ``prepare`` brings the site into the state in which the task begins."""

    title: str
    tr: str
    goals: tuple[Goal, ...]
    prepare: Callable[[], None] = field(default=lambda: None)

    def check(self) -> Verdict:
        """Look at the site now; reads only."""
        findings: list[Finding] = []
        for goal in self.goals:
            if findings and findings[-1].reached is not Reached.YES:
                findings.append(Finding(goal.what, Reached.LATER))
            elif missing := goal.probe():
                findings.append(Finding(goal.what, Reached.NO, missing, goal.hint))
            else:
                findings.append(Finding(goal.what, Reached.YES))
        return Verdict(self.title, tuple(findings))


def second_vm(site: Site, *, vm: str = "web03", golden: str = "golden") -> Exercise:
    """Provision one more VM (TR 2.2)."""
    return Exercise(f"a VM {vm} from the golden image", "2.2", _provisioned(site, vm, golden))


def _provisioned(site: Site, vm: str, golden: str) -> tuple[Goal, ...]:
    return (
        Goal(
            f"There is a VM {vm}",
            lambda: "" if _vm(site, vm) else f"The host has no VM {vm}",
            "One verb of the site makes a VM from the golden image: the first lesson has used it for another name. It "
            "gives a flow: look at its plan before you run it.",
        ),
        Goal(
            f"{vm} lies on a FlexClone volume of the golden image's volume",
            lambda: _not_cloned(site, vm, golden),
            "A VM that was made by hand does not count: its VHDs have to come from the golden image. "
            f"Remove {vm} and provision it.",
        ),
        Goal(
            f"{vm} is running",
            lambda: _not_running(site, vm),
            "The last step of the flow powers the VM on: did the run end with 'done'?",
        ),
    )


def half_made_vm(site: Site, *, vm: str = "shop01", golden: str = "golden") -> Exercise:
    """Provision a VM whose name a failed attempt by hand has left on the array (TR 2.2)."""
    leftover = f"{vm}_by_hand"

    def prepare() -> None:
        if _vm(site, vm) is None:
            volume = _volume_of(site, golden)
            storage = site.tools().storage
            storage.ensure_snapshots([volume], leftover, comment=f"{vm}, made by hand")
            storage.ensure_volume_clone(vm, parent=volume, snapshot=leftover)

    def left() -> str:
        copies = site.snapshots(_volume_of(site, golden).name)
        return (
            f"The golden volume still has the Snapshot copy {leftover}" if leftover in set(copies["snapshot"]) else ""
        )

    return Exercise(
        f"{vm}, after somebody's failed attempt",
        "2.2",
        (
            *_provisioned(site, vm, golden),
            Goal(
                "Nothing is left of the attempt by hand",
                left,
                "A Snapshot copy can be deleted when no FlexClone volume depends on it: look at its owners in "
                f"site.snapshots({golden!r}). tools = site.tools(), then "
                "tools.storage.discard_snapshots([volume], name) with "
                f'volume = tools.storage.volume({golden!r}, svm="svm1").',
            ),
        ),
        prepare,
    )


def one_point_in_time(
    site: Site, *, dataset: str = "Shop", vms: tuple[str, ...] = ("app01", "sql01", "web01")
) -> Exercise:
    """Back up VMs that lie on two volumes at one point in time, one Snapshot copy per volume (TR 6.2, 10)."""

    def members() -> str:
        found = next((d for d in site.tools().snapinfo.datasets() if d.name == dataset), None)
        if found is None:
            return f"There is no dataset {dataset}"
        missing = sorted(set(vms) - {member.name for member in found.members})
        return f"{', '.join(missing)} not in the dataset" if missing else ""

    def point() -> str:
        backup = _backups(site, dataset)[-1]
        missing = sorted(set(vms) - {vm.name for vm in backup.vms})
        if missing:
            return f"The newest backup, {backup.name}, does not hold {', '.join(missing)}"
        return "" if backup.common_point else f"{backup.name} has no common point in time"

    def copies() -> str:
        backup = _backups(site, dataset)[-1]
        taken = site.snapshots()
        taken = taken[(taken["snapshot"] == backup.name) & taken["volume"].isin({lun.volume for lun in backup.luns})]
        wanted = len({lun.volume for lun in backup.luns})
        if len(taken) != wanted or taken["create_time"].nunique() != 1:
            return f"{len(taken)} Snapshot copies {backup.name} on the array, {wanted} were registered"
        return ""

    def prepare() -> None:
        storage = site.tools().storage
        volume = _volume_of(site, "sql01" if "sql01" in vms else vms[0])
        if volume.uuid not in storage.grouped_volumes():
            storage.ensure_group(_LEFTOVER_GROUP, [volume])

    return Exercise(
        f"{', '.join(vms)} at one point in time",
        "6.2, 10",
        (
            Goal(
                f"A dataset {dataset} holds {', '.join(vms)}",
                members,
                f'site.create_dataset("{dataset}", [...]) takes a list of names; change_dataset changes it.',
            ),
            Goal(
                f"There is a backup of {dataset}",
                lambda: "" if _backups(site, dataset) else f"SnapInfo has no backup of {dataset}",
                f'site.backup("{dataset}") is the flow.',
            ),
            Goal(
                "The newest backup holds all of them, at one point in time",
                point,
                "The evidence of the result says what the volumes have in common. A volume can be in one consistency "
                f"group only: does some group, say {_LEFTOVER_GROUP}, hold one of them? See "
                "site.tools().storage.grouped_volumes() and site.tools().storage.discard_group(name). "
                "Then take another backup.",
            ),
            Goal(
                "Each volume has exactly one Snapshot copy of that name, taken at the same moment",
                copies,
                "Compare create_time in site.snapshots().",
            ),
        ),
        prepare,
    )


def sql_server_test(site: Site, *, vm: str = "sql02", golden: str = "golden") -> Exercise:
    """The SQL Server test of the TR's appendix (Table 4) on a VM of the reader's own."""

    def holding() -> list[Backup]:
        machine = _vm(site, vm)
        if machine is None:
            return []
        return [b for b in site.tools().snapinfo.backups() if machine.id in {entry.id for entry in b.vms}]

    def databases() -> str:
        sql = site.tools().sql
        for name in sql.databases(vm):
            if (rows := sql.count(vm, name)) != ROWS:
                return f"{name} holds {rows} rows"
            if not (found := sql.checkdb(vm, name)).ok:
                return f"DBCC CHECKDB of {name}: {found.finding}"
        return ""

    def copies() -> str:
        backups, taken = holding(), site.snapshots()
        kept = {(row.volume, row.snapshot) for row in taken.itertuples()}
        gone = [b.name for b in backups if not {(lun.volume, lun.snapshot) for lun in b.luns} <= kept]
        return f"The Snapshot copies of {gone[0]} are gone" if gone else ""

    return Exercise(
        f"the SQL Server test of Table 4 on {vm}",
        "6.7, Table 4",
        (
            *_provisioned(site, vm, golden),
            Goal(
                f"A backup holds {vm} (case 3)",
                lambda: "" if holding() else f"SnapInfo has no backup of {vm}",
                f"First case 1: {ROWS} rows into each database with site.tools().sql.insert(vm, database, rows). "
                "Then make a dataset and run site.backup(...).",
            ),
            Goal(
                "A second backup was taken after the 500 rows of case 4: the safety copy before a restore (TR 10)",
                lambda: "" if len(holding()) > 1 else f"SnapInfo has one backup of {vm}",
                "Insert 500 more rows into each database, then back the dataset up again.",
            ),
            Goal("The Snapshot copies of both backups are there", copies, "Take the backups again."),
            Goal(
                f"Each database holds {ROWS} rows again and DBCC CHECKDB finds no damage (cases 6 to 8)",
                databases,
                f"Restore {vm} from the first backup, not from the safety copy: site.backups() lists both.",
            ),
        ),
    )


def _vm(site: Site, name: str) -> Vm | None:
    try:
        return site.tools().hyperv.vm(name)
    except NotFound:
        return None


def _volume_of(site: Site, vm: str) -> VolumeRef:
    """The volume of a VM's disks. Raises NotFound if they are not all on one volume of the array."""
    tools = site.tools()
    disks = tools.snapdrive.disks()
    homes = {tools.snapdrive.folder_disk(disk.path, disks) for disk in tools.hyperv.vm(vm).disks}
    luns = tools.storage.luns_by_disk({home.unique_id for home in homes if home is not None})
    volumes = {lun.volume for lun in luns.values()}
    if None in homes or len(volumes) != 1:
        raise NotFound(f"The disks of {vm} do not lie on one volume", next_action="Look at site.map().", tr="2.2")
    return volumes.pop()


def _not_cloned(site: Site, vm: str, golden: str) -> str:
    try:
        mine, parent = _volume_of(site, vm).name, _volume_of(site, golden).name
    except NotFound as error:
        return error.message
    table = site.volumes().set_index("name")
    found = table.loc[mine, "parent"]
    return "" if found == parent else f"The volume {mine} is not a FlexClone volume of {parent}"


def _not_running(site: Site, vm: str) -> str:
    state = site.tools().hyperv.vm(vm).state
    return "" if state == "Running" else f"{vm} is {state}"


def _backups(site: Site, dataset: str) -> list[Backup]:
    return [backup for backup in site.tools().snapinfo.backups() if backup.dataset == dataset]
