"""What a named cause is, what it may ask for, and the site as it sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labenv.faults import Fault
from labenv.windows.remoting.engine import Engine

if TYPE_CHECKING:
    from labenv.ontap.array import Array
    from labenv.site import LabSite
    from labenv.windows.host import Host
    from labenv.windows.records import VmRecord

EDGES = {
    "Identify": "vss.writer",
    "PrepareForBackup": "vss.writer",
    "BeginPrepareSnapshot": "vss.provider",
    "EndPrepareSnapshots": "vss.provider",
    "PrepareForSnapshot": "vss.writer",
    "Freeze": "vss.writer",
    "PreCommitSnapshots": "vss.provider",
    "flush": "vss.volume",
    "CommitSnapshots": "vss.provider",
    "PostCommitSnapshots": "vss.provider",
    "Thaw": "vss.writer",
    "PreFinalCommitSnapshots": "vss.provider",
    "PostSnapshot": "vss.writer",
    "PostFinalCommitSnapshots": "vss.provider",
    "BackupComplete": "vss.writer",
    "BackupShutdown": "vss.writer",
}
"""The edges of a shadow copy set in their order, and the place where a fault acts at each."""

WRITER_EDGES = tuple(edge for edge, place in EDGES.items() if place == "vss.writer")
PROVIDER_EDGES = tuple(edge for edge, place in EDGES.items() if place == "vss.provider")
WAITING_EDGES = tuple(edge for edge in EDGES if edge != "BackupShutdown")
"""Edges at which something else can happen first; BackupShutdown is a notice that nobody waits for."""

HYPERV_WRITER = "Microsoft Hyper-V VSS Writer"


class CauseError(ValueError):
    """A cause cannot be set: its name, an option, or the site as it is now."""


@dataclass(frozen=True)
class Option:
    """What can be said about a cause. ``required``: it has no default."""

    about: str
    default: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False


Options = Mapping[str, str]
Undo = dict[str, str]
Rules = Callable[[Options], Sequence[Fault]]


@dataclass(frozen=True)
class Done:
    """A change of the site that is in force: with what options it was set, and what is needed to take it back."""

    name: str
    options: dict[str, str]
    undo: Undo


Mend = Callable[["Scene", Done], Awaitable[None]]
Apply = Callable[["Scene", Options], Awaitable[Undo]]


@dataclass(frozen=True)
class Cause:
    """A cause: either rules that act when something comes by, or a change of the site that ``mend`` takes back.

    Attributes:
        does: what it does; follows: what is seen then, until it is mended.
        rows: rows of the TR that it belongs to; case: number of the troubleshooting case (0: none).
        edge: the edge of a shadow copy set at which it acts; empty: elsewhere, or any.
    """

    name: str
    does: str
    follows: str
    rows: tuple[str, ...] = ()
    case: int = 0
    edge: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    rules: Rules | None = None
    apply: Apply | None = None
    mend: Mend | None = None

    @property
    def belongs(self) -> str:
        """Rows and case in words."""
        return ", ".join([*self.rows, *([f"case {self.case}"] if self.case else [])]) or "-"


HOST = Option("name of the host; * is every one", "*")
TIMES = Option("how often it acts; 0: always", "1")
VM = Option("name of the VM", required=True)
VOLUME = Option("name of the volume on the array", required=True)


def times(options: Options) -> int | None:
    """How often a rule acts."""
    text = options["times"]
    if not text.isdecimal():
        raise CauseError(f"times is {text!r}, which is no whole number")
    return int(text) or None


def seconds(options: Options) -> float:
    """The lab seconds of a delay."""
    try:
        value = float(options["seconds"])
    except ValueError:
        value = -1.0
    if not 0 < value < 86400:
        raise CauseError(f"seconds is {options['seconds']!r}: a number above 0 and below 86400")
    return value


class Scene:
    """The site, for a cause that changes it. Must be used inside a request that lets lab time move.

    Attributes:
        kept: live things of causes that cannot outlive the process, by their key.
    """

    def __init__(self, site: LabSite) -> None:
        self.site = site
        self.kept: dict[str, Any] = {}

    def host(self, name: str) -> Host:
        """A host by name; the first one if the name is ``*``."""
        hosts = self.site.hosts
        found = hosts[0] if name == "*" else next((h for h in hosts if h.name == name), None)
        if found is None:
            raise CauseError(f"no host {name!r}: one of {', '.join(h.name for h in hosts)}")
        return found

    def vm(self, name: str) -> tuple[Host, VmRecord]:
        """A VM by name, with the host that it is on now."""
        for host in self.site.hosts:
            for vm in host.vms.values():
                if vm.name == name and host.powered:
                    return host, vm
        raise CauseError(f"no VM {name!r}: one of {', '.join(sorted(self.site.vm_states()))}")

    async def run(self, host: Host, cmdlet: str, /, **parameters: object) -> list[Any]:
        """A cmdlet on a host, as its administrator; no fault stands in its way."""
        return await Engine(host, clock=self.site.clock).run(cmdlet, parameters)

    def volume(self, name: str) -> tuple[Array, str]:
        """The array and the key of a volume."""
        for array in self.site.arrays:
            key = array.volume_key(name)
            if key is not None:
                return array, key
        raise CauseError(f"no volume {name!r} on {', '.join(a.spec.name for a in self.site.arrays)}")

    async def rest(
        self, array: Array, method: str, path: str, body: Mapping[str, object] | None = None, /, **query: str
    ) -> dict[str, Any]:
        """The answer of an array to its administrator; raises ``CauseError`` if it refuses."""
        parameters = {k.replace("__", "."): v for k, v in query.items()}
        if method != "GET":
            parameters["return_timeout"] = "120"
        status, answer = await array.call(method, path, query=parameters, body=dict(body) if body else None)
        if status >= 300:
            raise CauseError(f"{array.spec.name}: {answer.get('error', {}).get('message', status)}")
        return answer

    async def records(self, array: Array, path: str, /, **query: str) -> list[dict[str, Any]]:
        """The records of a collection."""
        found: list[dict[str, Any]] = (await self.rest(array, "GET", path, None, **query))["records"]
        return found
