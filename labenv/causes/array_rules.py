"""Causes on the array that act when a request comes by: a slow, busy or silent controller."""

from __future__ import annotations

from labenv.causes.model import TIMES, Cause, CauseError, Option, Options, seconds, times
from labenv.faults import Fault

CLUSTER = Option("name of the storage cluster; * is every one", "*")
_BASE = {"cluster": CLUSTER, "times": TIMES}
_METHOD = Option("method of the request", "POST", ("GET", "POST", "PATCH", "DELETE"))
_PATH = Option("pattern of its path", "*/snapshots")
_PLACE = _BASE | {"method": _METHOD, "path": _PATH}


def _match(options: Options) -> dict[str, str]:
    return {key: options[key] for key in ("cluster", "method", "path")}


def _slow(options: Options) -> tuple[Fault, ...]:
    match = {"cluster": options["cluster"], "method": "POST", "path": "*/snapshots"}
    return (Fault("ontap.request", "delay", match, seconds=seconds(options), times=times(options), cause="slow-array"),)


def _refuses(options: Options) -> tuple[Fault, ...]:
    if not options["code"].isdecimal():
        raise CauseError(f"code is {options['code']!r}, which is no number")
    return (
        Fault(
            "ontap.request",
            "error",
            _match(options),
            status=503,
            code=options["code"],
            message="The node is temporarily unable to process the request",
            times=times(options),
            cause="array-refuses",
        ),
    )


def _silent(options: Options) -> tuple[Fault, ...]:
    return (Fault("ontap.request", "drop", _match(options), times=times(options), cause="array-silent"),)


def _forgets(options: Options) -> tuple[Fault, ...]:
    return (Fault("ontap.request", "lose-reply", _match(options), times=times(options), cause="array-forgets-reply"),)


def _rename(options: Options) -> tuple[Fault, ...]:
    match = {"cluster": options["cluster"], "method": "PATCH", "path": "*/snapshots/*"}
    message = "Too many Snapshot copies are being renamed at once"
    return (
        Fault(
            "ontap.request", "error", match, status=500, code="13057", message=message, times=times(options),
            cause="rename-overload",
        ),
    )  # fmt: skip


CAUSES = (
    Cause(
        "slow-array",
        "A busy controller takes long to make a Snapshot copy.",
        "Above 10 s event 4364 and 0x80042314; the late copy is deleted; a later try succeeds with 4089.",
        ("R-9-08",),
        case=2,
        edge="CommitSnapshots",
        options=_BASE | {"seconds": Option("lab seconds", "12")},
        rules=_slow,
    ),
    Cause(
        "array-refuses",
        "The array refuses a request.",
        "The provider's event 4363, 12293 and 0x80042306; nothing stays.",
        ("R-10-01",),
        options=_PLACE | {"code": Option("the array's error code", "8")},
        rules=_refuses,
    ),
    Cause(
        "array-silent",
        "The array closes the connection without an answer, and has done nothing.",
        "As if it had refused.",
        ("R-10-01",),
        options=_PLACE,
        rules=_silent,
    ),
    Cause(
        "array-forgets-reply",
        "The array does what it is asked to, and the answer is lost.",
        "As if it had refused; what was made nevertheless is found by its name and deleted.",
        ("R-10-01",),
        options=_PLACE,
        rules=_forgets,
    ),
    Cause(
        "rename-overload",
        "The array is asked to rename the Snapshot copies of more than 15 LUNs at once.",
        "Renaming a Snapshot copy fails with 13057; the backup's copies keep the name of their set.",
        ("R-12-11",),
        case=4,
        options=_BASE,
        rules=_rename,
    ),
)
"""What happens on the wire to the array."""
