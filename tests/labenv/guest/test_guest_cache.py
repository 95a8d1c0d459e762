"""The write cache of a guest volume against plain bytes, and what of it a crash leaves."""

from __future__ import annotations

from random import Random

import pytest

from labenv.guest.load import Load
from labenv.guest.volume import EXPIRE, GuestVolume, split_path
from labenv.windows.disks.exfat import format_exfat

from . import rack


def formatted(size: int = 8 << 20) -> rack.RackDisk:
    disk = rack.RackDisk(size)
    format_exfat(disk, label="Test", serial=1)
    return disk


def mounted(disk: rack.RackDisk, time: rack.LabTime | None = None) -> GuestVolume:
    return GuestVolume(disk, guid="one", now=time or rack.LabTime())


def scribble(seed: int, steps: int) -> None:
    """Random writes, truncations, flushes, lazy writes and remounts, compared with plain bytes after each."""
    random = Random(seed)
    disk = formatted()
    volume = mounted(disk)
    model = bytearray()
    file = volume.open("\\file", create=True)
    for _ in range(steps):
        action = random.random()
        if action < 0.6:
            offset = random.randrange(0, min(len(model) + 20_000, 400_000))
            data = random.randbytes(random.choice((1, 100, 4096, 5000, 20_000)))
            if random.random() < 0.4:
                offset -= offset % 4096
            if offset > len(model):
                model += bytes(offset - len(model))
            model[offset : offset + len(data)] = data
            file.write(offset, data)
        elif action < 0.7:
            size = random.randrange(0, len(model) + 10_000)
            model = model[:size].ljust(size, b"\0")
            file.truncate(size)
        elif action < 0.8:
            volume.lazy_write(random, second=0)
        elif action < 0.9:
            volume.flush_file(file)
        elif action < 0.95:
            volume.release("\\file")
            volume.close()
            volume = mounted(disk)
            file = volume.open("\\file")
        offset = random.randrange(0, len(model) + 1)
        length = random.choice((1, 4096, 30_000))
        assert file.read(offset, length) == model[offset : offset + length]
        assert file.size == len(model)
    assert file.read(0, len(model)) == model
    volume.release("\\file")
    volume.close()
    assert mounted(disk).file_system.read_file("\\file") == model


@pytest.mark.parametrize("seed", range(4))
def test_the_cache_reads_like_plain_bytes(seed: int) -> None:
    """Whatever waits in the cache or is on the disk, reads see the latest bytes."""
    scribble(seed, 250)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4, 40))
def test_the_cache_reads_like_plain_bytes_for_long(seed: int) -> None:
    """As above, longer."""
    scribble(seed, 2000)


def test_an_unflushed_file_exists_and_is_zeros() -> None:
    """What nobody flushed before a crash keeps name and size and reads as zeros, even if the lazy writer ran."""
    disk = formatted()
    volume = mounted(disk)
    file = volume.open("\\notes.txt", create=True)
    file.write(0, b"x" * 10_000)
    volume.lazy_write(Random(1), second=0)
    assert file.dirty_bytes == 2 * 4096
    crashed = mounted(disk.copy())
    entry = crashed.listdir("\\")[0]
    assert (entry.name, entry.size, entry.valid) == ("notes.txt", 10_000, 0)
    assert crashed.file_system.read_file("\\notes.txt") == bytes(10_000)
    volume.flush_file(file)
    assert mounted(disk.copy()).file_system.read_file("\\notes.txt") == b"x" * 10_000


def test_a_file_that_waits_too_long_is_written(persist_disks: list[rack.RackDisk]) -> None:
    """After half a minute of lab time an unflushed note is safe; a few seconds are not enough."""
    time = rack.LabTime()
    guest = rack.start(persist_disks, time=time)
    guest.write_file("C:\\notes.txt", b"note")
    time.pass_(5)
    guest.settle()
    assert rack.start(rack.copies(persist_disks)).read_file("C:\\notes.txt") == bytes(4)
    time.pass_(EXPIRE)
    guest.settle()
    assert rack.start(rack.copies(persist_disks)).read_file("C:\\notes.txt") == b"note"
    assert guest.dirty_bytes == 0
    guest.shutdown()


def test_a_deleted_file_takes_its_waiting_blocks_along() -> None:
    """Blocks of a deleted file are never written over whoever gets its clusters."""
    disk = formatted()
    volume = mounted(disk)
    volume.open("\\old", create=True).write(0, b"o" * 40_960)
    volume.release("\\old")
    volume.remove("\\old")
    file = volume.open("\\new", create=True)
    file.write(0, b"n" * 40_960)
    volume.flush()
    assert volume.dirty_bytes == 0
    assert mounted(disk.copy()).file_system.read_file("\\new") == b"n" * 40_960


def test_paths_have_a_drive_letter() -> None:
    """A guest path is split at its letter; others are refused."""
    assert split_path("e:/Data/bb1.mdf") == ("E", "\\Data\\bb1.mdf")
    for path in ("", "E:", "Data\\x", "\\\\server\\share", "1:\\x"):
        with pytest.raises(ValueError, match="drive letter"):
            split_path(path)


def test_it_does_not_matter_how_often_a_guest_is_asked(persist_disks: list[rack.RackDisk]) -> None:
    """Settling every second or once a minute, with background load and dirty files, gives the same bytes."""

    def run(pause: int) -> list[dict[int, bytes]]:
        disks = rack.copies(persist_disks)
        time = rack.LabTime()
        guest = rack.start(disks, time=time)
        guest.start_load(Load("bb1", rows_per_second=3, up_to=100))
        guest.write_file("E:\\notes.txt", b"note" * 20_000)
        for _ in range(0, 60, pause):
            time.pass_(pause)
            guest.settle()
        guest.power_off()
        return [disk.pages for disk in disks]

    assert run(1) == run(20) == run(60)
