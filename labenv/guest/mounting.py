"""Finding the volumes of a guest on its disks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from random import Random
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.guest.registry import SYSTEM, Record, SystemRecord
from labenv.guest.volume import GuestVolume
from labenv.windows.disks.errors import Corrupt, NotFormatted
from labenv.windows.disks.gpt import BASIC_DATA, PartitionDevice, read_gpt, write_gpt

LETTERS = "EFGHIJKLMNOPQRSTUVWXYZD"
"""Drive letters in the order in which new volumes get them; C is the system's, D was the DVD drive's."""


def mount_all(disks: Sequence[BlockDevice], *, now: Callable[[], datetime]) -> Iterator[GuestVolume]:
    """Every formatted volume, in the order of disks and partitions; letters are not given yet.

    A disk with the GUID of an earlier one (a clone) stays offline, as in Windows.
    """
    seen: set[UUID] = set()
    for disk in disks:
        gpt = read_gpt(disk)
        if gpt is None or gpt.disk_guid in seen:
            continue
        seen.add(gpt.disk_guid)
        for partition in gpt.partitions:
            if partition.type_guid != BASIC_DATA:
                continue
            device = PartitionDevice(disk, partition.offset, partition.length)
            try:
                yield GuestVolume(device, disk=disk, guid=str(partition.guid), now=now)
            except (NotFormatted, Corrupt):
                continue  # the system shows it as a raw volume


def renew_guids(disk: BlockDevice, random: Random) -> None:
    """Give a disk and its partitions other GUIDs: what Windows does to a clone that is brought online."""
    gpt = read_gpt(disk)
    assert gpt is not None
    gpt = gpt.with_disk_guid(UUID(int=random.getrandbits(128), version=4))
    for partition in gpt.partitions:
        gpt = gpt.with_partition_guid(partition.number, UUID(int=random.getrandbits(128), version=4))
    write_gpt(disk, gpt)


def system_record(volume: GuestVolume) -> Record[SystemRecord]:
    """The operating system's own record on a volume, which may not be there."""
    return Record(volume, SYSTEM, SystemRecord)


def assign_letters(
    volumes: Sequence[GuestVolume], system: GuestVolume, mounted: dict[str, str]
) -> tuple[dict[str, GuestVolume], dict[str, str]]:
    """Volumes by drive letter, and the letters to remember by partition GUID.

    A volume keeps the letter it had; a new one gets the next free one.
    """
    system.letter = "C"
    taken = {"C"}
    waiting = []
    for volume in volumes:
        if volume is system:
            continue
        known = mounted.get(volume.guid)
        if known is None or known in taken:
            waiting.append(volume)
        else:
            volume.letter = known
            taken.add(known)
    taken |= set(mounted.values())  # a volume that is not here now keeps its letter as long as there are others
    for volume in waiting:
        volume.letter = next((letter for letter in LETTERS if letter not in taken), "")
        taken.add(volume.letter)
    by_letter = {volume.letter: volume for volume in volumes if volume.letter}
    remembered = {guid: letter for guid, letter in mounted.items() if letter not in by_letter}
    for letter, volume in by_letter.items():
        remembered.setdefault(volume.guid, letter)
    return dict(sorted(by_letter.items())), dict(sorted(remembered.items()))
