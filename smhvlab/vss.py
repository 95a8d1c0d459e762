"""The Volume Shadow Copy Service of one host, as its requestor sees it through DiskShadow and vssadmin (TR 6.2, 9, 12).

What a program prints, and its exit code, prove nothing: whether a set was made is read from the event logs, from the
writers' states and from the array.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

from smhvlab.backup.cabinet import unpack
from smhvlab.backup.evidence import WriterState
from smhvlab.errors import NotFound, PowerShellError
from smhvlab.wires.powershell import PowerShellWire, Record

HYPERV_WRITER = "66841cd4-6ded-4f4b-8f17-fd23f8ddc3de"
CSV_WRITER = "1072ae1c-e5a7-4ea1-9e4a-6f7964656570"
HYPERV_NAME = "Microsoft Hyper-V VSS Writer"
CSV_NAME = "Cluster Shared Volume VSS Writer"
PROVIDER = "ddd3d232-a96f-4ac5-8f7b-250fd91fd102"
"""Id of the Data ONTAP VSS hardware provider (TR appendix)."""

COMMITTED, TOO_LATE, REFUSED = 4089, 4364, 4363
"""Events of the provider (source Navssprv): the Snapshot copies were made in time, too late, or not at all."""

NOT_PREPARED, DISK_NOT_REVERTED, NOT_REVERTED, LEFT_OUT = 10102, 10103, 10104, 10107
"""Events of Hyper-V's management service: a VM could not be prepared, or not be turned back on the copy; and a warning
that it has disks which no backup of it holds."""

IN_PROGRESS = "80042316"
TRANSIENT = frozenset({"80042313", "80042314", "800423f2", "800423f3", "80042336"})
"""HRESULTs after which another try may succeed: flush and hold timed out, a writer timed out or asks for a retry."""

_GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_VMMS = "Microsoft-Windows-Hyper-V-VMMS-Admin"
_WORKER = "Microsoft-Windows-Hyper-V-Worker-Admin"
_TRACE = "SmhvLab-VSS-Trace"
_NO_EVENTS = ("NoMatchingEventsFound", "NoMatchingLogsFound", "NoMatchingProvidersFound")


@dataclass(frozen=True)
class Component:
    """A VM that a writer of a host can put into a backup.

    Attributes:
        writer: name of the writer.
        node: the node for which the CSV writer speaks, "" for a VM of the host itself.
        vm_id: the VM.
        caption: ``Online\\name``, ``Offline\\name``, or in the TR's days ``Backup Using Saved State\\name``.
        paths: folders of its files.
    """

    writer: str
    node: str
    vm_id: str
    caption: str
    paths: tuple[str, ...] = ()

    @property
    def logical(self) -> str:
        """How DiskShadow names it."""
        return f"{self.writer}:\\{self.node}\\{self.name}" if self.node else f"{self.writer}:\\{self.name}"

    @property
    def name(self) -> str:
        """The VM's id as writers spell it."""
        return self.vm_id.upper()

    @property
    def vm(self) -> str:
        """Name of the VM."""
        return self.caption.partition("\\")[2]

    @property
    def online(self) -> bool:
        """Whether its guest takes part; otherwise it would be saved, or is off (TR 6.4)."""
        return self.caption.partition("\\")[0] in ("Online", "Backup Using Child Partition Snapshot")


@dataclass(frozen=True)
class Event:
    """An event of a host's logs."""

    id: int
    time: datetime
    values: tuple[str, ...]
    message: str


class Vss:
    """VSS on one host."""

    def __init__(self, host: PowerShellWire) -> None:
        self.host = host

    # --- programs

    def run_script(self, path: str, lines: Sequence[str]) -> tuple[str, ...]:
        """Write a script for DiskShadow and run it; what it printed, for people."""
        self.host.run("Set-Content", {"LiteralPath": path, "Value": list(lines), "Encoding": "Ascii"})
        return self.host.native("diskshadow.exe", "/s", path).lines

    def writers_metadata(self, script: str) -> tuple[str, ...]:
        """What every writer tells of its components; ``script``: where DiskShadow's lines may be put (TR 10)."""
        return self.run_script(script, ["list writers metadata"])

    def components(self, script: str) -> list[Component]:
        """The VMs that the Hyper-V writer and the CSV writer know; ``script`` as for ``writers_metadata``."""
        return parse_components(self.writers_metadata(script))

    def writers(self) -> list[WriterState]:
        """Every writer with its state."""
        return parse_writers(self.host.native("vssadmin.exe", "list", "writers").lines, host=self.host.endpoint.name)

    def has_provider(self) -> bool:
        """Whether the Data ONTAP hardware provider is registered (TR appendix)."""
        lines = self.host.native("vssadmin.exe", "list", "providers").lines
        return any(PROVIDER in line.lower() for line in lines)

    # --- event logs

    def provider_events(self, since: datetime) -> list[Event]:
        """What the hardware provider has told since a moment, newest first."""
        return self._events({"LogName": "Application", "ProviderName": "Navssprv"}, since)

    def machines(self, since: datetime) -> list[Event]:
        """What Hyper-V's management service could not prepare, turn back or take in since a moment, newest first."""
        wanted = [NOT_PREPARED, DISK_NOT_REVERTED, NOT_REVERTED, LEFT_OUT]
        return self._events({"LogName": _VMMS, "Id": wanted}, since)

    def frozen(self, since: datetime) -> dict[str, float]:
        """Seconds between freeze and thaw inside each guest, by the VM's name, where the host keeps a trace."""
        started: dict[str, datetime] = {}
        found: dict[str, float] = {}
        for event in reversed(self._events({"LogName": _TRACE}, since)):
            lane, step = event.values[1], event.values[2]
            if not lane.startswith("guest "):
                continue
            if step == "freeze":
                started[lane] = event.time
            elif step == "thaw" and lane in started:
                found[lane.removeprefix("guest ")] = (event.time - started[lane]).total_seconds()
        return found

    def standstill(self, since: datetime) -> dict[str, float]:
        """Seconds from the first to the last thing that a VM's worker process has told since a moment, by the VM's id.

        Of a VM that was saved and started again it is the time for which it did not run (TR 6.4).
        """
        told: dict[str, list[datetime]] = {}
        for event in self._events({"LogName": _WORKER}, since):
            for vm_id in {value.lower() for value in event.values if re.fullmatch(_GUID, value)}:
                told.setdefault(vm_id, []).append(event.time)
        return {vm_id: (max(times) - min(times)).total_seconds() for vm_id, times in told.items() if len(times) > 1}

    def _events(self, wanted: Mapping[str, object], since: datetime) -> list[Event]:
        table = {**wanted, "StartTime": since.isoformat()}
        try:
            records = self.host.run(
                "Get-WinEvent", {"FilterHashtable": table}, select=("Id", "TimeCreated", "Properties", "Message")
            )
        except PowerShellError as error:
            if error.error_id in _NO_EVENTS:
                return []
            raise
        return [_event(record) for record in records]

    # --- metadata

    def metadata(self, path: str) -> bytes:
        """The cabinet with writers' metadata and components document that DiskShadow wrote. Raises NotFound."""
        if not self.host.run("Test-Path", {"LiteralPath": path})[0]:
            raise NotFound(
                f"DiskShadow left no metadata in {path}",
                next_action="Read what it printed in the wire log; the backup cannot be restored without its metadata.",
                tr="12",
            )
        output = self.host.run("Get-Content", {"LiteralPath": path, "Raw": True, "Encoding": "Byte"})
        return b"".join(part if isinstance(part, bytes) else bytes([int(part)]) for part in output)

    def discard_files(self, paths: Iterable[str]) -> None:
        """No file of these paths is left."""
        tried = self.host.run("Remove-Item", {"LiteralPath": list(paths), "Force": True}, error_action="Continue")
        for error in tried.errors:
            if error.error_id != "PathNotFound":
                raise error


def backup_script(
    paths: Sequence[str], *, metadata: str, verify: Sequence[str], exclude: Sequence[str] = ()
) -> list[str]:
    """DiskShadow's lines for one application-consistent set; ``verify`` and ``exclude`` are writers and components."""
    lines = ["set context persistent", f"set metadata {metadata}"]
    lines += [f'writer verify "{one}"' if " " in one else f"writer verify {one}" for one in verify]
    lines += [f'writer exclude "{one}"' if " " in one else f"writer exclude {one}" for one in exclude]
    lines += ["begin backup"]
    lines += [f'add volume "{path}" alias v{n} provider {{{PROVIDER}}}' for n, path in enumerate(paths)]
    return [*lines, "create", "end backup"]


def parse_components(lines: Iterable[str]) -> list[Component]:
    """The VMs in what ``list writers metadata`` printed, of the Hyper-V writer and the CSV writer."""
    found: list[Component] = []
    for line in lines:
        text = line.strip()
        if match := re.match(rf'\+ \S+ "({HYPERV_NAME}|{CSV_NAME}):\\(?:([^\\"]+)\\)?({_GUID})"$', text):
            found.append(Component(match[1], match[2] or "", match[3].lower(), ""))
        elif text.startswith("+ ") and '"' in text:
            found.append(Component("", "", "", ""))  # of another writer: what follows is not ours
        elif found and not found[-1].caption and (match := re.match(r"- [^:]+: ([^\\]+\\.+)$", text)):
            found[-1] = Component(found[-1].writer, found[-1].node, found[-1].vm_id, match[1])
        elif found and (match := re.match(r"\+ .*= ([A-Za-z]:\\[^,]*),", text)):
            last = found[-1]
            found[-1] = Component(last.writer, last.node, last.vm_id, last.caption, (*last.paths, match[1]))
    return [one for one in found if one.vm_id]


def parse_writers(lines: Iterable[str], *, host: str) -> list[WriterState]:
    """The writers in what ``vssadmin list writers`` printed, in any language: name in quotes, state in brackets."""
    found: list[WriterState] = []
    name = state = ""
    for line in lines:
        if match := re.search(r"'([^']+)'\s*$", line):
            name, state = match[1], ""
        elif match := re.search(r"\[(\d+)\] (.+)$", line):
            state = f"[{match[1]}] {match[2].strip()}"
        elif state and name and ":" in line:
            found.append(WriterState(host, name, state, line.partition(":")[2].strip()))
            name = state = ""
    return found


def stable(writer: WriterState) -> bool:
    """Whether a writer is at rest and has not failed."""
    return writer.state.startswith("[1]")


def set_of(metadata: bytes) -> tuple[str, dict[str, bool]]:
    """Set id, and for each VM's id whether it was backed up, from the components document in a metadata cabinet.

    Raises:
        ValueError: it is no such cabinet, or holds no components document.
    """
    for content in unpack(metadata).values():
        try:
            root = ElementTree.fromstring(content)  # noqa: S314 - of an authenticated host, over TLS
        except ElementTree.ParseError:
            continue
        if root.tag.rpartition("}")[2] != "BACKUP_COMPONENTS":
            continue
        done = {
            str(child.get("componentName", "")).lower(): child.get("backupSucceeded", "yes") == "yes"
            for writer in root
            if writer.get("writerId", "").strip("{}").lower() in (HYPERV_WRITER, CSV_WRITER)
            for child in writer
        }
        return str(root.get("snapshotSetId", "")).strip("{}").lower(), done
    raise ValueError("the metadata holds no backup components document")


def guids(lines: Iterable[str]) -> list[str]:
    """The GUIDs in texts, in lower case."""
    return [found.lower() for found in re.findall(_GUID, "\n".join(lines))]


def hresults(lines: Iterable[str]) -> list[str]:
    """The error codes in what DiskShadow printed."""
    return re.findall(r"\b(?:0x)?(800[47][0-9a-fA-F]{4})\b", "\n".join(lines))


def _event(record: Record) -> Event:
    values = []
    for one in record["Properties"] or ():
        values.append(str(one["Value"]) if isinstance(one, Record) and "Value" in one else str(one))
    return Event(int(record["Id"]), record["TimeCreated"], tuple(values), str(record["Message"] or ""))
