"""LUNs that come with a mirrored volume: the source's contents under identities of the destination's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.volumes import drop_lun


def translate(core: Core, source: Core, volume: r.Volume, luns: Iterable[r.Lun]) -> tuple[r.Lun, ...]:
    """The LUNs of a source's Snapshot copy as LUNs of the destination volume.

    A LUN keeps the uuid and serial number that it got with its first transfer, also when it is renamed at the source.
    Where the direction was turned round it is the LUN that it once came from.
    """
    return tuple(_translate(core, source, volume, lun) for lun in luns)


def _translate(core: Core, source: Core, volume: r.Volume, lun: r.Lun) -> r.Lun:
    svm = core.svms[volume.svm]
    key = f"{volume.uuid}/{lun.uuid}"
    uuid, serial = _known(core, source, volume, lun, key)
    if not uuid:
        name = f"/vol/{volume.name}{lun.path}"
        uuid, serial = core.new_uuid("lun", svm.name, name), core.new_serial(svm.name, name)
    core.replication.twins[key] = f"{uuid}/{serial}"
    return dataclasses.replace(
        lun, uuid=uuid, serial_number=serial, volume=volume.uuid, svm=svm.uuid, space_error=False
    )


def _known(core: Core, source: Core, volume: r.Volume, lun: r.Lun, key: str) -> tuple[str, str]:
    """uuid and serial number of a LUN's counterpart at the destination; empty if it never had one."""
    twin = core.replication.twins.get(key)
    if twin is None:
        for other, value in source.replication.twins.items():
            mine = core.luns.get(other.partition("/")[2])
            if value.startswith(f"{lun.uuid}/") and mine is not None and mine.volume == volume.uuid:
                return mine.uuid, mine.serial_number
        found = core.find_lun(volume.uuid, lun.path)
        return ("", "") if found is None else (found.uuid, found.serial_number)
    uuid, _, serial = twin.partition("/")
    return uuid, serial


def adopt(core: Core, volume: r.Volume, luns: Iterable[r.Lun]) -> None:
    """Make these the active LUNs of a volume; maps of those that stay are kept, others are dropped."""
    wanted = {lun.uuid: lun for lun in luns}
    for lun in core.luns_of(volume.uuid):
        if lun.uuid not in wanted:
            drop_lun(core, lun)
    for uuid, lun in wanted.items():
        current = core.luns.get(uuid)
        core.luns[uuid] = lun if current is None else dataclasses.replace(lun, enabled=current.enabled)
    core.topology += 1
