"""The host's local disk: a file that grows by what was written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from labenv.devices import DeviceError, DeviceGone
from labenv.windows.localdisk import LocalDisk

from .bench import MIB, Memory


def test_like_memory(tmp_path: Path) -> None:
    """Random writes, unmaps and reads give what a plain array of bytes gives, also after the file is opened again."""
    chance = random.Random(1)
    size = 8 * MIB
    disk, model = LocalDisk(tmp_path / "c.disk", size), Memory(size)
    for step in range(300):
        offset = chance.randrange(size)
        length = min(chance.choice((1, 512, 70_000, 600_000)), size - offset)
        if chance.random() < 0.3:
            disk.unmap(offset, length)
            model.unmap(offset, length)
        else:
            data = chance.randbytes(length) if chance.random() < 0.8 else bytes(length)
            disk.write(offset, data)
            model.write(offset, data)
        if step % 50 == 49:
            disk.close()
            disk = LocalDisk(tmp_path / "c.disk", size)
            assert disk.read(0, size) == model.read(0, size)
    disk.close()


def test_takes_only_what_was_written(tmp_path: Path) -> None:
    """A disk of 64 GiB with one written block is a small file."""
    disk = LocalDisk(tmp_path / "c.disk", 64 << 30)
    disk.write(63 << 30, b"x")
    assert (tmp_path / "c.disk").stat().st_size < 4 * MIB
    assert disk.read((63 << 30) - 1, 3) == b"\0x\0"
    disk.close()


def test_limits(tmp_path: Path) -> None:
    """Nothing is read beyond the end or after closing, and a file of another size is refused."""
    disk = LocalDisk(tmp_path / "c.disk", MIB)
    with pytest.raises(DeviceError):
        disk.write(MIB - 1, b"xx")
    disk.close()
    with pytest.raises(DeviceGone):
        disk.read(0, 1)
    with pytest.raises(DeviceError):
        LocalDisk(tmp_path / "c.disk", 2 * MIB)


def test_kept_copies(tmp_path: Path) -> None:
    """A kept copy comes back as it was, more than once, until it is dropped."""
    disk = LocalDisk(tmp_path / "c.disk", MIB)
    disk.write(0, b"one")
    disk.keep("fresh")
    for _ in range(2):
        disk.write(0, b"two")
        disk.put_back("fresh")
        assert disk.read(0, 3) == b"one"
    disk.drop("fresh")
    assert [p.name for p in tmp_path.iterdir()] == ["c.disk"]
    disk.close()
