"""Which storage container fits a VM's disk: the TR's Table 3 as a decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from smhvlab.sizes import shown

VHD_LIMIT = 2040 << 30
"""Bytes that a VHD of the TR's time can have at most."""


class Container(StrEnum):
    """What a VM's disk can be made of."""

    PHYSICAL = "pass-through disk"
    FIXED = "fixed VHD"
    DYNAMIC = "dynamically expanding VHD"
    DIFFERENCING = "differencing VHD"


PROS = {
    Container.PHYSICAL: "the fastest and simplest path, least CPU, very large disks",
    Container.FIXED: "the best alignment and the fastest of all VHDs; space cannot run out while the VM runs",
    Container.DYNAMIC: "made at once, small at first, and small to copy",
    Container.DIFFERENCING: "made at once; holds only what differs from its parent",
}
CONS = {
    Container.PHYSICAL: "for one VM alone; no VM Snapshot copy; in no backup",
    Container.FIXED: "takes all of its space, and time, when it is made; cannot shrink",
    Container.DYNAMIC: "misaligned, slow while it grows; the VM pauses when the disk below is full; no defragmenting",
    Container.DIFFERENCING: "as a dynamic one, and bound to its parent: it cannot be expanded",
}


@dataclass(frozen=True)
class Weighed:
    """A container, and whether it will do: ``against`` says why it will not, or what speaks against it."""

    container: Container
    fits: bool
    against: str


def weigh(size: int, *, room: int, backup: bool, checkpoints: bool, golden: bool) -> list[Weighed]:
    """Weigh each container for a disk of ``size`` bytes where ``room`` bytes are free (TR appendix, Table 3).

    Args:
        backup: SMHV shall back the disk up with its VM.
        checkpoints: the VM shall have checkpoints (the TR's VM Snapshot copies).
        golden: the disk belongs to a golden image (2.2/3).
    """
    found = []
    for container in Container:
        reasons: list[str] = []
        if container is Container.PHYSICAL:
            reasons += ["the Hyper-V VSS writer does not back it up"] if backup else []
            reasons += ["a VM with such a disk has no checkpoints"] if checkpoints else []
            reasons += ["an image is copied as files"] if golden else []
        else:
            reasons += [f"a VHD has at most {VHD_LIMIT >> 30:,} GB"] if size > VHD_LIMIT else []
        if container is Container.FIXED and size > room:
            reasons.append(f"only {shown(room)} are free, and it takes all of its space at once")
        if golden and container in (Container.DYNAMIC, Container.DIFFERENCING):
            reasons.append("golden images are made of fixed VHDs")
        against = reasons or [CONS[container]]
        if not reasons and size > room and container is not Container.PHYSICAL:
            against = [f"only {shown(room)} are free: the VM pauses when it has grown into that"]
        found.append(Weighed(container, not reasons, "; ".join(against)))
    return found
