"""What a site offers for protection: hosts' settings, policies, schedules, retention (TR 5.2, 5.4, 6.1, 6.3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from smhvlab.brake import Brake
from smhvlab.errors import NotAllowed
from smhvlab.frames import frame
from smhvlab.protection.policy import Policy, from_toml
from smhvlab.protection.settings import Settings, load, save
from smhvlab.protection.store import PolicyStore
from smhvlab.snapinfo import Dataset, name_of
from smhvlab.tables import SiteTables
from smhvlab.worker import Worker

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.advisor.site_facts import Facts
    from smhvlab.protection.budget import Budget
    from smhvlab.protection.hosts import Imported
    from smhvlab.protection.report import Report
    from smhvlab.protection.retaining import ApplyRetention, DeleteBackup
    from smhvlab.protection.scheduler import Diary, Ran, Scheduler
    from smhvlab.site import Site

_TIME = "datetime64[us, UTC]"


class Protection(SiteTables):
    """The part of a site that is about policies."""

    @abstractmethod
    def now(self) -> datetime:
        """The site's time."""

    @abstractmethod
    def facts(self) -> Facts:
        """One look at the whole site, for the advisor's rules."""

    # --- hosts

    def settings(self) -> Settings:
        """Reports, mail and AutoSupport of the site (TR 5.4); those of a fresh host if none were saved."""
        return load(self.tools().snapinfo)

    def set_settings(self, settings: Settings) -> Settings:
        """Save settings as the next version of those that they were made from. Raises NameTaken."""
        return save(self.tools().snapinfo, settings)

    def host_check(self, *, snapinfo: str = "", reports: str = "") -> pd.DataFrame:
        """The rules for a host or cluster before it is added (TR 5.3, 5.4); nothing is changed.

        Folders of SnapInfo and reports, ports, licences. Columns: rule, level (error, warning, ok), finding, next, tr.
        By default the present folders are looked at.
        """
        from smhvlab.protection.hosts import check_folders, check_reach

        tools = self.tools()
        folders = snapinfo or tools.snapinfo.folder(), reports or (self.settings().reports if not snapinfo else "")
        types = dict.fromkeys(("rule", "level", "finding", "next", "tr"), "str")
        checks = [*check_folders(tools, *folders), *check_reach(self.facts())]
        return frame([vars(check) for check in checks], types)

    def add_host(self, *, snapinfo: str, settings: Settings) -> Settings:
        """Set the site's host (dedicated VMs) or cluster (shared VMs) up for protection (TR 6.1).

        Args:
            snapinfo: folder on a LUN of its own; files of an earlier one are not moved.
            settings: what it manages, report folder, mail, AutoSupport.

        Raises:
            NotAllowed: a rule is broken.
        """
        from smhvlab.protection.hosts import add_host

        return add_host(self.tools(), self.facts(), snapinfo=snapinfo, settings=settings)

    def unprotected(self) -> pd.DataFrame:
        """VMs in no dataset (TR 5.2). Columns: name, host, state, id."""
        from smhvlab.protection.hosts import unprotected

        types = dict.fromkeys(("name", "host", "state", "id"), "str")
        return frame([dict(zip(types, row, strict=True)) for row in unprotected(self.tools())], types)

    def drift(self) -> pd.DataFrame:
        """The settings of each node (TR 6.1). Columns: value, node, says, same (whether all nodes say that)."""
        from smhvlab.protection.hosts import drift

        types = {"value": "str", "node": "str", "says": "str", "same": "bool"}
        return frame([dict(zip(types, row, strict=True)) for row in drift(self.tools())], types)

    def export_configuration(self, file: str | Path) -> Path:
        """Write settings, datasets and policies to a file of this station (TR 6.1). Raises NotAllowed."""
        from smhvlab.protection.hosts import export

        return export(self.tools(), Path(file))

    def import_configuration(self, file: str | Path) -> Imported:
        """Make settings, datasets and policies those of an export, as new versions (TR 6.1). Raises NotAllowed."""
        from smhvlab.protection.hosts import load_export

        return load_export(self._site(), Path(file))

    # --- datasets

    def create_dataset(self, name: str, vms: Sequence[str], *, description: str = "") -> Dataset:
        """Create a dataset of VMs (TR 5.2).

        Raises:
            NotAllowed: the name does not fit, no VM was named, or a dataset of the name exists.
            NotFound: a VM does not exist, or the host has no SnapInfo settings (TR 5.4).
        """
        from smhvlab.protection.datasets import create

        return create(self.tools(), name, vms, description=description)

    def change_dataset(
        self,
        name: str,
        vms: Sequence[str] | None = None,
        *,
        description: str | None = None,
        version: int | None = None,
    ) -> Dataset:
        """Give a dataset other members or another description; earlier versions stay readable beside it (TR 5.2).

        Args:
            vms: names of its VMs; by default those that it has.
            version: that which the change was made from; by default the present one.

        Raises:
            NotFound: there is no such dataset, or no such VM.
            NotAllowed: no VM is left.
            NameTaken: another console has changed it since that version; it says what is different.
        """
        from smhvlab.protection.datasets import change

        return change(self.tools(), name, vms, description=description, version=version)

    def remove_dataset(self, name: str) -> Dataset:
        """Take a dataset away; its backups and its versions stay, and retention still knows them (TR 5.2).

        Raises:
            NotFound: there is no such dataset.
            NotAllowed: a policy backs it up.
        """
        from smhvlab.protection.datasets import remove

        return remove(self.tools(), name, policies=self._policies().policies())

    # --- policies

    def _policies(self) -> PolicyStore:
        return PolicyStore(self.tools().snapinfo)

    def policies(self) -> pd.DataFrame:
        """Policies (TR 5.2). Columns: name, dataset, consistency, schedule, retention, tag, enabled, version."""
        types = dict.fromkeys(("name", "dataset", "consistency", "schedule", "retention", "tag"), "str")
        rows = [
            {
                "name": policy.name,
                "dataset": policy.dataset,
                "consistency": policy.consistency,
                "schedule": "on demand" if policy.schedule is None else str(policy.schedule),
                "retention": str(policy.retention),
                "tag": policy.tag.value,
                "enabled": policy.enabled,
                "version": policy.version,
            }
            for policy in self._policies().policies()
        ]
        return frame(rows, {**types, "enabled": "bool", "version": "int64"})

    def stored_policies(self) -> list[Policy]:
        """The policies themselves, as ``policies`` shows them."""
        return self._policies().policies()

    def policy(self, name: str) -> Policy:
        """The present version of a policy. Raises NotFound."""
        return self._policies().policy(name)

    def policy_history(self, name: str) -> list[Policy]:
        """Every version of a policy, oldest first."""
        return self._policies().history(name)

    def set_policy(self, policy: Policy | str, *, accept: Collection[str] = (), limit: int | None = None) -> Policy:
        """Save a policy, given as an object or as TOML, as the next version of the one that it was made from (TR 5.2).

        Args:
            accept: ``"snapshot-limit"`` saves a policy that will fill a volume with Snapshot copies.
            limit: Snapshot copies that a volume can hold; see ``budget``.

        Raises:
            NotAllowed: a field does not fit, or two policies of a dataset have one tag and different retention.
            ConfirmationNeeded: a volume will be full of Snapshot copies; the largest retention that fits is named.
            NotFound: the dataset does not exist.
            NameTaken: another console has saved that version meanwhile.
        """
        given = from_toml(policy) if isinstance(policy, str) else policy
        dataset = self.tools().snapinfo.dataset(given.dataset)
        store = self._policies()
        known = store.policies()
        agree(given, known)
        if "snapshot-limit" not in accept:
            from smhvlab.protection.budget import room_for

            others = [policy for policy in known if policy.name.casefold() != given.name.casefold()]
            room_for(self.tools(), given, others, begin=self.now(), limit=limit)
        stored = store.write(replace(given, dataset=dataset.name), now=self.now())
        if stored.version == 1:
            self._scheduler().forget(stored.name)
        return stored

    def remove_policy(self, name: str) -> Policy:
        """Take a policy away; its backups stay, and its versions too. Raises NotFound, NameTaken."""
        store = self._policies()
        return store.remove(store.policy(name), now=self.now())

    # --- schedules

    def schedule(self, *, days: float = 7, policies: Collection[str] | None = None) -> pd.DataFrame:
        """The runs of the coming days in their order (TR 6.3). Columns: time (UTC), policy, dataset, consistency."""
        begin = self.now()
        end = begin + timedelta(days=days)
        rows = [
            {"time": run, "policy": p.name, "dataset": p.dataset, "consistency": p.consistency}
            for p in self._policies().policies()
            if p.schedule is not None and p.enabled and (policies is None or p.name in policies)
            for run in p.schedule.runs(begin, end)
        ]
        rows.sort(key=lambda row: (row["time"], row["policy"]))
        return frame(rows, {"time": _TIME, "policy": "str", "dataset": "str", "consistency": "str"})

    def tasks(self) -> pd.DataFrame:
        """The policies' tasks on the site's host (TR 6.3). Columns: policy, enabled, description."""
        from smhvlab.protection.tasks import tasks

        types = {"policy": "str", "enabled": "bool", "description": "str"}
        return frame([vars(task) for task in tasks(self.tools().host)], types)

    def write_tasks(self, *, site: str = "", partner: str = "") -> list[str]:
        """Make the host's tasks those of the scheduled policies; returns what was done (TR 6.3).

        A task starts ``smhvlab run-due`` on the host, so smhvlab has to be installed there. Where it is not, as on
        a lab's hosts, tasks are kept and start nothing: let the station do it (``run_due``, ``run_until``).

        Args:
            site: what that command is told as ``--site``; the name of this profile by default.
            partner: as ``--partner``: the site that has the mirrors; by default the one that this site is coupled with.
        """
        from smhvlab.protection.tasks import write_tasks

        name = site or self._site().name
        coupled = self._site().partner
        other = partner or ("" if coupled is None else coupled.name)
        policies = self._policies().policies()
        return write_tasks(self.tools().host, policies, site=name, partner=other, begin=self.now())

    # --- retention

    def retention(self, dataset: str | None = None) -> pd.DataFrame:
        """What retention would do now; nothing is changed (TR 6.3).

        Columns: backup, dataset, tag, time (UTC), verdict (keep, delete, held, last verified), why.
        """
        from smhvlab.protection.retaining import preview

        types = {"backup": "str", "dataset": "str", "tag": "str", "time": _TIME, "verdict": "str", "why": "str"}
        rows = [
            {
                "backup": judged.backup.name,
                "dataset": judged.backup.dataset,
                "tag": judged.backup.tag or "on demand",
                "time": judged.backup.time,
                "verdict": judged.verdict.value,
                "why": judged.why,
            }
            for judged in preview(self.tools(), self._policies().policies(), now=self.now(), dataset=dataset)
        ]
        return frame(rows, types)

    def retain(self, dataset: str) -> ApplyRetention:
        """Retention of a dataset (TR 6.3): a Flow; nothing has happened yet. Every backup runs it by itself."""
        from smhvlab.protection.retaining import ApplyRetention

        return ApplyRetention(self, dataset=dataset)

    def delete_backup(self, backup: str) -> DeleteBackup:
        """Delete a backup by hand (TR 6.3), one on demand or any other: a Flow; nothing has happened yet."""
        from smhvlab.protection.retaining import DeleteBackup

        return DeleteBackup(self, backup=name_of(backup))

    def budget(self, *, days: float = 30, what_if: Sequence[Policy | str] = (), limit: int | None = None) -> Budget:
        """What the policies will do to each volume's Snapshot copies, and when that breaks; reads only (TR 6.3).

        Args:
            what_if: policies that are not saved, as objects or TOML; they replace saved ones of the same name.
            limit: Snapshot copies that a volume can hold; 255 (the TR's) by default, ONTAP 9.4 and later hold 1,023.

        Raises:
            NotAllowed: a policy of ``what_if`` cannot work. NotFound: its dataset does not exist.
        """
        from smhvlab.protection.budget import budget

        added = [from_toml(policy) if isinstance(policy, str) else policy for policy in what_if]
        names = {policy.name.casefold() for policy in added}
        saved = [policy for policy in self._policies().policies() if policy.name.casefold() not in names]
        return budget(self.tools(), [*saved, *added], begin=self.now(), days=days, limit=limit)

    def overlaps(self, *, days: float = 7) -> pd.DataFrame:
        """Policies that run at the same time on the same volume or host (TR 6.2, 6.3, 14).

        Columns: first, second, shared, at (the first time, UTC), times. A policy overlaps with itself if a run takes
        longer than the time to the next, by the model of the TR's Table 6.
        """
        from smhvlab.protection.budget import jobs
        from smhvlab.protection.schedule import overlaps

        begin = self.now()
        found = overlaps(jobs(self.tools(), self._policies().policies()), begin, begin + timedelta(days=days))
        rows = [
            {"first": o.first, "second": o.second, "shared": ", ".join(o.shared), "at": o.at, "times": o.times}
            for o in found
        ]
        return frame(rows, {"first": "str", "second": "str", "shared": "str", "at": _TIME, "times": "int64"})

    def report(self, folder: str | Path | None = None, *, days: float = 30, diary: Diary | None = None) -> Report:
        """Write a report: one HTML file that opens offline, and each table as CSV (TR 5.4).

        Args:
            folder: of this station; None: the report folder of the host, as its settings name it, in a folder named
                by the time.
            days: how far the Snapshot budget looks ahead.
            diary: runs to tell of.

        Raises:
            NotAllowed: the folder cannot be written, or the host has none set. PowerShellError: the host refuses.
        """
        from smhvlab.protection.report import write, write_to_host

        if folder is None:
            return write_to_host(self._site(), days=days, diary=diary)
        return write(self._site(), Path(folder), days=days, diary=diary)

    # --- living by the schedule

    def due(self) -> pd.DataFrame:
        """What ``run_due`` would run now. Columns: due (UTC), policy, dataset, missed (older ones left out)."""
        rows = [
            {"due": run.due, "policy": run.policy.name, "dataset": run.policy.dataset, "missed": run.missed}
            for run in self._scheduler().due()
        ]
        return frame(rows, {"due": _TIME, "policy": "str", "dataset": "str", "missed": "int64"})

    def run_due(
        self, *, only: Sequence[str] = (), wait: timedelta = timedelta(), on_run: Callable[[Ran], None] | None = None
    ) -> Diary:
        """Run every policy that is due, each once however often it was missed (TR 6.3).

        Args:
            only: names of policies; all by default.
            wait: how long another scheduler of the site may go on first, by this machine's clock.
            on_run: told of each run at its end.

        Raises:
            NotAllowed: another process of this user schedules the site, and went on for longer.
        """
        return self._scheduler(on_run).run_due(only=only, wait=wait)

    def run_until_sync(self, when: datetime | timedelta, *, on_run: Callable[[Ran], None] | None = None) -> Diary:
        """Live by the schedule until a moment, or for a time, of the site: in a lab weeks pass in seconds.

        Args:
            on_run: told of each run at its end.

        Raises:
            NotAllowed: another process of this user schedules the site.
            Cancelled: the runs before stay done.
        """
        until = self.now() + when if isinstance(when, timedelta) else when
        return self._scheduler(on_run).run_until(until)

    async def run_until(self, when: datetime | timedelta, *, on_run: Callable[[Ran], None] | None = None) -> Diary:
        """As ``run_until_sync``, in a thread of its own; an interrupt cancels, and is raised after the undo."""
        site, brake = self._site(), Brake()

        def live() -> Diary:
            with site.control.obeying(brake):
                return self.run_until_sync(when, on_run=on_run)

        worker = Worker("smhvlab: schedule", ready=brake.release, cancel=brake.pull, leave=site.release)
        return await worker.aside(live)

    def _scheduler(self, on_run: Callable[[Ran], None] | None = None) -> Scheduler:
        from smhvlab.protection.scheduler import Scheduler

        return Scheduler(self._site(), on_run=on_run)

    def _site(self) -> Site:
        return cast("Site", self)


def agree(policy: Policy, others: Sequence[Policy]) -> None:
    """Refuse a second retention for backups of one dataset and tag: nobody could tell which of them counts."""
    for other in others:
        if other.name.casefold() == policy.name.casefold() or other.dataset.casefold() != policy.dataset.casefold():
            continue
        mine, theirs = policy.retention, other.retention
        if other.tag is policy.tag and (mine.keep, mine.days) != (theirs.keep, theirs.days):
            raise NotAllowed(
                f"Policy {policy.name}: retention differs from that of {other.name}, which has the tag {other.tag} too",
                why=f"backups of one tag are counted together: {mine} here, {theirs} there",
                next_action=f"Keep {theirs} here too, or give this policy another retention.tag.",
                tr="6.3",
            )
