"""Auto-recovery: making a copy of a guest's disks application-consistent, without starting the guest (TR-4004, 6.2).

The host's writer does this on a clone of what was just copied: each volume is turned back to the guest's shadow copy,
and the databases are recovered. The operating system's own records stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.guest import shadow
from labenv.guest.cache import GuestDisk
from labenv.guest.engine import DatabaseState, Engine
from labenv.guest.errors import NoOperatingSystem, ShadowLost
from labenv.guest.mounting import assign_letters, mount_all, system_record
from labenv.guest.registry import MASTER, MasterRecord, Record
from labenv.guest.volume import GuestVolume


@dataclass(frozen=True)
class Recovery:
    """What auto-recovery did.

    Attributes:
        reverted: blocks of 4 KiB that were turned back, by drive letter; empty if no shadow copy was asked for.
        databases: names of the databases that are sound now; failed: the others, with the reason.
    """

    reverted: dict[str, int]
    databases: tuple[str, ...]
    failed: dict[str, str]


def recover(
    disks: Sequence[BlockDevice], *, set_id: UUID | None, vm_id: UUID, now: Callable[[], datetime], seed: int
) -> Recovery:
    """Turn the volumes on these disks back to a shadow copy (None: leave them) and recover the databases.

    The disks are written, and must belong to no running guest. Raises ``ShadowLost`` if a volume does not hold that
    shadow copy; some volumes may be turned back by then, so the copy is of no use. Raises ``NoOperatingSystem`` too.
    """
    reached = [GuestDisk(disk) for disk in disks]
    counts: dict[str, int] = {}
    if set_id is not None:
        for volume in mount_all(reached, now=now):
            count = shadow.revert(volume.shadow, volume.file_system, set_id)
            if count is None:
                raise ShadowLost(
                    f"the volume {volume.label!r} of virtual machine {vm_id} holds no shadow copy {set_id}: it was "
                    f"given up for lack of room, or deleted; take the backup again"
                )
            counts[volume.guid] = count
    volumes = _mount(reached, vm_id=vm_id, now=now)
    engine = Engine(volumes, now=now, seed=f"{seed}/{vm_id}/recovery/{set_id}")
    try:
        states = _recover_databases(engine, volumes)
        engine.close()
    except BaseException:
        engine.cut()
        raise
    reverted = {letter: counts[volume.guid] for letter, volume in volumes.items() if volume.guid in counts}
    for volume in volumes.values():
        volume.close()
    return Recovery(
        reverted,
        tuple(name for name, (state, _) in states.items() if state is DatabaseState.ONLINE),
        {name: reason for name, (state, reason) in states.items() if state is not DatabaseState.ONLINE},
    )


def _mount(disks: Sequence[BlockDevice], *, vm_id: UUID, now: Callable[[], datetime]) -> dict[str, GuestVolume]:
    volumes = list(mount_all(disks, now=now))
    for volume in volumes:
        record = system_record(volume)
        system = record.load() if record.exists() else None
        if system is None:
            continue
        for each in volumes:
            for path in shadow.areas(each.file_system):
                each.file_system.remove(path)
        return assign_letters(volumes, volume, system.mounted)[0]
    raise NoOperatingSystem(f"none of the disks of virtual machine {vm_id} holds an installed operating system")


def _recover_databases(engine: Engine, volumes: Mapping[str, GuestVolume]) -> dict[str, tuple[DatabaseState, str]]:
    """Attach what is here; a database on disks of the guest's own initiator is in no copy of its virtual disks."""
    states = {}
    master = Record(volumes["C"], MASTER, MasterRecord).load() or MasterRecord()
    for name, files in sorted(master.databases.items()):
        if {files.data[0].upper(), files.log[0].upper()} <= set(volumes):
            engine.attach(name, files)
            states[name] = engine.state(name)
    return states
