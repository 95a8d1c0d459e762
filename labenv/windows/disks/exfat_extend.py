"""Making an exFAT volume bigger where it is, after its partition grew."""

from __future__ import annotations

from dataclasses import replace

from labenv.windows.disks.errors import FileSystemError
from labenv.windows.disks.exfat_directory import Directory
from labenv.windows.disks.exfat_entries import BITMAP
from labenv.windows.disks.exfat_layout import BLOCK, FIRST_CLUSTER, Geometry, zero
from labenv.windows.disks.exfat_volume import Volume


def largest(geometry: Geometry) -> int:
    """How many bytes of device the volume's chain table can serve."""
    clusters = min(geometry.fat_length // 4 - FIRST_CLUSTER, 0xFFFFFFF5)
    return geometry.heap_offset + (clusters << geometry.cluster_shift)


def extend_volume(volume: Volume, root: Directory) -> None:
    """Take the device's present size into use; raises ``FileSystemError`` if it did not grow or grew too much.

    A bigger bitmap is written into the new clusters, then the boot sector names them, then the root directory names
    the new bitmap: a volume cut in between mounts with its old size and can be extended again.
    """
    old = volume.geometry
    size = volume.device.size & ~(BLOCK - 1)
    count = (size - old.heap_offset) >> old.cluster_shift
    if size > largest(old):
        raise FileSystemError(f"the volume can grow to {largest(old)} bytes, not to {size}: make a new one and copy")
    if count <= old.cluster_count:
        raise FileSystemError("the partition has not grown; extend it first, then the volume")
    for node in list(volume.open_nodes):
        volume.close_window(node)
    (first, length), *others = volume.system_chains
    chain = volume.fat.follow(first, limit=old.clusters(length))
    bits = bytearray(volume.bitmap.dump())
    new = replace(old, volume_length=size, cluster_count=count)
    needed = (count + 7) // 8
    have = sum(run for _, run in chain) << old.cluster_shift
    if needed > have:
        place = FIRST_CLUSTER + old.cluster_count
        clusters = new.clusters(needed)
        if old.cluster_count + clusters > count:
            raise FileSystemError("the partition grew by too little to hold the bigger bitmap; extend it further")
        bits.extend(bytes(needed - len(bits)))
        _mark(bits, old.cluster_count, clusters, used=True)
        for cluster, run in chain:
            _mark(bits, cluster - FIRST_CLUSTER, run, used=False)
        zero(volume.device, new.cluster_offset(place), clusters << new.cluster_shift)
        used = bytes(bits).rstrip(b"\0")
        volume.store(new.cluster_offset(place), used.ljust(-(-len(used) // BLOCK) * BLOCK, b"\0"))
        volume.fat.resize(new)
        volume.fat.link([(place, clusters)])
        first = place
    volume.fat.resize(new)
    region = replace(new, dirty=volume.dirty).pack()
    volume.store(0, region + region)
    root.set_table(BITMAP, first, needed)
    volume.geometry = new
    volume.system_chains = [(first, needed), *others]
    volume.attach_bitmap(first, needed)


def _mark(bits: bytearray, start: int, count: int, *, used: bool) -> None:
    for cluster in range(start, start + count):
        if used:
            bits[cluster >> 3] |= 1 << (cluster & 7)
        else:
            bits[cluster >> 3] &= ~(1 << (cluster & 7)) & 0xFF
