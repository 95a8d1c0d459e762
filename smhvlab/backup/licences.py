"""Licences without which there is no backup through VSS (TR 5.4)."""

from __future__ import annotations

from smhvlab.errors import NotAllowed
from smhvlab.nodes import Nodes
from smhvlab.storage import Storage
from smhvlab.wires.wave import collect

SMHV_LICENCE = "snapmanagersuite"
LICENCES = frozenset({"flexclone", SMHV_LICENCE})
"""Licences of the array that are needed,"""
_BUNDLE = "ontap_one"
"""one that holds them all,"""
_HOST, _SMHV = "HKLM:\\SOFTWARE\\NetApp\\SnapDrive\\Licenses", "SnapManager for Hyper-V"
"""and where a host has SnapManager's own, if it is licensed by host."""


def need_licences(storage: Storage, nodes: Nodes, *, array: str) -> None:
    """What a set needs is licensed; ``array``: its name for people. An array that lists no licence is not judged.

    Raises:
        NotAllowed: a licence is missing.
    """
    known = storage.licences()
    if not known or _BUNDLE in known:
        return
    missing = sorted(LICENCES - known)
    if SMHV_LICENCE in missing and _licensed_by_host(nodes):
        missing.remove(SMHV_LICENCE)
    if missing:
        raise NotAllowed(
            f"{array} has no licence for {', '.join(missing)}",
            next_action="Add the licence on the array (SnapManager's may be on every host instead), or back up "
            "crash-consistent, which needs no clones.",
            why="auto-recovery works on clones of the LUNs, and SnapManager has a licence of its own",
            tr="5.4",
        )


def _licensed_by_host(nodes: Nodes) -> bool:
    """Whether SnapManager is licensed on every host (TR 5.4)."""
    wanted, hosts = {"LiteralPath": _HOST}, [node.host for node in nodes.up()]
    answers = collect(host.begin("Get-ItemProperty", wanted, error_action="Continue") for host in hosts)
    return all(any(_SMHV in record for record in records) for records in answers)
