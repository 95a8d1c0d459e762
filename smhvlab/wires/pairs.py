"""The closed list of pairs: `A | B` where A selects exactly one object by its identity and B acts on it.

What must not hit the wrong object goes this way, because Hyper-V's -Name is a wildcard and not unique, and because
some cmdlets take their object from the pipeline only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from smhvlab.errors import Unsendable

_DOCS = "https://learn.microsoft.com/powershell/module"
_WILDCARD = re.compile(r"[*?\[\]]")


class Identity(Enum):
    """What may stand in the first half's parameter."""

    GUID = "a GUID"
    TEXT = "one name without * ? [ ]"


@dataclass(frozen=True)
class Pair:
    """One pair.

    Attributes:
        first: cmdlet that selects.
        by: its parameter that names the object.
        identity: what the parameter may hold.
        second: cmdlet that acts.
        takes: the second's parameter that accepts the object from the pipeline.
        reference: Microsoft's page that says so.
    """

    first: str
    by: str
    identity: Identity
    second: str
    takes: str
    reference: str


def _hyperv(first: str, second: str, takes: str) -> Pair:
    return Pair(first, "Id", Identity.GUID, second, takes, f"{_DOCS}/hyper-v/{second.lower()}")


def _cluster(first: str, by: str, identity: Identity, second: str) -> Pair:
    return Pair(first, by, identity, second, "InputObject", f"{_DOCS}/failoverclusters/{second.lower()}")


PAIRS: tuple[Pair, ...] = (
    _hyperv("Get-VM", "Stop-VM", "VM"),
    _hyperv("Get-VM", "Start-VM", "VM"),
    _hyperv("Get-VM", "Remove-VM", "VM"),
    _hyperv("Get-VM", "Set-VM", "VM"),
    _hyperv("Get-VM", "Checkpoint-VM", "VM"),
    _hyperv("Get-VM", "Remove-VMSavedState", "VM"),
    _hyperv("Get-VM", "Add-VMHardDiskDrive", "VM"),
    _hyperv("Get-VM", "Get-VMIntegrationService", "VM"),
    _hyperv("Get-VMSnapshot", "Restore-VMSnapshot", "VMSnapshot"),
    _hyperv("Get-VMSnapshot", "Remove-VMSnapshot", "VMSnapshot"),
    _hyperv("Get-VMSnapshot", "Get-VMHardDiskDrive", "VMSnapshot"),
    _cluster("Get-Disk", "UniqueId", Identity.TEXT, "Add-ClusterDisk"),
    _cluster("Get-ClusterResource", "Name", Identity.TEXT, "Get-ClusterParameter"),
    _cluster("Get-ClusterResource", "Name", Identity.TEXT, "Set-ClusterParameter"),
    _cluster("Get-ClusterSharedVolume", "Name", Identity.TEXT, "Get-ClusterParameter"),
    _cluster("Get-ClusterSharedVolume", "Name", Identity.TEXT, "Set-ClusterParameter"),
    _cluster("Get-ClusterGroup", "VMId", Identity.GUID, "Stop-ClusterGroup"),
    _cluster("Get-ClusterGroup", "VMId", Identity.GUID, "Start-ClusterGroup"),
)


def pair_of(first: str, parameters: Mapping[str, object], second: str) -> Pair:
    """The pair of the list that this is, with its first half selecting one object by identity.

    Raises:
        Unsendable: the pair is not in the list, or its first half does not name exactly one object.
    """
    for pair in PAIRS:
        if (pair.first.lower(), pair.second.lower()) == (first.lower(), second.lower()):
            break
    else:
        raise Unsendable(
            f"{first} | {second} is not in the list of pairs",
            next_action="Pass the object by a parameter of the second cmdlet, or add the pair with its documentation.",
        )
    if [name.lower() for name in parameters] != [pair.by.lower()]:
        raise Unsendable(
            f"In {first} | {second} the first half takes -{pair.by} and nothing else",
            next_action=f"Select the object by -{pair.by}.",
        )
    (value,) = parameters.values()
    if not _identifies(pair.identity, value):
        raise Unsendable(
            f"In {first} | {second} the first half must name exactly one object",
            why=f"-{pair.by} takes {pair.identity.value}",
            next_action="Look the object's identity up first; act on several objects one by one.",
        )
    return pair


def _identifies(identity: Identity, value: object) -> bool:
    if identity is Identity.GUID:
        try:
            UUID(str(value))
        except ValueError:
            return False
        return isinstance(value, (str, UUID))
    return isinstance(value, str) and bool(value) and not _WILDCARD.search(value)
