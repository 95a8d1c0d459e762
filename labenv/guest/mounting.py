"""Finding the volumes of a guest on its disks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from labenv.devices import BlockDevice
from labenv.guest.registry import SYSTEM, Record, SystemRecord
from labenv.guest.volume import GuestVolume
from labenv.windows.disks.errors import Corrupt, NotFormatted
from labenv.windows.disks.gpt import BASIC_DATA, PartitionDevice, read_gpt

LETTERS = "EFGHIJKLMNOPQRSTUVWXYZD"
"""Drive letters in the order in which new volumes get them; C is the system's, D was the DVD drive's."""


def mount_all(disks: Sequence[BlockDevice], *, now: Callable[[], datetime]) -> Iterator[GuestVolume]:
    """Every formatted volume, in the order of disks and partitions; letters are not given yet."""
    for disk in disks:
        gpt = read_gpt(disk)
        for partition in gpt.partitions if gpt is not None else ():
            if partition.type_guid != BASIC_DATA:
                continue
            device = PartitionDevice(disk, partition.offset, partition.length)
            try:
                yield GuestVolume(device, guid=str(partition.guid), now=now)
            except (NotFormatted, Corrupt):
                continue  # the system shows it as a raw volume


def system_record(volume: GuestVolume) -> Record[SystemRecord]:
    """The operating system's own record on a volume, which may not be there."""
    return Record(volume, SYSTEM, SystemRecord)


def assign_letters(
    volumes: Sequence[GuestVolume], system: GuestVolume, mounted: dict[str, str]
) -> tuple[dict[str, GuestVolume], dict[str, str]]:
    """Volumes by drive letter, and the letters to remember by partition GUID.

    A volume keeps the letter it had; a new one gets the next free one.
    """
    letters = {system.guid: "C"}
    for volume in volumes:
        known = mounted.get(volume.guid)
        if known is not None and known not in letters.values():
            letters.setdefault(volume.guid, known)
    # A volume that is not here now keeps its letter as long as there are others.
    taken = set(letters.values()) | {letter for letter in mounted.values() if letter != "C"}
    for volume in volumes:
        if volume.guid not in letters:
            letters[volume.guid] = next(letter for letter in LETTERS if letter not in taken)
            taken.add(letters[volume.guid])
    by_letter = {}
    for volume in volumes:
        volume.letter = letters[volume.guid]
        by_letter[volume.letter] = volume
    remembered = {guid: letter for guid, letter in mounted.items() if letter not in letters.values()}
    return dict(sorted(by_letter.items())), dict(sorted({**remembered, **letters}.items()))
