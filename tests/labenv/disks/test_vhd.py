"""Virtual disk files of every kind, against a model and against other programs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from dissect.hypervisor.disk.vhd import VHD
from dissect.hypervisor.disk.vhdx import VHDX
from exfat_model import NOW, now
from memory_disk import MemoryDisk, MemoryFile

from labenv.devices import DeviceError, DeviceGone, ReadOnlyDevice
from labenv.windows.disks.errors import NotAVirtualDisk, ParentMismatch, ParentMissing, VirtualDiskError
from labenv.windows.disks.exfat import File, FileSystem, format_exfat
from labenv.windows.disks.virtualdisk import (
    VhdFormat,
    VhdInfo,
    VhdType,
    VirtualDisk,
    copy_steps,
    create_vhd,
    merge,
    merge_steps,
    open_vhd,
    read_info,
    set_parent,
)

MIB = 1024 * 1024
GIB = 1024 * MIB
SIZE = 20 * MIB + 3 * 512
QEMU = shutil.which("qemu-img")
PYTHON = "/usr/bin/python3"
needs_qemu = pytest.mark.skipif(QEMU is None, reason="qemu-img (package qemu-utils) is not installed")

KINDS = [
    (VhdFormat.VHD, VhdType.FIXED, None),
    (VhdFormat.VHD, VhdType.DYNAMIC, None),
    (VhdFormat.VHD, VhdType.DYNAMIC, 512 * 1024),
    (VhdFormat.VHDX, VhdType.FIXED, None),
    (VhdFormat.VHDX, VhdType.DYNAMIC, None),
    (VhdFormat.VHDX, VhdType.DYNAMIC, MIB),
]
FORMATS = [VhdFormat.VHD, VhdFormat.VHDX]
AnyFile = MemoryFile | File


def guid(number: int) -> UUID:
    return UUID(int=number, version=4)


def file_system() -> FileSystem:
    disk = MemoryDisk(256 * MIB)
    format_exfat(disk, label="CSV", serial=1)
    return FileSystem(disk, now=now)


def make(
    fmt: VhdFormat, kind: VhdType, *, size: int = SIZE, file: AnyFile | None = None, **more: Any
) -> tuple[AnyFile, VhdInfo]:
    file = file if file is not None else MemoryFile(0)
    create_vhd(file, format=fmt, type=kind, size=size, identifier=guid(int(kind.value == "Fixed") + 5), now=NOW, **more)
    return file, read_info(file)


def change(disk: VirtualDisk, model: bytearray, seed: int, count: int = 60, *, grid: int = 1) -> None:
    """Random writes, unmaps and reads, held against the model; changes begin and end on the grid."""
    rnd = random.Random(seed)
    for _ in range(count):
        length = rnd.choice([1, 512, 700, 4096, 70_000, 3 * MIB])
        offset = rnd.randrange(0, len(model) - length - 4096)
        if rnd.random() < 0.5:
            offset -= offset % 512
        offset, length = offset // grid * grid, -(-length // grid) * grid
        if rnd.random() < 0.8:
            data = rnd.randbytes(length)
            disk.write(offset, data)
            model[offset : offset + length] = data
        else:
            disk.unmap(offset, length)
            model[offset : offset + length] = bytes(length)
        offset = rnd.randrange(0, len(model) - 1)
        length = min(len(model) - offset, rnd.choice([1, 5_000, 5 * MIB]))
        assert disk.read(offset, length) == model[offset : offset + length]
    assert disk.read(0, len(model)) == model


def export(file: AnyFile, path: Path) -> Path:
    path.write_bytes(file.read(0, file.size))
    return path


def qemu(*arguments: str) -> str:
    assert QEMU is not None
    done = subprocess.run([QEMU, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("fmt", "kind", "block"), KINDS)
@pytest.mark.parametrize("in_exfat", [False, True])
def test_disk_holds_what_the_model_holds(fmt: VhdFormat, kind: VhdType, block: int | None, in_exfat: bool) -> None:
    """Random writes, unmaps and reads, over a reopening, in a plain file and in a file of our file system."""
    fs = file_system() if in_exfat else None
    file, info = make(fmt, kind, file=fs.create("\\disk") if fs else None, block_size=block)
    assert (info.format, info.type, info.size, info.parent_path) == (fmt, kind, SIZE, None)
    model = bytearray(SIZE)
    disk = open_vhd(file)
    change(disk, model, 1)
    disk.close()
    disk = open_vhd(file)
    assert disk.read(0, SIZE) == model
    change(disk, model, 2, 20)
    if fs is not None:
        file.close()
        fs.close()
        fs = FileSystem(fs.device, now=now)
        assert fs.check().clean
        with fs.open("\\disk") as again:
            assert open_vhd(again, read_only=True).read(0, SIZE) == model


@needs_qemu
@pytest.mark.parametrize(("fmt", "kind", "block"), KINDS)
def test_qemu_and_dissect_read_the_same_disk(fmt: VhdFormat, kind: VhdType, block: int | None, tmp_path: Path) -> None:
    """qemu-img finds the size, no error and the same bytes; dissect.hypervisor finds the same bytes."""
    file, _ = make(fmt, kind, block_size=block)
    model = bytearray(SIZE)
    change(open_vhd(file), model, 3)
    path = export(file, tmp_path / "disk")
    theirs = "vpc" if fmt is VhdFormat.VHD else "vhdx"
    assert json.loads(qemu("info", "--output=json", "-f", theirs, str(path)))["virtual-size"] == SIZE
    if fmt is VhdFormat.VHDX:  # qemu-img has no check for VHD
        assert "No errors" in qemu("check", "-f", theirs, str(path))
    qemu("convert", "-f", theirs, "-O", "raw", str(path), str(tmp_path / "raw"))
    assert (tmp_path / "raw").read_bytes() == model
    with path.open("rb") as stream:
        reader = VHD(stream) if fmt is VhdFormat.VHD else VHDX(stream)
        assert reader.read(SIZE) == model


@needs_qemu
@pytest.mark.parametrize(
    ("theirs", "options", "kind"),
    [
        ("vpc", "subformat=fixed,force_size=on", VhdType.FIXED),
        ("vpc", "subformat=dynamic,force_size=on", VhdType.DYNAMIC),
        ("vhdx", "subformat=fixed", VhdType.FIXED),
        ("vhdx", "subformat=dynamic", VhdType.DYNAMIC),
        ("vhdx", "subformat=dynamic,block_size=1M", VhdType.DYNAMIC),
    ],
)
def test_disks_that_qemu_made_are_read_and_written(theirs: str, options: str, kind: VhdType, tmp_path: Path) -> None:
    """A disk converted by qemu-img reads as its source; what we write into it qemu-img reads."""
    rnd = random.Random(4)
    size = 12 * MIB
    model = bytearray(size)
    for _ in range(20):
        offset = rnd.randrange(0, size - 5_000)
        model[offset : offset + 5_000] = rnd.randbytes(5_000)
    (tmp_path / "raw").write_bytes(model)
    made = tmp_path / "made"
    qemu("convert", "-O", theirs, "-o", options, str(tmp_path / "raw"), str(made))
    file = MemoryFile.load(made)
    assert read_info(file).type is kind
    disk = open_vhd(file)
    assert disk.read(0, size) == model
    change(disk, model, 5, 10)
    export(file, made)
    qemu("convert", "-f", theirs, "-O", "raw", str(made), str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == model


def family(
    fmt: VhdFormat, base: VhdType = VhdType.DYNAMIC, *, grid: int = 1
) -> tuple[MemoryFile, MemoryFile, bytearray, bytearray]:
    """A parent and its child with changes: (parent file, child file, parent's bytes, child's bytes)."""
    parent_file, info = make(fmt, base)
    parent = open_vhd(parent_file)
    below = bytearray(SIZE)
    change(parent, below, 6, 30, grid=grid)
    info = parent.info
    parent.close()
    extension = fmt.value.lower()
    child_file, _ = make(fmt, VhdType.DIFFERENCING, parent=info, parent_path=f"C:\\VMs\\parent.{extension}")
    child = open_vhd(child_file, parent=open_vhd(parent_file, read_only=True))
    assert child.read(0, SIZE) == below
    above = bytearray(below)
    change(child, above, 7, 40, grid=grid)
    child.close()
    assert isinstance(parent_file, MemoryFile)
    assert isinstance(child_file, MemoryFile)
    return parent_file, child_file, below, above


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("base", [VhdType.FIXED, VhdType.DYNAMIC])
def test_child_shows_its_parent_with_its_own_changes(fmt: VhdFormat, base: VhdType) -> None:
    """A differencing disk reads its parent's bytes until it has its own; the parent does not change; merging works."""
    parent_file, child_file, below, above = family(fmt, base)
    info = read_info(child_file)
    assert info.type is VhdType.DIFFERENCING
    assert info.parent_path == f"C:\\VMs\\parent.{fmt.value.lower()}"
    assert info.parent_relative_path == f".\\parent.{fmt.value.lower()}"
    assert info.parent_linkage == read_info(parent_file).linkage
    parent = open_vhd(parent_file)
    child = open_vhd(child_file, parent=parent, read_only=True)
    assert parent.read(0, SIZE) == below
    assert child.read(0, SIZE) == above
    assert merge(child, parent) == sum(length for _, length in child.ranges())
    assert parent.read(0, SIZE) == above
    parent.close()
    assert open_vhd(parent_file).read(0, SIZE) == above


@pytest.mark.parametrize("fmt", FORMATS)
def test_chain_of_three_merges_down(fmt: VhdFormat) -> None:
    """A grandchild reads through both, and merges into its parent while the grandparent stays."""
    parent_file, child_file, below, above = family(fmt)
    parent = open_vhd(parent_file, read_only=True)
    child = open_vhd(child_file, parent=parent)
    grand_file, _ = make(fmt, VhdType.DIFFERENCING, parent=child.info, parent_path="C:\\VMs\\child")
    grand = open_vhd(grand_file, parent=child)
    top = bytearray(above)
    change(grand, top, 8, 30)
    assert child.read(0, SIZE) == above
    assert all(0 < step <= MIB for step in merge_steps(grand, child))
    assert child.read(0, SIZE) == top
    assert parent.read(0, SIZE) == below


@pytest.mark.parametrize("fmt", FORMATS)
def test_wrong_and_missing_parents_are_refused(fmt: VhdFormat) -> None:
    """A child opens only over the parent it was made from; its link can be moved but not forged."""
    parent_file, child_file, _, above = family(fmt)
    with pytest.raises(ParentMissing):
        open_vhd(child_file)
    stranger, _ = make(fmt, VhdType.FIXED)
    open_vhd(stranger).write(0, b"x" * 512)
    with pytest.raises(ParentMismatch):
        open_vhd(child_file, parent=open_vhd(stranger))
    with pytest.raises(ParentMismatch):
        set_parent(child_file, parent=read_info(stranger), parent_path="D:\\x")
    set_parent(child_file, parent=read_info(parent_file), parent_path="D:\\New place\\p", relative_path="..\\p")
    info = read_info(child_file)
    assert (info.parent_path, info.parent_relative_path) == ("D:\\New place\\p", "..\\p")
    assert open_vhd(child_file, parent=open_vhd(parent_file)).read(0, SIZE) == above
    with pytest.raises(VirtualDiskError):
        set_parent(parent_file, parent=info, parent_path="C:\\x")


def test_vhdx_child_notices_that_its_parent_was_written() -> None:
    """Writing to a VHDX changes its data-write GUID, so its children refuse it; opening and reading does not."""
    parent_file, child_file, _, _ = family(VhdFormat.VHDX)
    reader = open_vhd(parent_file)
    reader.read(0, 512)
    open_vhd(child_file, parent=reader)
    reader.write(0, b"changed" + bytes(505))
    with pytest.raises(ParentMismatch):
        open_vhd(child_file, parent=reader)


@pytest.mark.parametrize("fmt", FORMATS)
def test_another_reader_follows_the_parent(fmt: VhdFormat, tmp_path: Path) -> None:
    """libvhdi takes our child and our parent together and reads the same bytes."""
    probe = subprocess.run([PYTHON, "-c", "import pyvhdi"], capture_output=True, timeout=60, check=False)
    if probe.returncode:
        pytest.skip("libvhdi (package python3-libvhdi) is not installed")
    # In a VHD it takes the rest of a byte of the sector bitmap for set once one bit is (it forgets a mask).
    parent_file, child_file, _, above = family(fmt, grid=4096 if fmt is VhdFormat.VHD else 1)
    paths = [str(export(parent_file, tmp_path / "parent")), str(export(child_file, tmp_path / "child"))]
    script = (
        "import pyvhdi, sys\n"
        "parent, child = pyvhdi.file(), pyvhdi.file()\n"
        "parent.open(sys.argv[1]); child.open(sys.argv[2])\n"
        "assert child.get_parent_identifier() == parent.get_identifier()\n"
        "child.set_parent(parent)\n"
        "size = child.get_media_size()\n"
        "for at in range(0, size, 512): sys.stdout.buffer.write(child.read_buffer_at_offset(min(512, size - at), at))\n"
    )
    done = subprocess.run([PYTHON, "-c", script, *paths], capture_output=True, timeout=120, check=True)
    assert done.stdout == above


def test_dissect_follows_a_vhdx_parent(tmp_path: Path) -> None:
    """dissect.hypervisor finds the parent by its relative path and reads the same sectors."""
    parent_file, child_file, _, above = family(VhdFormat.VHDX)
    export(parent_file, tmp_path / "parent.vhdx")
    reader = VHDX(export(child_file, tmp_path / "child.avhdx"))
    # Eight sectors at a time: it loses count when it begins inside a byte of the sector bitmap.
    wrong = []
    for at in range(0, SIZE, 4096):
        data = reader.read_sectors(at // 512, min(4096, SIZE - at) // 512)
        if data != above[at : at + 4096]:
            wrong.append(at)
    reader.parent.fh.close()
    reader.fh.close()
    assert wrong == []


@needs_qemu
def test_qemu_knows_a_differencing_vhd(tmp_path: Path) -> None:
    """qemu-img accepts the headers of a differencing VHD (it reads none of VHDX, and no parents)."""
    _, child_file, _, _ = family(VhdFormat.VHD)
    path = export(child_file, tmp_path / "child.avhd")
    assert json.loads(qemu("info", "--output=json", "-f", "vpc", str(path)))["virtual-size"] == SIZE


@pytest.mark.parametrize("fmt", FORMATS)
def test_big_fixed_disk_takes_no_time_and_no_space(fmt: VhdFormat) -> None:
    """A fixed 10 GB disk is made with a few writes; writing into it is one write of the array, aligned, in place."""
    disk = MemoryDisk(64 * GIB)
    format_exfat(disk, label="CSV", serial=1)
    fs = FileSystem(disk, now=now)
    writes, pages = disk.writes, len(disk.pages)
    file, _ = make(fmt, VhdType.FIXED, size=10 * GIB, file=fs.create("\\disk0"))
    assert disk.writes - writes < 40
    assert len(disk.pages) - pages < 200
    virtual = open_vhd(file)
    virtual.write(0, b"first" + bytes(4091))
    writes, pages = disk.writes, len(disk.pages)
    virtual.write(7 * GIB + 4096, b"x" * 4096)
    assert (disk.writes - writes, len(disk.pages) - pages) == (1, 1)
    assert isinstance(file, File)
    assert len(file.extents()) == 1
    assert virtual.read(7 * GIB + 4096, 4) == b"xxxx"


@pytest.mark.parametrize(("fmt", "kind", "block"), [k for k in KINDS if k[1] is VhdType.DYNAMIC])
def test_power_cut_while_a_dynamic_disk_grows(fmt: VhdFormat, kind: VhdType, block: int | None) -> None:
    """After every number of writes the file opens, and every byte is the old one or the new one."""
    start, _ = make(fmt, kind, block_size=block)
    assert isinstance(start, MemoryFile)
    disk = open_vhd(start)
    disk.write(0, b"old" * 1000)
    size = start.size
    for lives in range(60):
        copy = MemoryFile(size)
        copy.pages = dict(start.pages)
        copy.lives = lives
        victim = open_vhd(copy)
        done = []
        try:
            for place in (5 * MIB, 100, 9 * MIB + 512):
                victim.write(place, b"new" * 1000)
                done.append(place)
        except DeviceGone:
            pass
        copy.lives = None
        again = open_vhd(copy)
        for place, old in (
            (5 * MIB, bytes(3000)),
            (100, (b"old" * 1000)[100:].ljust(3000, b"\0")),
            (9 * MIB + 512, bytes(3000)),
        ):
            got = again.read(place, 3000)
            assert got == b"new" * 1000 if place in done else got in (b"new" * 1000, old)
        again.write(15 * MIB, b"later")
        assert open_vhd(copy).read(15 * MIB, 5) == b"later"


@pytest.mark.parametrize(("fmt", "kind", "block"), KINDS)
def test_disks_grow(fmt: VhdFormat, kind: VhdType, block: int | None) -> None:
    """A disk made bigger keeps its bytes and gains zeros; what a format cannot is refused."""
    file, info = make(fmt, kind, block_size=block)
    model = bytearray(SIZE)
    disk = open_vhd(file)
    change(disk, model, 9, 20)
    bigger = SIZE + 512 * 100 if (fmt, kind) == (VhdFormat.VHD, VhdType.DYNAMIC) else SIZE + 50 * MIB
    disk.resize(bigger)
    model += bytes(bigger - SIZE)
    assert disk.read(0, bigger) == model
    change(disk, model, 10, 10)
    disk.close()
    disk = open_vhd(file)
    assert (disk.size, disk.info.size) == (bigger, bigger)
    assert disk.read(0, bigger) == model
    assert replace(read_info(file), file_size=0, size=SIZE, linkage=info.linkage) == replace(info, file_size=0)
    with pytest.raises(VirtualDiskError):
        disk.resize(bigger + 1)
    if fmt is VhdFormat.VHD and kind is VhdType.DYNAMIC:
        with pytest.raises(VirtualDiskError):
            disk.resize(GIB)


@pytest.mark.parametrize("fmt", FORMATS)
def test_fixed_disks_shrink(fmt: VhdFormat) -> None:
    """A fixed disk cut shorter keeps the bytes before its new end, and zeros follow if it grows again."""
    file, _ = make(fmt, VhdType.FIXED)
    disk = open_vhd(file)
    model = bytearray(SIZE)
    change(disk, model, 11, 20)
    small = 9 * MIB + 512
    disk.resize(small)
    assert disk.read(0, small) == model[:small]
    with pytest.raises(DeviceError):
        disk.read(small, 1)
    disk.resize(SIZE)
    assert open_vhd(file).read(0, SIZE) == model[:small].ljust(SIZE, b"\0")


def test_copy_converts_between_formats() -> None:
    """A chain of VHDs is copied into one dynamic VHDX that holds no more than is written."""
    parent_file, child_file, _, _ = family(VhdFormat.VHD)
    source = open_vhd(child_file, parent=open_vhd(parent_file))
    source.unmap(0, SIZE)
    source.write(5 * MIB, b"kept" * 128)
    target_file, _ = make(VhdFormat.VHDX, VhdType.DYNAMIC, block_size=MIB)
    target = open_vhd(target_file)
    assert sum(copy_steps(source, target)) == SIZE
    assert target.read(0, SIZE) == source.read(0, SIZE)
    assert [offset for offset, _ in target.ranges()] == [5 * MIB]


@pytest.mark.tr("R-T3-03")
def test_impossible_disks_are_refused() -> None:
    """Sizes, blocks, parents and files that cannot be are refused with a class of the tree."""
    file = MemoryFile(0)
    fixed, info = make(VhdFormat.VHD, VhdType.FIXED)
    for fmt, kind, more in (
        (VhdFormat.VHD, VhdType.FIXED, {"size": 1000}),
        (VhdFormat.VHD, VhdType.DYNAMIC, {"size": 2041 * GIB}),
        (VhdFormat.VHD, VhdType.DYNAMIC, {"block_size": 12345}),
        (VhdFormat.VHDX, VhdType.DYNAMIC, {"size": 65 * 1024 * GIB}),
        (VhdFormat.VHDX, VhdType.DYNAMIC, {"block_size": 3 * MIB}),
        (VhdFormat.VHDX, VhdType.DYNAMIC, {"logical_sector_size": 1024}),
        (VhdFormat.VHD, VhdType.DIFFERENCING, {}),
        (VhdFormat.VHD, VhdType.FIXED, {"parent": info}),
        (VhdFormat.VHDX, VhdType.DIFFERENCING, {"parent": info, "parent_path": "C:\\p.vhd"}),
    ):
        with pytest.raises(VirtualDiskError):
            make(fmt, kind, file=file, **more)
    assert file.writes == 0
    for junk in (MemoryFile(0), MemoryFile(100), MemoryFile(10 * MIB)):
        with pytest.raises(NotAVirtualDisk):
            open_vhd(junk)
    damaged = MemoryFile(fixed.size)
    damaged.write(0, fixed.read(0, fixed.size))
    damaged.write(fixed.size - 512 + 50, b"\xff")
    with pytest.raises(NotAVirtualDisk):
        open_vhd(damaged)


@pytest.mark.parametrize(("fmt", "kind", "block"), KINDS)
def test_closed_and_read_only_disks_refuse(fmt: VhdFormat, kind: VhdType, block: int | None) -> None:
    """A read-only disk takes no write and leaves the file as it is; a closed disk does nothing at all."""
    file, _ = make(fmt, kind, block_size=block)
    before = file.read(0, file.size)
    disk = open_vhd(file, read_only=True)
    for refused in (lambda: disk.write(0, b"x" * 512), lambda: disk.unmap(0, 512), lambda: disk.resize(2 * SIZE)):
        with pytest.raises(ReadOnlyDevice):
            refused()
    for outside in (lambda: disk.read(SIZE, 1), lambda: disk.read(-1, 1)):
        with pytest.raises(DeviceError):
            outside()
    disk.close()
    for gone in (lambda: disk.read(0, 1), lambda: disk.write(0, b"x"), disk.flush, lambda: list(disk.ranges())):
        with pytest.raises(DeviceGone):
            gone()
    assert file.read(0, file.size) == before


def test_vhdx_with_4k_sectors_and_a_child(tmp_path: Path) -> None:
    """A VHDX with native 4 KiB sectors and its child hold what they should, and dissect reads the parent."""
    size = 12 * MIB
    sectors = {"logical_sector_size": 4096, "physical_sector_size": 4096}
    file, info = make(VhdFormat.VHDX, VhdType.DYNAMIC, size=size, block_size=MIB, **sectors)
    assert info.logical_sector_size == 4096
    model = bytearray(size)
    parent = open_vhd(file)
    change(parent, model, 12, 20)
    with export(file, tmp_path / "disk").open("rb") as stream:
        assert VHDX(stream).read(size) == model
    child_file, _ = make(
        VhdFormat.VHDX, VhdType.DIFFERENCING, size=size, parent=parent.info, parent_path="C:\\p.vhdx", **sectors
    )
    child = open_vhd(child_file, parent=parent)
    change(child, model, 13, 30)
    assert open_vhd(child_file, parent=parent).read(0, size) == model
