"""The running operating system below a ``Guest``: everything that is lost when the power goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.guest import shadow
from labenv.guest.cache import GuestDisk
from labenv.guest.engine import Engine
from labenv.guest.errors import DiskInUse, GuestError, NoOperatingSystem
from labenv.guest.initiator import Network, format_disk, node_name
from labenv.guest.mounting import assign_letters, mount_all, renew_guids, system_record
from labenv.guest.registry import GENERALIZED, MASTER, MasterRecord, Record, SystemRecord
from labenv.guest.volume import GuestVolume
from labenv.windows.disks.gpt import read_gpt

HOST_NAME_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class Answers:
    """What the answer file says to a generalised image at its first boot; empty: the system chooses."""

    host_name: str = ""
    address: str = ""


class RunningSystem:
    """Volumes, identity and database engine of a guest that runs; knows nothing of the ``Guest`` that owns it."""

    def __init__(
        self,
        disks: Sequence[BlockDevice],
        *,
        vm_id: UUID,
        now: Callable[[], datetime],
        seed: int,
        answers: Answers,
        network: Network | None = None,
    ) -> None:
        self._disks = [GuestDisk(disk) for disk in disks]
        self._network = network
        self._remote: list[GuestDisk] = []
        self._vm_id = vm_id
        self._now = now
        self._seed = seed
        self._answers = answers
        self._engine: Engine | None = None
        self._record: Record[SystemRecord] | None = None
        self._master: Record[MasterRecord] | None = None
        self._identity: SystemRecord | None = None
        self.volumes: dict[str, GuestVolume] = {}
        self.unexpected_shutdown = False

    @property
    def identity(self) -> SystemRecord:
        """What the system knows of itself; there from ``mount`` on."""
        assert self._identity is not None
        return self._identity

    @property
    def engine(self) -> Engine:
        """The database engine; there from ``start_engine`` on."""
        assert self._engine is not None
        return self._engine

    def mount(self) -> None:
        """Mount the volumes and give them letters; specialise a generalised image."""
        volumes = list(mount_all(self._disks, now=self._now))
        volumes += self._log_in_again(volumes)
        boot_volume = next((volume for volume in volumes if system_record(volume).exists()), None)
        self._record = system_record(boot_volume) if boot_volume is not None else None
        record = self._record.load() if self._record is not None else None
        if boot_volume is None or record is None:
            raise NoOperatingSystem(
                f"none of the {len(self._disks)} disks of virtual machine {self._vm_id} holds an installed operating "
                f"system: attach the disk with the system first, or install one"
            )
        for volume in volumes:
            for path in shadow.areas(volume.file_system):
                volume.file_system.remove(path)  # a backup's shadow copy does not outlive the system that made it
        self.volumes, mounted = assign_letters(volumes, boot_volume, record.mounted)
        self.unexpected_shutdown = not record.clean
        record = replace(record, mounted=mounted, boots=record.boots + 1, clean=False)
        generalized = boot_volume.exists(GENERALIZED)
        if generalized:
            record = self._specialised(record)
        self._store(record)
        if generalized:
            boot_volume.remove(GENERALIZED)  # after the new identity is durable; doing both again does no harm

    def _log_in_again(self, volumes: Sequence[GuestVolume]) -> list[GuestVolume]:
        """The volumes on disks of the guest's own initiator, as far as their portals answer."""
        stored = next((system_record(volume) for volume in volumes if system_record(volume).exists()), None)
        record = stored.load() if stored is not None else None
        for portal in record.portals if record is not None else ():
            try:
                self._reach(node_name(record.host_name) if record is not None else "", portal)
            except GuestError:
                continue  # the array is away; its disks are missing, the system starts all the same
        return list(mount_all(self._remote, now=self._now))

    def _reach(self, initiator: str, portal: str) -> list[GuestDisk]:
        if self._network is None:
            raise GuestError("the guest has no network card that leads to a storage system")
        known = [disk.source for disk in self._remote]
        fresh = [GuestDisk(disk) for disk in self._network.disks(initiator, portal) if disk not in known]
        self._remote += fresh
        self._disks += fresh
        return fresh

    def connect_portal(self, portal: str, *, label: str) -> list[str]:
        """Log in with the guest's own initiator, now and at every start; returns the letters of the volumes it brings.

        An empty disk is formatted.
        """
        fresh = self._reach(node_name(self.identity.host_name), portal)
        for disk in fresh:
            if read_gpt(disk) is None:
                format_disk(disk, label=label, random=self.random(f"format/{portal}/{len(self._remote)}"))
        mounted = list(mount_all(fresh, now=self._now))
        volumes, letters = assign_letters([*self.volumes.values(), *mounted], self.volumes["C"], self.identity.mounted)
        self.volumes.update(volumes)
        portals = tuple(dict.fromkeys([*self.identity.portals, portal]))
        self._store(replace(self.identity, mounted=letters, portals=portals))
        return sorted(volume.letter for volume in mounted if volume.letter)

    def is_remote(self, volume: GuestVolume) -> bool:
        """Whether a volume is on a disk that the guest's host does not see."""
        return any(volume.disk is disk for disk in self._remote)

    def start_engine(self) -> None:
        """Attach and recover the databases."""
        self._engine = engine = Engine(
            self.volumes,
            now=self._now,
            seed=f"{self._seed}/{self._vm_id}/{self.identity.boots}",
        )
        self._master = Record(self.volumes["C"], MASTER, MasterRecord)
        for name, files in sorted((self._master.load() or MasterRecord()).databases.items()):
            engine.attach(name, files)

    def remember_databases(self) -> None:
        """Keep the list of attached databases for the next start."""
        assert self._master is not None
        self._master.store(MasterRecord({name: self.engine.files(name) for name in self.engine.names}))

    def change(
        self, *, host_name: str | None = None, address: str | None = None, software: tuple[str, ...] | None = None
    ) -> None:
        """Change what the system knows of itself; None leaves a field as it is."""
        old = self.identity
        self._store(
            replace(
                old,
                host_name=old.host_name if host_name is None else host_name,
                address=old.address if address is None else address,
                software=old.software if software is None else software,
            )
        )

    def upgrade(self, *, operating_system: str, integration_services: str) -> None:
        """Another release of the operating system, with the integration services that run in it."""
        changed = replace(self.identity, operating_system=operating_system, integration_services=integration_services)
        self._store(changed)

    def attach_disk(self, disk: BlockDevice, *, online: bool) -> list[str]:
        """Add a disk; returns the letters of its volumes. A clone of a disk that is here gets other GUIDs, or stays
        offline if not ``online``.
        """
        reached = GuestDisk(disk)
        gpt = read_gpt(reached)
        present = {found.disk_guid for found in map(read_gpt, self._disks) if found is not None}
        self._disks.append(reached)
        if gpt is None or (gpt.disk_guid in present and not online):
            return []
        if gpt.disk_guid in present:
            renew_guids(reached, self.random(f"online/{gpt.disk_guid}/{len(self._disks)}"))
        fresh = list(mount_all([reached], now=self._now))
        others = list(self.volumes.values())
        volumes, mounted = assign_letters([*others, *fresh], self.volumes["C"], self.identity.mounted)
        self.volumes.update(volumes)
        self._store(replace(self.identity, mounted=mounted))
        return sorted(volume.letter for volume in fresh if volume.letter)

    def detach_disk(self, disk: BlockDevice) -> None:
        """Unmount the volumes of a disk and let go of it; raises KeyError if it is not here, ``DiskInUse``."""
        reached = next((found for found in self._disks if found.source is disk), None)
        if reached is None:
            raise KeyError("the guest has no such disk")
        letters = [letter for letter, volume in self.volumes.items() if volume.disk is reached]
        used = [
            name
            for name in self.engine.names
            if {self.engine.files(name).data[0].upper(), self.engine.files(name).log[0].upper()} & set(letters)
        ]
        if "C" in letters or used:
            raise DiskInUse(
                f"the disk holds {', '.join(f'{letter}:' for letter in letters)}, which is in use by "
                f"{'the system' if 'C' in letters else 'database ' + ', '.join(used)}: detach that first"
            )
        for letter in letters:
            self.volumes.pop(letter).close()
        reached.fence()
        self._disks.remove(reached)

    def random(self, purpose: str) -> Random:
        """A generator that depends on the machine, on how often it has started, and on the purpose."""
        return Random(f"{self._seed}/{self._vm_id}/{self.identity.boots}/{purpose}")

    def shut_down(self) -> None:
        """Close everything in order; the disks are out of reach afterwards."""
        self.engine.close()
        self._engine = None
        self._store(replace(self.identity, clean=True))
        for volume in self.volumes.values():
            volume.close()
        self.cut()

    def cut(self) -> None:
        """Lose power: the disks are out of reach before anything is closed. Safe to repeat."""
        for disk in self._disks:
            disk.fence()
        if self._engine is not None:
            self._engine.cut()
            self._engine = None
        self.volumes = {}

    def _specialised(self, record: SystemRecord) -> SystemRecord:
        random = Random(f"{self._seed}/{self._vm_id}/identity")
        name = "WIN-" + "".join(random.choice(HOST_NAME_LETTERS) for _ in range(11))
        authority = "-".join(str(random.randrange(1 << 29, 1 << 32)) for _ in range(3))
        return replace(
            record,
            host_name=self._answers.host_name or name,
            sid=f"S-1-5-21-{authority}",
            machine_id=str(UUID(int=random.getrandbits(128), version=4)),
            address=self._answers.address,
            boots=1,
        )

    def _store(self, record: SystemRecord) -> None:
        assert self._record is not None
        self._record.store(record)
        self._identity = record
