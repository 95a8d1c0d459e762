"""What a shadow copy set left behind on its site: events of the hosts, requests, changes on the array, writers' states.

Only what any real site tells is asked by default: the Application, Hyper-V and System logs of each node, the array's
audit log, and the times of its Snapshot copies. A host that also keeps a trace of VSS can be asked for that (TR 9).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from smhvlab.backup.eventlog import SOURCE
from smhvlab.backup.evidence import WriterState
from smhvlab.backup.shadowsigns import Lane, ShadowLog, Sign, budgets, commits, took_part
from smhvlab.errors import NotFound, OntapError, PowerShellError
from smhvlab.nodes import Node
from smhvlab.storage import Storage, VolumeRef
from smhvlab.vss import COMMITTED, REFUSED, TOO_LATE, Vss

if TYPE_CHECKING:
    from smhvlab.tables import Tools
    from smhvlab.wires.log import WireEntry

TRACE: Final = "SmhvLab-VSS-Trace"
"""Log in which a host traces every step of VSS; hosts that do not keep it simply lack it."""

_VMMS: Final = "Microsoft-Windows-Hyper-V-VMMS-Admin"
_WORKER: Final = "Microsoft-Windows-Hyper-V-Worker-Admin"
_NOTHING: Final = frozenset({"NoMatchingEventsFound", "NoMatchingLogsFound", "NoMatchingProvidersFound"})
_LONGEST, _BEFORE, _AFTER = timedelta(hours=1), timedelta(minutes=2), timedelta(minutes=1)
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BEGINS: Final = frozenset({"create", "cut"})
"""The steps of a backup that begin sets or checkpoints; others only ask the writers."""
_ASKED: Final = frozenset({"diskshadow.exe", "Checkpoint-VM", "Remove-VMSnapshot"})
"""What a requestor starts on a host, alone or as the second half of a pair."""

_HARMLESS: Final = frozenset({8194, 8224})  # callback denied, and VSS going idle: in the log of most healthy hosts


# --- reading a site


def look(
    tools: Tools,
    backup: str | None = None,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    trace: bool = False,
) -> ShadowLog:
    """The signs of one backup, of a span of time, or of the newest set that an event log or the wire log tells of.

    Raises:
        NotFound: there is no such backup, or no event log tells of any set.
    """
    if backup is not None:
        known = tools.snapinfo.backup(backup)
        volumes = [
            tools.storage.present(uuid, name=name, svm=svm)
            for uuid, name, svm in dict.fromkeys((lun.volume_uuid, lun.volume, lun.svm) for lun in known.luns)
        ]
        begun = _moment(known.time)
        made = [s.end for s in copies(tools.storage, "", volumes, begun, begun + _LONGEST) if known.name in s.title]
        recorded = [writer for told in known.sets for writer in told.writers]
        until = end or max(made, default=begun) + _AFTER
        return read(tools, start=begun, end=until, volumes=volumes, writers=recorded or None, trace=trace)
    if start is None:
        told = max((t for t in (newest(tools), _newest_asked(tools.rest.log.entries)) if t is not None), default=None)
        if told is None:
            raise NotFound(
                "No event log of the site's hosts tells of a shadow copy set",
                next_action="Run an application-consistent backup, or name a span of time with start and end.",
                tr="9",
            )
        start, end = told - _BEFORE, end or told + _AFTER
    return read(tools, start=start, end=end or tools.host.now(), trace=trace)


def read(
    tools: Tools,
    *,
    start: datetime,
    end: datetime,
    volumes: Sequence[VolumeRef] = (),
    writers: Sequence[WriterState] | None = None,
    trace: bool = False,
) -> ShadowLog:
    """What the site tells of a span of time; reads only.

    Args:
        volumes: those whose Snapshot copies are looked up; by default those that the audit log names.
        writers: states that were recorded then; by default the present ones are asked.
        trace: ask each host for its trace of VSS too.
    """
    nodes = tools.nodes.up()
    signs: list[Sign] = []
    notes: list[str] = []
    for node in nodes:
        found = events(node, start, end)
        signs += found
        signs += asked(tools.rest.log.entries, node.name, start, end)
        if trace:
            traced = steps(node, start, end)
            signs += traced
            if not traced:
                notes.append(f"{node.name} keeps no trace of VSS, or none of this time.")
    array = tools.rest.endpoint.name
    changes, touched, note = audit(tools, array, start, end)
    signs += [*changes, *copies(tools.storage, array, volumes or touched, start, end)]
    notes += [note] if note else []
    if not any(commits(sign) for sign in signs):
        notes.append("The hardware provider tells of no set in this time: nothing was frozen or held for one.")
    recorded = {writer.host for writer in writers or ()}
    if not trace:
        signs += [_frozen(s, node) for s in signs if commits(s) for node in took_part(s, signs, recorded)]
    ended = tuple(writers) if writers is not None else tuple(w for node in nodes for w in Vss(node.host).writers())
    ordered = tuple(sorted(signs, key=lambda s: (s.start, s.end, s.node, list(Lane).index(s.lane), s.title)))
    return ShadowLog(start, end, ordered, tuple(budgets(ordered, ended, recorded)), ended, tuple(notes))


def events(node: Node, start: datetime, end: datetime) -> list[Sign]:
    """What the event logs of a host tell of shadow copies."""
    names = ["Application", "System", _VMMS, _WORKER]
    return [sign for record in _events(node, names, start, end) if (sign := _event(node.name, record)) is not None]


def asked(entries: Sequence[WireEntry], node: str, start: datetime, end: datetime) -> list[Sign]:
    """What this process, as requestor, asked of a host in a span of time: its wire log has the host's own clock."""
    found = []
    for entry in entries:
        what = entry.title.rpartition("| ")[2]
        if entry.endpoint != node or what not in _ASKED or entry.began is None or entry.ended is None:
            continue
        if start - timedelta(seconds=1) <= entry.began <= end:
            title = f"{what}, {entry.step}" if entry.step else what
            detail = f"request {entry.number}: {entry.request}"
            found.append(
                Sign(node, Lane.REQUESTOR, title, entry.began, entry.ended, "wire log", bool(entry.code), detail)
            )
    return found


def newest(tools: Tools) -> datetime | None:
    """When the hardware provider or VSS itself last told anything on any node; None: never."""
    found = []
    for node in tools.nodes.up():
        try:
            wanted = {"LogName": "Application", "ProviderName": ["Navssprv", "VSS"]}
            records = node.host.run(
                "Get-WinEvent", {"FilterHashtable": wanted, "MaxEvents": 1}, select=("TimeCreated",)
            )
        except PowerShellError as error:
            if error.error_id not in _NOTHING:
                raise
            continue
        found += [record["TimeCreated"] for record in records]
    return max(found, default=None)


def _newest_asked(entries: Sequence[WireEntry]) -> datetime | None:
    """When this process last began a set, or a checkpoint; a set that fails early is in no event log."""
    began = (e.began for e in entries if e.step in _BEGINS and e.title.rpartition("| ")[2] in _ASKED)
    return max((moment for moment in began if moment is not None), default=None)


def _events(node: Node, logs: Sequence[str], start: datetime, end: datetime) -> list[Any]:
    table = {"LogName": list(logs), "StartTime": start.isoformat(), "EndTime": end.isoformat()}
    select = ("Id", "ProviderName", "TimeCreated", "Level", "Properties", "Message", "LogName")
    try:
        return list(node.host.run("Get-WinEvent", {"FilterHashtable": table, "Oldest": True}, select=select))
    except PowerShellError as error:
        if error.error_id in _NOTHING:
            return []
        raise


def _event(node: str, record: Any) -> Sign | None:
    number, source = int(record["Id"]), str(record["ProviderName"])
    time, text = record["TimeCreated"], str(record["Message"] or "").strip()
    bad = int(record["Level"]) in (1, 2) and number not in _HARMLESS
    told = f"{source.removeprefix('Microsoft-Windows-')} {number}"
    set_id = next((found[0].lower() for found in [_GUID.search(text)] if found), "")
    if source == "Navssprv":
        spent = _milliseconds(text, _values(record))
        if number in (COMMITTED, TOO_LATE) and spent is not None:
            begun = time - timedelta(milliseconds=spent)
            title = f"CommitSnapshots, {spent / 1000:.1f} s"
            return Sign(node, Lane.PROVIDER, title, begun, time, told, number == TOO_LATE, text, set_id)
        return Sign(node, Lane.PROVIDER, _first(text), time, time, told, bad or number == REFUSED, text, set_id)
    if source == "VSS":
        lane = {12289: Lane.PROVIDER, 12293: Lane.PROVIDER, 8229: Lane.WRITERS}.get(number, Lane.REQUESTOR)
        return Sign(node, lane, _first(text), time, time, told, bad or number == 8229, text)
    if source == SOURCE:
        return Sign(node, Lane.REQUESTOR, _first(text), time, time, told, bad, text)
    if source.startswith("Microsoft-Windows-Hyper-V"):
        return Sign(node, Lane.GUEST, _first(text), time, time, told.replace("Hyper-V-", ""), bad, text)
    if source == "Microsoft-Windows-FailoverClustering" and bad:
        return Sign(node, Lane.REQUESTOR, _first(text), time, time, told, True, text)
    return None


def _values(record: Any) -> list[str]:
    values = []
    for one in record["Properties"] or ():
        try:
            values.append(str(one["Value"]))  # an EventProperty
        except (TypeError, KeyError):
            values.append(str(one))
    return values


def _milliseconds(text: str, values: Sequence[str]) -> int | None:
    """How long the provider took; from the event's data, else from its English text."""
    numbers = [value for value in values if value.isdecimal()]
    if numbers:
        return int(numbers[-1])
    found = re.search(r"(\d+) milliseconds", text)
    return int(found[1]) if found else None


def _first(text: str) -> str:
    """The first sentence of an event, without the ids that only programs read."""
    line = text.splitlines()[0] if text else ""
    line = re.sub(r"\s*\((?:Virtual machine ID )?" + _GUID.pattern + r"\)", "", line)
    return re.split(r"(?<=[.!])\s", line, maxsplit=1)[0]


def _frozen(commit: Sign, node: str) -> Sign:
    """What a commit tells of a node's writers: VSS calls the provider between their freeze and their thaw."""
    title = f"frozen, at least for the commit's {commit.seconds:.1f} s"
    source = f"follows from {commit.source}"
    return Sign(node, Lane.WRITERS, title, commit.start, commit.end, source, set_id=commit.set_id)


# --- the array


def audit(tools: Tools, array: str, start: datetime, end: datetime) -> tuple[list[Sign], list[VolumeRef], str]:
    """Changes on the array as its audit log has them, the volumes of new Snapshot copies, and why it tells nothing."""
    from netapp_ontap.resources.security_audit_log import SecurityAuditLog
    from netapp_ontap.resources.volume import Volume

    span = f"{start.isoformat(timespec='seconds')}..{end.isoformat(timespec='seconds')}"
    try:
        records = tools.rest.collect(
            SecurityAuditLog, fields="timestamp,input,user,state,message,location", timestamp=span
        )
        known = tools.rest.collect(Volume, fields="uuid,name,svm.name") if records else []
    except OntapError as error:
        return [], [], f"The array's audit log cannot be read ({error.message}): Snapshot copies' own times are shown."
    names = {volume["uuid"]: str(volume["name"]) for volume in known}
    asked = {m[1] for record in records if (m := re.match(_CHANGES[0][0], str(record["input"])))}
    touched = [VolumeRef(v["uuid"], v["name"], v["svm"]["name"]) for v in known if v["uuid"] in asked]
    found = []
    for record in records:
        title = _change(str(record["input"]), names)
        if title:
            time = _moment(record["timestamp"])
            detail = f"{record['input']}; user {record.get('user', '')}; {record.get('message', '')}".rstrip("; ")
            failed = record.get("state") == "error"
            found.append(Sign(array, Lane.ARRAY, title, time, time, "audit log", failed, detail))
    return found, touched, ""


_CHANGES: Final = (
    (r"POST /api/storage/volumes/([^/?]+)/snapshots\b", "Snapshot copy asked for"),
    (r"PATCH /api/storage/volumes/([^/?]+)/snapshots/", "Snapshot copy renamed"),
    (r"DELETE /api/storage/volumes/([^/?]+)/snapshots/", "Snapshot copy deleted"),
    (r"POST /api/application/consistency-groups/[^/?]+/snapshots\b()", "group Snapshot copy asked for"),
    (r"POST /api/storage/luns\b()", "LUN cloned"),
    (r"DELETE /api/storage/luns/()", "LUN deleted"),
    (r"POST /api/protocols/san/lun-maps\b()", "LUN mapped"),
    (r"DELETE /api/protocols/san/lun-maps/()", "LUN unmapped"),
)


def _change(text: str, volumes: Mapping[str, str]) -> str:
    """A request of the audit log in words; "" for one that has nothing to do with shadow copies."""
    for pattern, words in _CHANGES:
        if found := re.match(pattern, text):
            name = volumes.get(found[1], found[1])
            return f"{words}: {name}" if name else words
    return ""


def copies(storage: Storage, array: str, volumes: Sequence[VolumeRef], start: datetime, end: datetime) -> list[Sign]:
    """Snapshot copies of volumes that were made in a span of time."""
    found = []
    for volume in volumes:
        for record in storage.snapshots(volume):
            time = _moment(record["create_time"])
            # The array tells whole seconds: what it made at the beginning seems to be a little older.
            if start - timedelta(seconds=1) <= time <= end:
                name = str(record["name"])
                set_id = next((m[0].lower() for m in [_GUID.search(name)] if m), "")
                text = f"{volume.name}: {name}"
                found.append(Sign(array, Lane.ARRAY, text, time, time, "Snapshot copy", set_id=set_id))
    return found


def _moment(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.astimezone(UTC)


# --- the trace


def steps(node: Node, start: datetime, end: datetime) -> list[Sign]:
    """Every step of VSS that a host has traced; a step of VSS lasts until the next one begins."""
    lines = []
    for record in _events(node, [TRACE], start, end):
        values = _values(record)
        if len(values) == 4:
            lines.append((record["TimeCreated"], *values))
    found: list[Sign] = []
    opened: dict[tuple[str, str], datetime] = {}
    pairs = {"thaw": "freeze", "RELEASE_WRITES": "FLUSH_AND_HOLD", "Thaw": "Freeze"}
    for place, (time, named, actor, step, detail) in enumerate(lines):
        after = _until(named, lines[place + 1 :]) or time
        set_id = named.strip("{}").lower()
        level = f" ({detail})" if actor == "VSS" and step in pairs.values() else ""
        lane, title = _lane(actor), f"{actor}: {step}{level}"
        failed = "failed" in step or step == "abort"
        if step in pairs.values():
            opened[actor, step] = time
        if step in pairs and (actor, pairs[step]) in opened:
            begun = opened.pop((actor, pairs[step]))
            whole = f"{actor}: {pairs[step]} to {step}"
            found.append(Sign(node.name, lane, whole, begun, time, "trace", False, detail, set_id))
        elif step not in pairs.values() or actor == "VSS":
            found.append(Sign(node.name, lane, title, time, after, "trace", failed, detail, set_id))
    for (actor, step), time in opened.items():
        if actor != "VSS":
            found.append(Sign(node.name, _lane(actor), f"{actor}: {step}, never ended", time, time, "trace", True))
    return found


def _until(set_id: str, following: Sequence[tuple[Any, ...]]) -> datetime | None:
    """When the next step of a set began; the first thing after its creation is that the backup is complete."""
    if not set_id or not following or (following[0][1] != set_id and following[0][3] != "BackupComplete"):
        return None
    begun: datetime = following[0][0]
    return begun


def _lane(actor: str) -> Lane:
    if actor.startswith("guest "):
        return Lane.GUEST
    if "riter" in actor:
        return Lane.WRITERS
    return Lane.PROVIDER if "Provider" in actor else Lane.REQUESTOR
