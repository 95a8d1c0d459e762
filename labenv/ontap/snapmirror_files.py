"""Restores from a mirror: a whole volume, or single files (LUNs) of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labenv.devices import BlockDevice, data_ranges
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.luns import new_lun
from labenv.ontap.snapmirror_luns import adopt

BLOCK = 4096
CHUNK = 1 << 20


def revert_in_place(core: Core, volume: r.Volume, held: r.Snapshot) -> None:
    """Make the active file system what one of the volume's Snapshot copies holds; all Snapshot copies stay."""
    blocks = core.pool(volume.uuid)
    wanted = set(blocks.snapshots[held.name].files)
    for path in [path for path in blocks.files if path not in wanted]:
        blocks.delete_file(path)
    for path in sorted(wanted):
        blocks.clone_file(path, path, snapshot=held.name, overwrite=True)
    adopt(core, volume, held.luns)


def _written(device: BlockDevice) -> Iterator[tuple[int, bytes]]:
    """Offset and contents of what a file holds, in pieces of at most a mebibyte; blocks of zeros are left out."""
    zeros = bytes(BLOCK)
    for offset, length in data_ranges(device, 0, device.size):
        for start in range(offset, offset + length, CHUNK):
            data = device.read(start, min(CHUNK, offset + length - start))
            begun = None
            for at in range(0, len(data) + BLOCK, BLOCK):
                block = data[at : at + BLOCK]
                if block and block != zeros[: len(block)]:
                    begun = at if begun is None else begun
                elif begun is not None:
                    yield start + begun, data[begun:at]
                    begun = None


def files_size(source: Core, near: r.Volume, snapshot: str, files: Sequence[tuple[str, str]]) -> int:
    """Bytes that a restore of files sends."""
    held = source.pool(near.uuid).snapshots[snapshot].files
    return sum(len(data) for path, _ in files for _, data in _written(held[path]))


def restore_files(
    core: Core, source: Core, near: r.Volume, far: r.Volume, snapshot: r.Snapshot, files: Sequence[tuple[str, str]]
) -> int:
    """Copy files out of a Snapshot copy of the source; a LUN that is at the path already keeps its identity.

    Returns:
        Bytes sent.
    """
    held = source.pool(near.uuid).snapshots[snapshot.name].files
    blocks, sent = core.pool(far.uuid), 0
    for path, target in files:
        origin = held[path]
        lun = core.find_lun(far.uuid, target)
        if target in blocks.files:
            file = blocks.files[target]
            file.unmap(0, file.size)
            file.resize(origin.size)
        else:
            file = blocks.create_file(target, origin.size, reserved=False)
        for offset, data in _written(origin):
            file.write(offset, data)
            sent += len(data)
        if lun is not None:
            core.change_lun(lun, size=origin.size)
            continue
        was = next((one for one in snapshot.luns if one.path == path), None)
        if was is not None:
            new_lun(core, far, target, os_type=was.os_type, size=origin.size, reserved=False)
    core.topology += 1
    return sent
