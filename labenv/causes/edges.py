"""Causes that act at an edge of a shadow copy set: rules that meet it when it comes by."""

from __future__ import annotations

from labenv.causes.model import (
    EDGES,
    HOST,
    HYPERV_WRITER,
    PROVIDER_EDGES,
    TIMES,
    WAITING_EDGES,
    WRITER_EDGES,
    Cause,
    CauseError,
    Option,
    Options,
    Rules,
    seconds,
    times,
)
from labenv.faults import Fault


def _rule(name: str, where: str, effect: str, *, match: tuple[str, ...] = ("host",), **fixed: str) -> Rules:
    """Rules of one rule: patterns that are options of the same name, and such that never change."""

    def rules(options: Options) -> tuple[Fault, ...]:
        patterns = {key: options[key] for key in match} | fixed
        if patterns.get("vm") == "*":
            patterns["vm"] = "?*"  # any VM; the host's own part has none
        return (
            Fault(
                where,
                effect,
                patterns,
                seconds=seconds(options) if effect == "delay" else 0.0,
                code=_hresult(options["code"]) if "code" in options else "",
                message=options.get("message", ""),
                times=times(options),
                cause=name,
            ),
        )

    return rules


def _hresult(text: str) -> str:
    try:
        code = int(text, 16)
    except ValueError:
        code = 0
    if not 0x80000000 <= code <= 0xFFFFFFFF:
        raise CauseError(f"code is {text!r}, which is no HRESULT such as 0x800423f3")
    return f"0x{code:08x}"


def _requestor_dies(options: Options) -> tuple[Fault, ...]:
    phase = options["phase"]
    where = EDGES.get(phase, "vss.requestor")
    match = {"host": options["host"], "phase": phase}
    if where == "vss.writer":
        match["vm"] = ""
    return (Fault(where, "drop", match, times=times(options), cause="requestor-dies"),)


def _slow_edge(options: Options) -> tuple[Fault, ...]:
    phase = options["phase"]
    match = {"host": options["host"], "phase": phase}
    if EDGES[phase] == "vss.writer":
        match |= {"writer": HYPERV_WRITER, "vm": ""}
    return (Fault(EDGES[phase], "delay", match, seconds=seconds(options), times=times(options), cause="slow-edge"),)


_BASE = {"host": HOST, "times": TIMES}
_BLAME = Option("the HRESULT that it ends with", "0x800423f4")

CAUSES = (
    Cause(
        "slow-host-disk",
        "A volume of the host takes long to flush.",
        "Above 10 s the set fails with 0x80042313; nothing stays.",
        ("R-9-02",),
        edge="flush",
        options=_BASE | {"seconds": Option("lab seconds", "11")},
        rules=_rule("slow-host-disk", "vss.volume", "delay", phase="flush"),
    ),
    Cause(
        "slow-lookup",
        "Looking up the storage system's name or login takes long, between the freeze and the commit.",
        "Above 60 s the writers time out: state 10, 0x800423f2; nothing stays.",
        ("R-9-08",),
        case=2,
        edge="PreCommitSnapshots",
        options=_BASE | {"seconds": Option("lab seconds", "61")},
        rules=_rule("slow-lookup", "vss.provider", "delay", phase="PreCommitSnapshots"),
    ),
    Cause(
        "slow-edge",
        "Whatever happens at one edge of a set takes longer.",
        "Between Freeze and Thaw 60 s are too long (0x800423f2), under held writes 10 s (0x80042313, 0x80042314).",
        ("R-9-08",),
        options=_BASE
        | {"phase": Option("the edge", "PrepareForSnapshot", WAITING_EDGES), "seconds": Option("lab seconds", "30")},
        rules=_slow_edge,
    ),
    Cause(
        "writer-refuses",
        "The Hyper-V writer cannot do what an edge asks of it.",
        "Its state tells the edge (6 to 15); Freeze and Thaw end the set, PrepareForSnapshot and PostSnapshot do not.",
        ("R-10-01",),
        options=_BASE | {"phase": Option("the edge", "PrepareForSnapshot", WRITER_EDGES), "code": _BLAME},
        rules=_rule("writer-refuses", "vss.writer", "error", match=("host", "phase"), writer=HYPERV_WRITER, vm=""),
    ),
    Cause(
        "busy-guest-writer",
        "A writer inside a guest is busy while the guest's own shadow copy is made.",
        "State 8 with 0x800423f3 (0x80042336 if other VMs were fine) and event 10102; a later try succeeds.",
        ("R-6.2-04",),
        case=1,
        edge="PrepareForSnapshot",
        options=_BASE | {"vm": Option("name of the VM; * is every one", "*"), "code": Option("HRESULT", "0x800423f3")},
        rules=_rule(
            "busy-guest-writer",
            "vss.writer",
            "error",
            match=("host", "vm"),
            writer=HYPERV_WRITER,
            phase="PrepareForSnapshot",
        ),
    ),
    Cause(
        "revert-fails",
        "A virtual disk on the copy cannot be turned back, because the host is under load.",
        "State 11 with 0x800423f3 or 0x80042336, event 10104; the Snapshot copies stay; a later try succeeds.",
        ("R-6.2-07",),
        case=8,
        edge="PostSnapshot",
        options=_BASE | {"vm": Option("name of the VM; * is every one", "*"), "code": Option("HRESULT", "0x800423f3")},
        rules=_rule(
            "revert-fails", "vss.writer", "error", match=("host", "vm"), writer=HYPERV_WRITER, phase="PostSnapshot"
        ),
    ),
    Cause(
        "callback-denied",
        "The requestor's account may not be called back by a writer.",
        "Event 8194, and nothing else: it is in many logs and is not why a backup fails.",
        (),
        edge="PrepareForBackup",
        options=_BASE,
        rules=lambda o: (
            Fault(
                "vss.writer",
                "error",
                {"host": o["host"], "writer": HYPERV_WRITER, "phase": "PrepareForBackup"},
                code="0x80070005",
                times=times(o),
                cause="callback-denied",
            ),
        ),
    ),
    Cause(
        "provider-refuses",
        "The hardware provider fails at an edge.",
        "The whole set fails with 12293; a code that VSS does not know becomes 0x8004230f; nothing stays.",
        ("R-10-01",),
        options=_BASE
        | {"phase": Option("the edge", "CommitSnapshots", PROVIDER_EDGES), "code": Option("HRESULT", "0x80042306")},
        rules=_rule("provider-refuses", "vss.provider", "error", match=("host", "phase")),
    ),
    Cause(
        "provider-dies",
        "The hardware provider's process ends at an edge; its service starts again when it is needed.",
        "0x8004230f and 12293; it cannot clean up: what it had made so far stays (a {guid} copy, a mapped .rws clone).",
        ("R-10-01",),
        options=_BASE | {"phase": Option("the edge", "PostCommitSnapshots", PROVIDER_EDGES)},
        rules=_rule("provider-dies", "vss.provider", "die", match=("host", "phase")),
    ),
    Cause(
        "requestor-dies",
        "The process that asked for the backup ends at an edge, or before one of its own commands.",
        "VSS sends BackupShutdown and nobody aborts: {guid} copies and mapped .rws clones stay; writers are stable.",
        ("R-6.2-03",),
        options=_BASE
        | {"phase": Option("the edge, or a command", "PostCommitSnapshots", ("create", "end backup", *WAITING_EDGES))},
        rules=_requestor_dies,
    ),
    Cause(
        "service-does-not-start",
        "A service that VSS needs does not start.",
        "8193 and 0x80070422; without vmms there is no Hyper-V writer.",
        ("R-9-06",),
        options=_BASE | {"service": Option("the service", "VSS", ("VSS", "swprv", "Navssprv", "vmms"))},
        rules=_rule("service-does-not-start", "windows.service", "error", match=("host", "service")),
    ),
    Cause(
        "no-path-to-clone",
        "No path claims the disk of a clone that was mapped to the host (igroup, zoning, MPIO claim).",
        "12289 and 0x80042320, the expected disk did not arrive; nothing stays.",
        ("R-6.2-06",),
        case=9,
        edge="PreFinalCommitSnapshots",
        options={"host": HOST, "times": Option("how many rescans miss it; 0: all", "0")},
        rules=_rule("no-path-to-clone", "windows.disk", "drop", event="arrival"),
    ),
)
"""What happens inside VSS."""
