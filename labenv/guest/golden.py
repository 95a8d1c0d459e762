"""Building a golden image: disks partitioned and formatted, an operating system, databases, Sysprep (TR-4004, 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import Random
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.guest.engine import Journal
from labenv.guest.guest import Guest
from labenv.guest.mounting import LETTERS, mount_all, system_record
from labenv.guest.registry import SystemRecord
from labenv.windows.disks.exfat import format_exfat
from labenv.windows.disks.gpt import BASIC_DATA, MIB, Gpt, Partition, PartitionDevice, write_gpt

INTEGRATION_SERVICES = "6.1.7601.17514"
"""Version of the integration services of Windows Server 2008 R2 SP1."""

GOLDEN_ID = UUID(int=0)
"""The id under which an image is built; no virtual machine has it."""

SYSTEM_FILES = {
    "\\bootmgr": 384 * 1024,
    "\\Windows\\explorer.exe": 2_800 * 1024,
    "\\Windows\\System32\\ntoskrnl.exe": 5_400 * 1024,
    "\\Windows\\System32\\kernel32.dll": 1_100 * 1024,
    "\\Windows\\System32\\ntdll.dll": 1_700 * 1024,
    "\\Windows\\System32\\drivers\\vmbus.sys": 200 * 1024,
    "\\Windows\\System32\\drivers\\storvsc.sys": 40 * 1024,
}
"""Files of the operating system and their sizes in bytes; the contents are the same in every installation."""


def install_golden(
    disks: Sequence[BlockDevice],
    *,
    now: Callable[[], datetime],
    seed: int,
    letters: Sequence[str] | None = None,
    databases: Mapping[str, tuple[str, str]] | None = None,
    journal: Journal = Journal.PERSIST,
    operating_system: str = "Windows Server 2008 R2 SP1",
    integration_services: str = INTEGRATION_SERVICES,
    software: Sequence[str] = (),
    generalize: bool = True,
    offset: int = MIB,
) -> None:
    """Install an operating system on the first disk, format the others as data volumes, and shut down cleanly.

    ``letters`` are the drive letters in the order of the disks, C first (default C, E, F, ...). ``databases`` maps a
    name to the guest paths of its data and log files. With ``generalize`` the image ends in Sysprep, and every clone
    takes its own identity at its first boot. ``offset`` is where the partitions start, in bytes: 32,256 (sector 63)
    builds the misaligned layout of old systems.
    """
    random = Random(f"{seed}/golden")
    letters = letters or ("C" + LETTERS)[: len(disks)]
    if len(letters) != len(disks) or letters[0] != "C":
        raise ValueError(f"{len(disks)} disks need as many drive letters, C first, not {', '.join(letters)}")
    mounted = {}
    for letter, disk in zip(letters, disks, strict=True):
        label = "System" if letter == "C" else f"Data {letter}"
        mounted[str(prepare_disk(disk, label=label, random=random, offset=offset))] = letter
    system_volume = next(mount_all(disks[:1], now=now))
    for path, size in SYSTEM_FILES.items():
        system_volume.mkdir(path.rpartition("\\")[0])
        file = system_volume.open(path, create=True)
        file.write(0, Random(f"{operating_system}{path}").randbytes(size))
        system_volume.flush_file(file)
        system_volume.release(path)
    system_record(system_volume).store(
        SystemRecord(
            operating_system=operating_system,
            host_name="GOLDEN",
            sid="S-1-5-21-" + "-".join(str(random.randrange(1 << 29, 1 << 32)) for _ in range(3)),
            machine_id=str(UUID(int=random.getrandbits(128), version=4)),
            mounted=mounted,
            integration_services=integration_services,
        )
    )
    system_volume.close()
    guest = Guest(vm_id=GOLDEN_ID, disks=disks, now=now, seed=seed)
    guest.boot()
    for name in software:
        guest.install_software(name)
    for name, (data, log) in (databases or {}).items():
        guest.create_database(name, data=data, log=log, journal=journal)
    if generalize:
        guest.sysprep()
    else:
        guest.shutdown()


def prepare_disk(disk: BlockDevice, *, label: str, random: Random, offset: int = MIB) -> UUID:
    """Give a raw disk a GPT with one formatted data partition, whose GUID is returned; GUIDs come from ``random``."""

    def guid() -> UUID:
        return UUID(int=random.getrandbits(128), version=4)

    end = (disk.size - 33 * 512) // MIB * MIB
    partition = Partition(1, BASIC_DATA, guid(), offset, end - offset, "Basic data partition")
    write_gpt(disk, Gpt(guid(), (partition,)))
    format_exfat(PartitionDevice(disk, offset, end - offset), label=label, serial=random.getrandbits(32))
    return partition.guid
