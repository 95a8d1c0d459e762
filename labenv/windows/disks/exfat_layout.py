"""Where things are in an exFAT volume: the boot regions, and laying out a new file system."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import lru_cache

from labenv.devices import BlockDevice, DeviceError
from labenv.windows.disks.errors import Corrupt, FileSystemError, InvalidName, NotFormatted
from labenv.windows.disks.exfat_entries import BITMAP, LABEL, UPCASE
from labenv.windows.disks.exfat_names import MAX_LABEL, checksum32, upcase_table
from labenv.windows.disks.gpt import PartitionDevice

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
BLOCK = 4096
"""Metadata is written in whole blocks of this size where the layout allows: one write of the array, all or nothing."""
BIG_ALIGNMENT = 2 * MIB
"""Big files start on a multiple of this in the disk's own offsets, where whole pointer pages of the array begin."""
FIRST_CLUSTER = 2
END_OF_CHAIN = 0xFFFFFFFF

_BOOT = struct.Struct("<3s8s53xQQIIIIIIHHBBBBB7x390s2s")
_BOOT_SECTORS = 12
_DIRTY = 0x0002
_FLAGS_AT = 106
_PERCENT_AT = 112


@dataclass(frozen=True)
class Geometry:
    """The boot sector's fields, in bytes where they are sectors on disk."""

    sector_shift: int
    cluster_shift: int
    partition_offset: int
    volume_length: int
    fat_offset: int
    fat_length: int
    heap_offset: int
    cluster_count: int
    root: int
    serial: int
    dirty: bool = False

    @property
    def cluster_size(self) -> int:
        """Bytes of one cluster."""
        return 1 << self.cluster_shift

    def cluster_offset(self, cluster: int) -> int:
        """Where a cluster begins on the device."""
        return self.heap_offset + ((cluster - FIRST_CLUSTER) << self.cluster_shift)

    def clusters(self, size: int) -> int:
        """How many clusters hold that many bytes."""
        return (size + self.cluster_size - 1) >> self.cluster_shift

    def pack(self) -> bytes:
        """One boot region: boot sector, extended sectors, checksum sector."""
        sector = 1 << self.sector_shift
        boot = _BOOT.pack(
            b"\xeb\x76\x90",
            b"EXFAT   ",
            self.partition_offset >> self.sector_shift,
            self.volume_length >> self.sector_shift,
            self.fat_offset >> self.sector_shift,
            self.fat_length >> self.sector_shift,
            self.heap_offset >> self.sector_shift,
            self.cluster_count,
            self.root,
            self.serial,
            0x0100,
            _DIRTY if self.dirty else 0,
            self.sector_shift,
            self.cluster_shift - self.sector_shift,
            1,
            0x80,
            0xFF,
            bytes([0xF4]) * 390,
            b"\x55\xaa",
        ).ljust(sector, b"\0")
        extended = bytes(sector - 4) + b"\x00\x00\x55\xaa"
        region = boot + extended * 8 + bytes(2 * sector)
        return region + _region_checksum(region).to_bytes(4, "little") * (sector // 4)


def read_geometry(device: BlockDevice) -> Geometry:
    """The geometry from the boot sector, or from its backup if the first one is damaged.

    Raises ``NotFormatted`` if there is no exFAT, ``Corrupt`` if both copies are damaged.
    """
    if device.size < 24 * 512:
        raise NotFormatted(f"a device of {device.size} bytes is too small for exFAT; format a bigger one")
    start = device.read(0, 512)
    if start[3:11] != b"EXFAT   ":
        raise NotFormatted("the device holds no exFAT file system; format it first")
    shift = start[108]
    regions = [shift] if 9 <= shift <= 12 else [9, 12]
    for sector_shift in regions:
        length = _BOOT_SECTORS << sector_shift
        for offset in (0, length):
            if offset + length <= device.size:
                geometry = _parse(device.read(offset, length), sector_shift)
                if geometry is not None:
                    return geometry
    raise Corrupt("both boot regions of the file system are damaged; it cannot be mounted")


def format_exfat(device: BlockDevice, *, label: str, serial: int, cluster_size: int | None = None) -> None:
    """Make an empty exFAT file system; whatever the device held is unmapped.

    ``serial`` is the 32-bit volume serial number. Clusters are 4 KiB up to 128 GiB and 128 KiB above, unless told.
    Raises ``InvalidName`` for a label of more than 11 characters, ``FileSystemError`` for a size that cannot be.
    """
    units = label.encode("utf-16-le")
    if len(units) > 2 * MAX_LABEL:
        raise InvalidName(f"the label {label!r} has more than the {MAX_LABEL} characters that exFAT takes; shorten it")
    geometry = _plan(device, serial, cluster_size)
    per_cluster = geometry.cluster_size
    bitmap_length = (geometry.cluster_count + 7) // 8
    upcase, upcase_sum = upcase_table()
    bitmap_clusters = geometry.clusters(bitmap_length)
    upcase_clusters = geometry.clusters(len(upcase))
    upcase_first = FIRST_CLUSTER + bitmap_clusters
    root = upcase_first + upcase_clusters
    geometry = replace(geometry, root=root)
    used = bitmap_clusters + upcase_clusters + 1
    if used + 1 > geometry.cluster_count:
        raise FileSystemError(f"a device of {device.size} bytes is too small for exFAT")
    fat = bytearray(struct.pack("<II", 0xFFFFFFF8, END_OF_CHAIN))
    for first, count in ((FIRST_CLUSTER, bitmap_clusters), (upcase_first, upcase_clusters), (root, 1)):
        fat += struct.pack(f"<{count}I", *range(first + 1, first + count), END_OF_CHAIN)
    bitmap = b"\xff" * (used // 8) + bytes([(1 << used % 8) - 1])
    entries = struct.pack("<BB22s8x", LABEL, len(units) // 2, units)
    entries += struct.pack("<BB18xIQ", BITMAP, 0, FIRST_CLUSTER, bitmap_length)
    entries += struct.pack("<B3xI12xIQ", UPCASE, upcase_sum, upcase_first, len(upcase))
    device.unmap(0, device.size)
    device.write(geometry.fat_offset, _blocks(bytes(fat)))
    device.write(geometry.cluster_offset(FIRST_CLUSTER), _blocks(bitmap, per_cluster))
    device.write(geometry.cluster_offset(upcase_first), _blocks(upcase, per_cluster))
    device.write(geometry.cluster_offset(root), _blocks(entries, per_cluster))
    region = geometry.pack()
    device.write(0, region + region)
    device.flush()


def flag_dirty(device: BlockDevice, geometry: Geometry, *, dirty: bool) -> None:
    """Set or clear the volume's dirty flag in the boot sector."""
    block = min(BLOCK, _BOOT_SECTORS << geometry.sector_shift)
    head = bytearray(device.read(0, block))
    flags = head[_FLAGS_AT] & ~_DIRTY | (_DIRTY if dirty else 0)
    if flags != head[_FLAGS_AT]:
        head[_FLAGS_AT] = flags
        device.write(0, bytes(head))


def _plan(device: BlockDevice, serial: int, cluster_size: int | None) -> Geometry:
    size = device.size & ~(BLOCK - 1)
    cluster = cluster_size or (4 * KIB if size <= 128 * GIB else 128 * KIB)
    if cluster & (cluster - 1) or not 512 <= cluster <= 32 * MIB:
        raise FileSystemError(f"{cluster} bytes cannot be a cluster; it is a power of two from 512 bytes to 32 MiB")
    partition_offset = device.offset if isinstance(device, PartitionDevice) else 0
    spacious = size >= 64 * MIB
    fat_offset = 64 * KIB if spacious else 24 * 512
    # The table has room for four times the size, so that the volume can be extended where it is.
    fat_length = _up(4 * (size // cluster + FIRST_CLUSTER) * (4 if spacious else 1), BLOCK)
    align = max(BIG_ALIGNMENT if spacious else BLOCK, cluster if spacious else 0)
    # Aligned in the whole disk, unless the partition itself is off the grid: then nothing in it can be on it.
    origin = partition_offset if partition_offset % BLOCK == 0 else 0
    heap = _up(origin + fat_offset + fat_length, align) - origin
    count = (size - heap) // cluster
    if count < 1 or count > 0xFFFFFFF5:
        raise FileSystemError(f"a device of {size} bytes cannot have clusters of {cluster} bytes; choose another size")
    return Geometry(
        sector_shift=9,
        cluster_shift=cluster.bit_length() - 1,
        partition_offset=partition_offset,
        volume_length=size,
        fat_offset=fat_offset,
        fat_length=fat_length,
        heap_offset=heap,
        cluster_count=count,
        root=0,
        serial=serial & 0xFFFFFFFF,
    )


def _parse(region: bytes, sector_shift: int) -> Geometry | None:
    fields = _BOOT.unpack_from(region)
    _, name, start, length, fat, fat_length, heap, count, root, serial, _, flags, shift, cluster_shift, *_ = fields
    sector = 1 << sector_shift
    if name != b"EXFAT   " or fields[-1] != b"\x55\xaa" or shift != sector_shift:
        return None
    stored = int.from_bytes(region[11 * sector : 11 * sector + 4], "little")
    if _region_checksum(region[: 11 * sector]) != stored:
        return None
    return Geometry(
        sector_shift=shift,
        cluster_shift=shift + cluster_shift,
        partition_offset=start << shift,
        volume_length=length << shift,
        fat_offset=fat << shift,
        fat_length=fat_length << shift,
        heap_offset=heap << shift,
        cluster_count=count,
        root=root,
        serial=serial,
        dirty=bool(flags & _DIRTY),
    )


def _region_checksum(region: bytes) -> int:
    # The flags and the fill level change while mounted and are not summed.
    return _cached_checksum(region[:_FLAGS_AT] + region[_FLAGS_AT + 2 : _PERCENT_AT] + region[_PERCENT_AT + 1 :])


@lru_cache(maxsize=64)
def _cached_checksum(data: bytes) -> int:
    return checksum32(data)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _blocks(data: bytes, cluster: int = BLOCK) -> bytes:
    return data.ljust(_up(len(data), min(BLOCK, cluster)), b"\0")


def zero(device: BlockDevice, offset: int, length: int) -> None:
    """Make a range read as zeros; whole blocks are unmapped, so that they take no space."""
    start, end = _up(offset, BLOCK), (offset + length) // BLOCK * BLOCK
    if start >= end:
        device.write(offset, bytes(length))
        return
    if offset < start:
        device.write(offset, bytes(start - offset))
    device.unmap(start, end - start)
    if end < offset + length:
        device.write(end, bytes(offset + length - end))


def check_range(offset: int, length: int, size: int) -> None:
    """Raise ``DeviceError`` unless the range lies inside a device of that size."""
    if offset < 0 or length < 0 or offset + length > size:
        raise DeviceError(f"{length} bytes at {offset} leave a device of {size} bytes")
