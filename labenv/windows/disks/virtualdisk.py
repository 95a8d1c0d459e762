"""Virtual disk files of either format: create, open, look at, merge."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from labenv.windows.disks import vhd, vhdx
from labenv.windows.disks.errors import NotAVirtualDisk, ParentMismatch, ParentMissing, VirtualDiskError
from labenv.windows.disks.vhd_mapped import copy_range
from labenv.windows.disks.vhd_types import GrowingDevice, VhdFormat, VhdInfo, VhdType, VirtualDisk

__all__ = [
    "GrowingDevice",
    "VhdFormat",
    "VhdInfo",
    "VhdType",
    "VirtualDisk",
    "copy_steps",
    "create_vhd",
    "merge",
    "merge_steps",
    "open_vhd",
    "read_info",
    "set_parent",
]

_STEP = 1024 * 1024


def create_vhd(
    file: GrowingDevice,
    *,
    format: VhdFormat,  # noqa: A002 - PowerShell's own name for it
    type: VhdType,  # noqa: A002 - as above
    size: int,
    identifier: UUID,
    now: datetime,
    parent: VhdInfo | None = None,
    parent_path: str | None = None,
    relative_path: str | None = None,
    block_size: int | None = None,
    logical_sector_size: int = 512,
    physical_sector_size: int = 4096,
) -> None:
    """Make an empty virtual disk in an empty file that is open for writing.

    A fixed disk is preallocated and takes no space until it is written. A differencing disk wants ``parent`` (the
    parent's ``VhdInfo``) and the parent's path as the host sees it; ``relative_path`` is the one from the child's
    directory (default: the same directory). Raises ``VirtualDiskError`` if the format cannot be what was asked.
    """
    if (parent is not None) != (type is VhdType.DIFFERENCING):
        raise VirtualDiskError(
            "a differencing disk, and no other, is made with a parent; give it one or change the type"
        )
    if parent is not None and parent.format is not format:
        raise VirtualDiskError(
            f"the parent is a {parent.format.value} and the child would be a {format.value}; both have to be the same"
        )
    if format is VhdFormat.VHD:
        vhd.create(
            file,
            kind=type,
            size=size,
            identifier=identifier,
            now=now,
            parent=parent,
            parent_path=parent_path,
            relative_path=relative_path,
            block_size=block_size,
        )
        return
    vhdx.create(
        file,
        kind=type,
        size=size,
        identifier=identifier,
        parent=parent,
        parent_path=parent_path,
        relative_path=relative_path,
        block_size=block_size,
        logical=logical_sector_size,
        physical=physical_sector_size,
    )


def read_info(file: GrowingDevice) -> VhdInfo:
    """What ``Get-VHD`` tells of a file, whether its parent is there or not; raises ``NotAVirtualDisk``."""
    if vhdx.is_vhdx(file):
        return vhdx.read_info(file)
    if vhd.is_vhd(file):
        return vhd.read_info(file)
    raise NotAVirtualDisk("the file is neither a VHD nor a VHDX")


def open_vhd(file: GrowingDevice, *, parent: VirtualDisk | None = None, read_only: bool = False) -> VirtualDisk:
    """A virtual disk as a device.

    Raises ``NotAVirtualDisk``; for a differencing disk ``ParentMissing`` without a parent, ``ParentMismatch`` if the
    one given is not its parent any more.
    """
    info = read_info(file)
    if info.type is VhdType.DIFFERENCING:
        if parent is None:
            raise ParentMissing(
                f"the disk's parent {info.parent_path} is not open; open it first, or find where it went"
            )
        linkage = parent.info.linkage
        if linkage != info.parent_linkage:
            raise ParentMismatch(
                f"the disk was made from {info.parent_path} ({info.parent_linkage}), the one offered is {linkage}; "
                "give it the right parent, or restore the parent to what it was"
            )
        parent_or_none: VirtualDisk | None = parent
    else:
        parent_or_none = None
    if info.format is VhdFormat.VHDX:
        return vhdx.open_disk(file, parent=parent_or_none, read_only=read_only)
    return vhd.open_disk(file, parent=parent_or_none, read_only=read_only)


def set_parent(file: GrowingDevice, *, parent: VhdInfo, parent_path: str, relative_path: str | None = None) -> None:
    """Point a differencing disk to where its parent is now (``Set-VHD -ParentPath``).

    Raises ``ParentMismatch`` if that is another disk than the one the child was made from.
    """
    info = read_info(file)
    if info.type is not VhdType.DIFFERENCING:
        raise VirtualDiskError(f"a {info.type.value} disk has no parent; only a differencing disk does")
    if parent.linkage != info.parent_linkage:
        raise ParentMismatch(f"the disk was made from {info.parent_linkage}, the one offered is {parent.linkage}")
    if info.format is VhdFormat.VHDX:
        vhdx.set_parent(file, parent=parent, parent_path=parent_path, relative_path=relative_path)
    else:
        vhd.set_parent(file, parent=parent, parent_path=parent_path, relative_path=relative_path)


def merge(child: VirtualDisk, parent: VirtualDisk) -> int:
    """Copy what the child itself holds into its parent; returns the bytes copied."""
    return sum(merge_steps(child, parent))


def merge_steps(child: VirtualDisk, parent: VirtualDisk) -> Iterator[int]:
    """``merge`` in pieces of up to 1 MiB, so that the caller may pause between them; yields bytes copied."""
    if parent.size < child.size:
        parent.resize(child.size)
    for offset, length in child.ranges():
        for start in range(offset, offset + length, _STEP):
            part = min(_STEP, offset + length - start)
            parent.write(start, child.read(start, part))
            yield part


def copy_steps(source: VirtualDisk, target: VirtualDisk) -> Iterator[int]:
    """Copy what a disk and its parents hold into an empty disk of at least its size; yields bytes read."""
    for start in range(0, source.size, _STEP):
        end = min(start + _STEP, source.size)
        copy_range(source, target, start, end - start)
        yield end - start
