"""Backups that are deleted: by retention, as a preview and as a flow, or by hand (TR 6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from typing import Final

from smhvlab.errors import NotAllowed, NotFound
from smhvlab.procedure import Procedure
from smhvlab.protection.policy import Policy
from smhvlab.protection.retention import (
    Doomed,
    Judged,
    RetentionDone,
    Verdict,
    choose,
    copies_of,
    delete_copies,
    holders,
    judge,
    known_backups,
    names_of,
    rules_of,
    snapinfo_count,
    snapinfo_volume,
    volumes_of,
)
from smhvlab.protection.store import PolicyStore
from smhvlab.record import Confirmation
from smhvlab.restore.announced import Announcements, restored_from
from smhvlab.steps import step
from smhvlab.tables import Tools

_NAMED: Final = 5  # lost backups that are told by name; the first step lists them all


def preview(tools: Tools, policies: Sequence[Policy], *, now: datetime, dataset: str | None = None) -> list[Judged]:
    """What retention would do with each backup, oldest first; reads only."""
    catalogue, announced = known_backups(tools)
    names = dict.fromkeys(b.dataset for b in (*catalogue.backups, *catalogue.deleted))
    wanted = [name for name in names if dataset is None or name.casefold() == dataset.casefold()]
    found: list[Judged] = []
    for name in wanted:
        mine = [b for b in catalogue.backups if b.dataset == name]
        judged = judge(mine, rules_of(policies, name), now=now, verified=catalogue.verified)
        begun = [b for b in catalogue.deleted if b.dataset == name]
        judged += [Judged(b, Verdict.DELETE, "its deletion was begun before") for b in begun]
        going = [j.backup for j in judged if j.verdict is Verdict.DELETE]
        copies = copies_of(tools.storage, going, tools.storage.snapshots_of(volumes_of(going)))
        restored = restored_from(announced, going)
        for one in judged:
            why = restored.get(one.backup.name, "") or holders(copies.get(one.backup.name, ()))
            found.append(replace(one, verdict=Verdict.HELD, why=f"{one.why}; {why}") if why else one)
    return sorted(found, key=lambda j: (j.backup.time, j.backup.name))


@dataclass(frozen=True)
class RetentionState:
    """What one run deletes; ``busy`` are backups with a copy that was held when its deletion came."""

    dataset: str
    doomed: Doomed
    busy: tuple[tuple[str, str], ...] = ()
    copies: int = 0
    asks: tuple[str, ...] = ()


def _needed(name: str, why: str) -> NotAllowed:
    return NotAllowed(
        f"{name} cannot be deleted now",
        why=why,
        next_action="Wait for the end of the restore, or clear its announcement if nobody will ever finish it: "
        "smhvlab doctor --clear VM.",
        tr="6.3, 6.7",
    )


class _Deletion(Procedure[RetentionState]):
    """The steps by which backups are deleted, whoever has chosen them."""

    tr = "6.3"

    def losses(self, state: RetentionState) -> Sequence[str]:
        """The backups from which nothing can be restored afterwards."""
        names = [backup.name for backup in state.doomed.backups]
        if not names:
            return ()
        rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return (f"Nothing can be restored afterwards from {', '.join(names[:_NAMED])}{rest}.",)

    @step(
        "Take the backups out of the list",
        tr="6.3",
        items=lambda s: tuple(b.name for b in s.doomed.backups),
        when=lambda s: bool(s.doomed.backups),
        otherwise="no backup is to be deleted",
    )
    def mark(self, s: RetentionState) -> None:
        self.snapinfo.mark_deleted(s.doomed.fresh)

    @mark.undo
    def unmark(self, s: RetentionState) -> None:
        """Of those whose deletion an earlier run has begun nothing may be left: they are not offered again."""
        self.snapinfo.unmark_deleted(s.doomed.fresh)

    @step(
        "Delete their Snapshot copies",
        tr="6.3",
        items=lambda s: tuple(str(copy) for copy in s.doomed.copies),
        counts=lambda s: {"ontap.snapshot.delete": len(s.doomed.copies)},
        when=lambda s: bool(s.doomed.copies),
        otherwise="none is left",
        pivot=True,
    )
    def delete(self, s: RetentionState) -> RetentionState:
        busy = delete_copies(self.storage, s.doomed.copies)
        late = {b.name: why for b in s.doomed.backups for copy, why in busy.items() if copy.name in names_of(b)}
        return replace(s, busy=tuple(late.items()), copies=len(s.doomed.copies) - len(busy))

    @delete.before
    def look_for_restores(self, s: RetentionState) -> None:
        """Nobody has begun to restore from one of them since the survey: its mark was not there yet to be seen."""
        for name, why in restored_from(Announcements(self.snapinfo).all(), s.doomed.backups).items():
            raise _needed(name, why)

    @step(
        "Remove their files from SnapInfo",
        tr="6.3",
        items=lambda s: tuple(f"{b.name}.json" for b in s.doomed.backups),
        when=lambda s: bool(s.doomed.backups),
        otherwise="no backup was deleted",
        pivot=True,
    )
    def forget(self, s: RetentionState) -> None:
        self.snapinfo.forget([b for b in s.doomed.backups if b.name not in dict(s.busy)])

    @step(
        "Delete the oldest Snapshot copies of the SnapInfo LUN",
        tr="6.3",
        items=lambda s: tuple(str(copy) for copy in s.doomed.surplus),
        counts=lambda s: {"ontap.snapshot.delete": len(s.doomed.surplus)},
        when=lambda s: bool(s.doomed.surplus),
        otherwise="there are not more than are kept",
        pivot=True,
    )
    def trim(self, s: RetentionState) -> RetentionState:
        busy = delete_copies(self.storage, s.doomed.surplus)
        return replace(s, copies=s.copies + len(s.doomed.surplus) - len(busy))


class ApplyRetention(_Deletion):
    """Delete what the policies of a dataset no longer keep."""

    def __init__(self, site: object, *, dataset: str) -> None:
        super().__init__(site, dataset=dataset)
        self.dataset = dataset

    def survey(self) -> RetentionState:
        """Judge the dataset's backups and look for what holds their copies. Raises NotFound: no such dataset."""
        tools = self.site.tools()
        dataset = self.snapinfo.dataset(self.dataset).name
        doomed = choose(
            tools,
            dataset,
            rules_of(PolicyStore(self.snapinfo).policies(), dataset),
            now=self.site.now(),
            volume=snapinfo_volume(tools),
            keep_snapinfo=snapinfo_count(tools.nodes),
        )
        return RetentionState(dataset, doomed)

    def result(self, state: RetentionState) -> RetentionDone:
        """What was deleted, and what had to stay."""
        late = dict(state.busy)
        return RetentionDone(
            deleted=tuple(b.name for b in state.doomed.backups if b.name not in late),
            held=state.doomed.held + state.busy,
            kept_verified=state.doomed.kept_verified,
            snapinfo_deleted=tuple(copy.name for copy in state.doomed.surplus),
            copies=state.copies,
        )


@dataclass(frozen=True)
class BackupDeleted:
    """A backup that is gone, with how many Snapshot copies; ``busy``: what keeps the rest until retention runs."""

    backup: str
    copies: int
    busy: str = ""

    def __str__(self) -> str:
        rest = f"; {self.busy}: the rest goes when retention runs" if self.busy else ""
        return f"{self.backup} is deleted, with {self.copies} Snapshot copies{rest}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


class DeleteBackup(_Deletion):
    """Delete a backup."""

    def __init__(self, site: object, *, backup: str) -> None:
        super().__init__(site, backup=backup)
        self.backup = backup

    def survey(self) -> RetentionState:
        """Find the backup's Snapshot copies, and what holds them.

        Raises:
            NotFound: there is no such backup.
            NotAllowed: it is mounted, cloned, or the common Snapshot copy of a mirror, or a VM is restored from it.
        """
        catalogue, announced = known_backups(self.site.tools())
        known = (*catalogue.backups, *catalogue.deleted)
        chosen = next((each for each in known if each.name.casefold() == self.backup.casefold()), None)
        if chosen is None:
            raise NotFound(f"There is no backup {self.backup}", next_action="Look at the list of backups.", tr="6.3")
        for name, why in restored_from(announced, [chosen]).items():
            raise _needed(name, why)
        copies = copies_of(self.storage, [chosen], self.storage.snapshots_of(volumes_of([chosen])))[chosen.name]
        if held := holders(copies):
            raise NotAllowed(
                f"{chosen.name} cannot be deleted now",
                why=held,
                next_action="Unmount it, or delete it after the next update of the mirror.",
                tr="6.3",
            )
        others = [each for each in catalogue.backups if each.dataset == chosen.dataset and each != chosen]
        asks = ["last-backup"] if not others else []
        if chosen.name in catalogue.verified and not any(each.name in catalogue.verified for each in others):
            asks.append("last-verified")
        begun = (chosen.name,) if chosen in catalogue.deleted else ()
        return RetentionState(chosen.dataset, Doomed((chosen,), tuple(copies), begun=begun), asks=tuple(asks))

    def confirmations(self, state: RetentionState) -> Sequence[Confirmation]:
        """Whether the dataset may be left without a backup, or without a verified one."""
        texts = {
            "last-backup": f"{state.dataset} has no other backup: nothing of it can be restored afterwards",
            "last-verified": f"{state.dataset} has no other verified backup; retention would keep this one",
        }
        return [Confirmation(key=key, text=texts[key], tr="6.3") for key in state.asks]

    def result(self, state: RetentionState) -> BackupDeleted:
        """What was deleted, and what had to stay."""
        name = state.doomed.backups[0].name
        return BackupDeleted(name, state.copies, dict(state.busy).get(name, ""))
