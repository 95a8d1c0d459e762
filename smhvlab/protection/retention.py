"""Retention: which backups of a tag go, and how their Snapshot copies and SnapInfo files are deleted (TR 6.3).

The order is the TR's: the new backup first, then the old ones. A backup that is to go is first marked in SnapInfo, so
that nobody restores from half of it; then its Snapshot copies go, then its files. Copies that something holds (a
mounted backup, a clone, a mirror) are left, and tried again next time. Only copies that SnapInfo knows, or that are
named ``<Dataset>_MM-dd-yyyy_HH.mm.ss`` or ``..._backup`` of a backup that SnapInfo knows, are ever deleted.

A backup from which some station restores is held too. Each side writes before it looks: a deletion its mark, a restore
its announcement. So one of two that begin at the same moment sees the other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from html import escape
from typing import Any, Final

from netapp_ontap.resources.snapshot import Snapshot

from smhvlab.dr.replication import Replication
from smhvlab.errors import NotFound, OntapError
from smhvlab.nodes import REGISTRY, Nodes
from smhvlab.protection.policy import Policy, Retention
from smhvlab.restore.announced import PART, Announced, Announcements, restored_from
from smhvlab.snapinfo import Backup, Catalogue
from smhvlab.storage import GONE, Storage, VolumeRef
from smhvlab.tables import Tools

SNAPINFO_COPIES: Final = 30
"""Snapshot copies of the SnapInfo LUN that are kept unless the registry says otherwise (TR 6.3)."""

_CLUSTER_REGISTRY: Final = REGISTRY.replace("HKLM:\\", "HKLM:\\Cluster\\")
_COUNT: Final = "snapinfo_snaps_count"
_STAMP: Final = r"\d\d-\d\d-\d{4}_\d\d\.\d\d\.\d\d"
_BUSY: Final = frozenset({"1638555", "1638543"})
SECOND_COPY: Final = "_backup"
"""What an application-consistent backup's second Snapshot copy has behind the backup's name (TR 6.2)."""


class Verdict(StrEnum):
    """What retention does with a backup."""

    KEEP = "keep"
    DELETE = "delete"
    HELD = "held"
    LAST_VERIFIED = "last verified"


@dataclass(frozen=True)
class Judged:
    """A backup and what becomes of it."""

    backup: Backup
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Copy:
    """One Snapshot copy of a backup."""

    volume: VolumeRef
    name: str
    uuid: str
    owners: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.volume}: {self.name}"


@dataclass(frozen=True)
class RetentionDone:
    """What a run of retention did.

    Attributes:
        deleted: names of the backups that are gone.
        held: names of those that had to stay, each with what holds it.
        kept_verified: the backup that stayed because no other verified one is left, "" if none did.
        snapinfo_deleted: names of deleted Snapshot copies of the SnapInfo LUN.
        copies: how many Snapshot copies were deleted, those of SnapInfo included.
    """

    deleted: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    kept_verified: str = ""
    snapinfo_deleted: tuple[str, ...] = ()
    copies: int = 0

    def __str__(self) -> str:
        lines = [f"Retention: {len(self.deleted)} backups and {self.copies} Snapshot copies deleted"]
        lines += [f"  {name} stays for now: {why}" for name, why in self.held]
        if self.kept_verified:
            lines.append(f"  {self.kept_verified} stays: it is the last verified backup")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, *rest = str(self).splitlines()
        return f"<p>{escape(head)}</p><ul>{''.join(f'<li>{escape(line.strip())}</li>' for line in rest)}</ul>"


# --- which backups go ------------------------------------------------------------------------------------------------


def judge(
    backups: Sequence[Backup], rules: Mapping[str, Retention], *, now: datetime, verified: Collection[str] = ()
) -> list[Judged]:
    """What becomes of each backup of one dataset, in the given order (TR 6.3).

    Args:
        backups: all of one dataset, of every tag.
        rules: by tag; backups of a tag without a rule stay.
        now: the moment from which ages are counted.
        verified: names of the backups that were verified.
    """
    reasons: dict[str, str] = {}
    for tag, rule in rules.items():
        mine = sorted((b for b in backups if b.tag == tag), key=lambda b: (b.time, b.name))
        if rule.keep is not None:
            reasons |= {
                b.name: f"{tag}: more than the newest {rule.keep}" for b in mine[: max(0, len(mine) - rule.keep)]
            }
        elif rule.age is not None:
            old = [b for b in mine if now - datetime.fromisoformat(b.time) > rule.age]
            reasons |= {b.name: f"{tag}: older than {rule.days:g} days" for b in old}
    last = _last_verified(backups, reasons, verified)
    found = []
    for backup in backups:
        if backup.name == last:
            found.append(Judged(backup, Verdict.LAST_VERIFIED, "no other verified backup would be left"))
        elif backup.name in reasons:
            found.append(Judged(backup, Verdict.DELETE, reasons[backup.name]))
        else:
            found.append(Judged(backup, Verdict.KEEP, _why_kept(backup, rules)))
    return found


def _last_verified(backups: Sequence[Backup], going: Collection[str], verified: Collection[str]) -> str:
    """The newest verified backup, if every verified one would go; else ""."""
    known = [b for b in backups if b.name in verified]
    if not known or any(b.name not in going for b in known):
        return ""
    return max(known, key=lambda b: (b.time, b.name)).name


def _why_kept(backup: Backup, rules: Mapping[str, Retention]) -> str:
    if not backup.tag:
        return "on demand: deleted by hand only (delete-backup)"
    rule = rules.get(backup.tag)
    return f"no policy has the tag {backup.tag}" if rule is None else f"{backup.tag}: {rule}"


def rules_of(policies: Sequence[Policy], dataset: str) -> dict[str, Retention]:
    """Retention by tag, of the policies of a dataset."""
    return {p.tag.value: p.retention for p in policies if p.dataset.casefold() == dataset.casefold() and not p.removed}


# --- the Snapshot copies of a backup ---------------------------------------------------------------------------------


def is_ours(name: str, dataset: str) -> bool:
    """Whether a Snapshot copy has a name that a backup of the dataset gives."""
    return re.fullmatch(rf"{re.escape(dataset)}_{_STAMP}(?:{SECOND_COPY})?", name) is not None


def names_of(backup: Backup) -> frozenset[str]:
    """Names that the Snapshot copies of a backup can have: those that SnapInfo knows, and the first of each pair."""
    known = {lun.snapshot for lun in backup.luns if lun.snapshot}
    known |= {name.removesuffix(SECOND_COPY) for name in known}
    by_rule = {backup.name, backup.name + SECOND_COPY} if is_ours(backup.name, backup.dataset) else set()
    return frozenset(known | by_rule)


def copies_of(
    storage: Storage, backups: Sequence[Backup], records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, list[Copy]]:
    """The Snapshot copies that are there of each backup, by its name.

    Those of a backup that was made at the other site are in the mirror's destination (TR 8).

    Args:
        records: of ``volumes_of`` the backups, by volume (``snapshots_of``).
    """
    ours = {name for backup in backups for name in names_of(backup)}
    listed = {
        volume.uuid: [_copy(volume, record) for record in records[volume.uuid]] or _elsewhere(storage, volume, ours)
        for volume in volumes_of(backups)
    }
    return {
        backup.name: [
            copy
            for uuid in dict.fromkeys(lun.volume_uuid for lun in backup.luns)
            for copy in listed[uuid]
            if copy.name in names_of(backup)
        ]
        for backup in backups
    }


def _elsewhere(storage: Storage, volume: VolumeRef, names: Collection[str]) -> list[Copy]:
    """The Snapshot copies of what this array has in place of a volume, those of a mirror's destination held by it.

    All of them until it is broken off, since they go with those of its source; then the one from which a resync begins:
    it is the newest of ``names`` if the relationship does not tell.
    """
    mirrors, known = Replication(storage), (volume.svm, volume.name)
    try:
        here = storage.present(volume.uuid, name=volume.name, svm=volume.svm)
        if here.uuid == volume.uuid:
            return []
    except NotFound:
        ends = [m.destination for m in mirrors.mirrors() if (m.source.svm, m.source.volume) == known]
        ends += [m.source for m in mirrors.outgoing() if (m.destination.svm, m.destination.volume) == known]
        found = [there for end in ends if (there := storage.volume(end.volume, svm=end.svm)) is not None]
        if not found:
            return []
        here = found[0]
    mirror = mirrors.into(here.name, svm=here.svm)
    records = sorted(storage.snapshots(here), key=lambda record: str(record["create_time"]))
    copies = [_copy(here, record) for record in records]
    if mirror is None:
        return copies
    base = mirror.snapshot or next((copy.name for copy in reversed(copies) if copy.name in names), "")
    return [
        replace(copy, owners=(*copy.owners, f"the mirror {mirror}")) if not mirror.broken or copy.name == base else copy
        for copy in copies
    ]


def volumes_of(backups: Sequence[Backup]) -> list[VolumeRef]:
    """The volumes that hold Snapshot copies of backups."""
    return list({VolumeRef(lun.volume_uuid, lun.volume, lun.svm): None for b in backups for lun in b.luns})


def _copy(volume: VolumeRef, record: Mapping[str, Any]) -> Copy:
    return Copy(volume, record["name"], record["uuid"], tuple(record.get("owners", ())))


def holders(copies: Sequence[Copy]) -> str:
    """What holds any of the copies, in words; "" if nothing does."""
    return "; ".join(f"{copy} is held by {', '.join(copy.owners)}" for copy in copies if copy.owners)


def delete_copies(storage: Storage, copies: Sequence[Copy]) -> dict[Copy, str]:
    """Delete Snapshot copies in one wave; returns those that had become busy, with the array's words.

    Raises:
        JobFailed, UnknownOutcome: another failure; the other copies are deleted first.
    """
    pending = []
    for copy in copies:
        try:
            gone = storage.wire.remove(Snapshot, {"volume": {"uuid": copy.volume.uuid}, "uuid": copy.uuid})
            pending.append((copy, gone))
        except OntapError as error:
            if error.code != GONE:
                raise
    busy: dict[Copy, str] = {}
    other = []
    failures = storage.wire.settle([job for _, job in pending])
    for (copy, _), failure in zip(pending, failures, strict=True):
        if failure is None or failure.code == GONE:
            continue
        if failure.code in _BUSY:
            busy[copy] = failure.message
        else:
            other.append(failure)
    if other:
        raise other[0]
    return busy


# --- SnapInfo's own Snapshot copies ----------------------------------------------------------------------------------


def snapinfo_count(nodes: Nodes) -> int:
    """How many Snapshot copies of the SnapInfo LUN are kept: ``snapinfo_snaps_count`` (TR 6.3).

    It is looked for below ``Server\\<host or cluster>`` and then in ``Server`` itself, of the cluster's part of the
    registry on a cluster; 30 if it is nowhere.
    """
    node = nodes.own()
    base = _CLUSTER_REGISTRY if nodes.cluster else REGISTRY
    keys = [f"{base}\\{nodes.cluster or node.name}", base]
    found = node.host.run("Get-ItemProperty", {"LiteralPath": keys}, select=("PSPath", _COUNT), error_action="Continue")
    counts = {str(record["PSPath"]).casefold(): record[_COUNT] for record in found}
    for key in keys:
        ending = key.partition(":")[2].casefold()
        for path, count in counts.items():
            if path.endswith(ending) and count is not None:
                return max(1, int(count))
    return SNAPINFO_COPIES


def surplus(
    volume: VolumeRef, records: Sequence[Mapping[str, Any]], datasets: Collection[str], *, keep: int
) -> list[Copy]:
    """The Snapshot copies of SnapInfo's volume beyond the newest ``keep``, oldest first; others' are not looked at."""
    mine = [
        (record["create_time"], record["name"], record)
        for record in records
        if any(is_ours(record["name"], dataset) for dataset in datasets)
    ]
    ordered = [record for _, _, record in sorted(mine, key=lambda entry: entry[:2])]
    return [_copy(volume, record) for record in ordered[: max(0, len(ordered) - keep)]]


def snapinfo_volume(tools: Tools) -> VolumeRef:
    """The volume of the SnapInfo LUN. Raises NotFound."""
    disk = tools.snapdrive.folder_disk(tools.snapinfo.folder() + "\\", tools.snapdrive.disks())
    luns = tools.storage.luns_by_disk([disk.unique_id] if disk is not None else [])
    if disk is None or disk.unique_id not in luns:
        raise NotFound(
            f"The SnapInfo folder {tools.snapinfo.folder()} is not on a LUN of the array",
            next_action="Put it on a LUN of its own: site.set_snapinfo(...).",
            tr="5.4",
        )
    return luns[disk.unique_id].volume


# --- all of it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Doomed:
    """What a run of retention will delete, chosen before anything is.

    Attributes:
        backups: to delete, those whose deletion has begun before included, oldest first.
        copies: their Snapshot copies.
        held: backups that something holds, with what it is; they are not touched.
        surplus: Snapshot copies of the SnapInfo LUN.
        begun: names of those of the backups whose deletion has begun before.
    """

    backups: tuple[Backup, ...] = ()
    copies: tuple[Copy, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    kept_verified: str = ""
    surplus: tuple[Copy, ...] = field(default=())
    begun: tuple[str, ...] = ()

    @property
    def fresh(self) -> tuple[Backup, ...]:
        """The backups whose deletion begins with this run."""
        return tuple(backup for backup in self.backups if backup.name not in self.begun)


def choose(
    tools: Tools,
    dataset: str,
    rules: Mapping[str, Retention],
    *,
    now: datetime,
    volume: VolumeRef,
    keep_snapinfo: int,
) -> Doomed:
    """What retention would delete of a dataset now; reads only.

    Args:
        rules: by tag.
        volume: that of the SnapInfo LUN.
        keep_snapinfo: how many of its Snapshot copies stay.
    """
    known, announced = known_backups(tools)
    mine = [b for b in known.backups if b.dataset == dataset]
    judged = judge(mine, rules, now=now, verified=known.verified)
    begun = [b for b in known.deleted if b.dataset == dataset]
    going = begun + [j.backup for j in judged if j.verdict is Verdict.DELETE]
    records = tools.storage.snapshots_of([*volumes_of(going), volume])
    copies = copies_of(tools.storage, going, records)
    held = {b.name: why for b in going if (why := holders(copies[b.name]))} | restored_from(announced, going)
    free = [b for b in going if b.name not in held]
    datasets = {b.dataset for b in (*known.backups, *known.deleted)} | {dataset}
    extra = surplus(volume, records[volume.uuid], datasets, keep=keep_snapinfo)
    return Doomed(
        backups=tuple(free),
        copies=tuple(copy for b in free for copy in copies[b.name]),
        held=tuple(held.items()),
        kept_verified=next((j.backup.name for j in judged if j.verdict is Verdict.LAST_VERIFIED), ""),
        surplus=tuple(copy for copy in extra if not copy.owners),
        begun=tuple(b.name for b in begun),
    )


def known_backups(tools: Tools) -> tuple[Catalogue, list[Announced]]:
    """What SnapInfo knows of backups, and of restores from them; one listing for both."""
    listed = tools.snapinfo.files("Backups", PART)
    return tools.snapinfo.catalogue(listed), Announcements(tools.snapinfo).all(listed)


def carry_out(tools: Tools, doomed: Doomed) -> RetentionDone:
    """Delete what was chosen; safe to repeat, a copy or a file that is gone already is no error."""
    tools.snapinfo.mark_deleted(doomed.backups)
    doomed = _spared(tools, doomed)
    busy = delete_copies(tools.storage, (*doomed.copies, *doomed.surplus))
    late: dict[str, list[str]] = defaultdict(list)
    for copy, why in busy.items():
        for backup in doomed.backups:
            if copy.name in names_of(backup):
                late[backup.name].append(why)
    gone = [b for b in doomed.backups if b.name not in late]
    tools.snapinfo.forget(gone)
    return RetentionDone(
        deleted=tuple(b.name for b in gone),
        held=doomed.held + tuple((name, "; ".join(why)) for name, why in late.items()),
        kept_verified=doomed.kept_verified,
        snapinfo_deleted=tuple(copy.name for copy in doomed.surplus if copy not in busy),
        copies=len(doomed.copies) + len(doomed.surplus) - len(busy),
    )


def _spared(tools: Tools, doomed: Doomed) -> Doomed:
    """Without the backups of which a restore was announced since they were chosen: these are offered again."""
    late = restored_from(Announcements(tools.snapinfo).all(), doomed.backups) if doomed.backups else {}
    if not late:
        return doomed
    tools.snapinfo.unmark_deleted([b for b in doomed.fresh if b.name in late])
    free = tuple(b for b in doomed.backups if b.name not in late)
    mine = {name for b in free for name in names_of(b)}
    return replace(
        doomed,
        backups=free,
        copies=tuple(copy for copy in doomed.copies if copy.name in mine),
        held=(*doomed.held, *late.items()),
    )


def retain(
    tools: Tools,
    dataset: str,
    rules: Mapping[str, Retention],
    *,
    now: datetime,
    volume: VolumeRef,
) -> RetentionDone:
    """Retention after a backup (TR 6.3): what the backup's last step calls. See ``choose`` and ``carry_out``."""
    keep = snapinfo_count(tools.nodes)
    return carry_out(tools, choose(tools, dataset, rules, now=now, volume=volume, keep_snapinfo=keep))
