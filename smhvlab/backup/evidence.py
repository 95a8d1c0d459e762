"""How consistent a backup is and why: what its record keeps of VMs, sets and writers (TR 6.2, 9)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VmEvidence:
    """How consistent one VM is in a backup, and why.

    Attributes:
        how: ``crash``, ``online`` (its guest made itself consistent), ``saved`` or ``off``.
        why: one sentence.
        set_id: shadow copy set, or name of the checkpoint, that holds it; "" for a crash-consistent backup.
        quiesced: whether the guest's own writers took part.
        frozen: seconds for which they held their writes, None if nobody has told.
        frozen_most: seconds that it can have been at most, None if no guest took part.
        downtime: seconds for which the VM did not run, None if it ran all the time or nobody has told.
    """

    how: str
    why: str
    set_id: str = ""
    quiesced: bool = False
    frozen: float | None = None
    frozen_most: float | None = None
    downtime: float | None = None

    def __str__(self) -> str:
        if self.frozen is not None:
            return f"{self.why}; frozen for {f'{self.frozen:g} s' if self.frozen >= 1 else 'less than a second'}"
        if self.frozen_most is not None:
            return f"{self.why}; frozen for {self.frozen_most:g} s at most"
        return self.why if self.downtime is None else f"{self.why}; it did not run for {self.downtime:g} s"


WRITERS_FREEZE = 60.0
"""Seconds for which VSS lets writers stay frozen, in a guest as on a host (TR 9)."""


@dataclass(frozen=True)
class WriterState:
    """The state of one VSS writer after a set, as its host told it."""

    host: str
    writer: str
    state: str
    error: str = ""


@dataclass(frozen=True)
class SetEvidence:
    """What hosts and array told of one shadow copy set, or of one round of checkpoints (TR 9).

    Attributes:
        id: the set's GUID, or the name of the checkpoints.
        host: the requestor's.
        event: the provider's event: 4089 in time, 4364 too late, 0 if there was none.
        milliseconds: from the provider's start of the Snapshot copies to their end.
        snapshots: what the array holds, as ``volume: Snapshot copy``.
        others: VMs on the same volumes that were frozen with those of the dataset.
    """

    id: str
    host: str
    event: int = 0
    milliseconds: int = 0
    writers: tuple[WriterState, ...] = ()
    snapshots: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
