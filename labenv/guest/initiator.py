"""The guest's own iSCSI initiator: disks that reach it over its network card, past its host."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.windows.disks.exfat import format_exfat
from labenv.windows.disks.gpt import BASIC_DATA, MIB, Gpt, Partition, PartitionDevice, free_range, write_gpt


class Network(Protocol):
    """What a guest's network card leads to."""

    def disks(self, initiator: str, portal: str) -> Sequence[BlockDevice]:
        """The LUNs that an array shows to an initiator at a portal; raises ``GuestError`` if nothing answers there."""


def node_name(host_name: str) -> str:
    """The initiator's name, as Windows makes it."""
    return f"iqn.1991-05.com.microsoft:{host_name.lower()}"


def format_disk(disk: BlockDevice, *, label: str, random: Random) -> None:
    """Partition an empty disk and format its one volume."""
    layout = Gpt(UUID(int=random.getrandbits(128), version=4))
    offset, length = free_range(disk, layout, align=MIB)
    partition = Partition(
        1, BASIC_DATA, UUID(int=random.getrandbits(128), version=4), offset, length, "Basic data partition"
    )
    write_gpt(disk, layout.adding(partition))
    format_exfat(PartitionDevice(disk, offset, length), label=label, serial=random.getrandbits(32))
