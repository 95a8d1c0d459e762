"""What VSS remembers after a restart: its persistent shadow copies, and how its provider reaches the arrays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class ShadowRecord:
    r"""A shadow copy that outlives its set's creation.

    Attributes:
        count: how many shadow copies the set had when it was made.
        volume: name of the original volume (``\\?\Volume{...}\``); shown: the path under which it was known.
        attributes: as DiskShadow shows them.
        device: the shadow copy's device; empty for one that exists on an array only.
        area: path of a software shadow copy's difference area.
        copies: of a hardware shadow copy, its Snapshot copies on the array.
    """

    id: UUID
    set_id: UUID
    count: int
    volume: str
    shown: str
    provider: UUID
    created: datetime
    machine: str
    attributes: tuple[str, ...]
    kind: str
    device: str = ""
    area: str = ""
    copies: tuple[ArrayCopy, ...] = ()


@dataclass(frozen=True)
class ArrayCopy:
    """A Snapshot copy that belongs to a hardware shadow copy; names may change, uuids do not."""

    address: str
    volume: str
    snapshot: str


@dataclass(frozen=True)
class Connection:
    """How the hardware provider logs in to one storage system. The password is kept apart from the registry."""

    name: str
    password: str
