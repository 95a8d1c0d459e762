"""A running virtual machine: its operating system, its volumes behind a write cache, and its databases."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from types import MappingProxyType
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.guest import verbs
from labenv.guest.cache import GuestDisk
from labenv.guest.engine import CheckResult, DatabaseFiles, DatabaseState, Engine, Journal
from labenv.guest.errors import GuestFrozen, GuestNotRunning, NoOperatingSystem, VolumeNotFound
from labenv.guest.ledger import LedgerCheck
from labenv.guest.load import Load
from labenv.guest.mounting import assign_letters, mount_all, system_record
from labenv.guest.registry import GENERALIZED, MASTER, MasterRecord, Record, SystemRecord
from labenv.guest.volume import GuestVolume, split_path
from labenv.windows.disks.exfat import Entry

HOST_NAME_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class Answers:
    """What the answer file says to a generalised image at its first boot; empty: the system chooses."""

    host_name: str = ""
    address: str = ""


class _System:
    """Everything that is lost when the power goes; knows nothing of the ``Guest`` that owns it."""

    def __init__(self, disks: Sequence[BlockDevice]) -> None:
        self.disks = [GuestDisk(disk) for disk in disks]
        self.volumes: dict[str, GuestVolume] = {}
        self.engine: Engine | None = None

    def cut(self) -> None:
        """Lose power: the disks are out of reach before anything is closed."""
        for disk in self.disks:
            disk.fence()
        if self.engine is not None:
            self.engine.cut()
            self.engine = None
        self.volumes.clear()


class Guest:
    """One life of a virtual machine's operating system, from ``boot`` to ``shutdown`` or ``power_off``.

    Whatever it knows is on its disks, so it can be made again from them at any time. A guest that is dropped without
    a shutdown is a guest whose power was cut: its cache is lost, and nothing of it reaches a disk afterwards.

    ``disks`` are the virtual disks in the order of their controllers; ``now`` is lab time. ``answers`` serve the first
    boot of a generalised image, whose identity otherwise follows from ``seed`` and ``vm_id``.
    """

    def __init__(
        self,
        *,
        vm_id: UUID,
        disks: Sequence[BlockDevice],
        now: Callable[[], datetime],
        seed: int,
        answers: Answers | None = None,
    ) -> None:
        self.vm_id = vm_id
        self.unexpected_shutdown = False
        self._disks = disks
        self._now = now
        self._seed = seed
        self._answers = answers or Answers()
        self._system: _System | None = None
        self._finalizer: weakref.finalize[..., Guest] | None = None
        self._record: Record[SystemRecord] | None = None
        self._identity: SystemRecord | None = None
        self._master: Record[MasterRecord] | None = None
        self._loads: dict[str, Load] = {}
        self._frozen = False
        self._settled = 0

    # -- power -------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Mount the volumes, specialise a generalised image, and recover the databases.

        Raises ``NoOperatingSystem``, or what the disks raise; after that the guest is off again.
        """
        if self._finalizer is not None:
            raise GuestNotRunning("this guest has run already: make a new one from the same disks")
        system = _System(self._disks)
        self._finalizer = weakref.finalize(self, system.cut)
        self._system = system
        try:
            self._mount(system)
            self._start_engine(system)
        except BaseException:
            self.power_off()
            raise
        self._settled = self._second()

    def shutdown(self) -> None:
        """Shut down in order: everything is flushed and the databases are closed."""
        system = self._running()
        self._frozen = False
        self._loads.clear()
        if system.engine is not None:
            system.engine.close()
            system.engine = None
        self._store(clean=True)
        for volume in system.volumes.values():
            volume.close()
        self.power_off()

    def power_off(self) -> None:
        """Cut the power: what was not flushed is gone, and nothing can be written any more. Safe to repeat."""
        if self._finalizer is not None:
            self._finalizer()
        self._system = None
        self._loads.clear()
        self._frozen = False

    @property
    def running(self) -> bool:
        """Whether the operating system is up."""
        return self._system is not None

    def sysprep(self) -> None:
        """Generalise the image (Sysprep) and shut down: the next first boot takes a new identity."""
        self.write_file("C:" + GENERALIZED, b"", flush=True)
        self.shutdown()

    # -- identity ----------------------------------------------------------------------------------------------

    @property
    def system(self) -> SystemRecord:
        """What the operating system knows of itself."""
        if self._identity is None:
            raise GuestNotRunning("the virtual machine is not running: start it first")
        return self._identity

    @property
    def host_name(self) -> str:
        """The computer name."""
        return self.system.host_name

    @property
    def sid(self) -> str:
        """The machine SID; two guests with the same one were cloned without Sysprep."""
        return self.system.sid

    @property
    def address(self) -> str:
        """The configured IP address; empty: none yet."""
        return self.system.address

    def configure(self, *, host_name: str | None = None, address: str | None = None) -> None:
        """Rename the computer or set its address."""
        self._running()
        self._store(
            host_name=self.host_name if host_name is None else host_name,
            address=self.address if address is None else address,
        )

    def install_software(self, name: str, *, size: int = 64 * 1024) -> None:
        """Install an update or an application; its files are made from its name, so clones can share them."""
        self._writable()
        content = (hashlib.sha256(name.encode()).digest() * (-(-size // 32)))[:size]
        self.write_file(f"C:\\Program Files\\{name}\\{name}.bin", content, flush=True)
        if name not in self.system.software:
            self._store(software=(*self.system.software, name))

    # -- volumes and files -------------------------------------------------------------------------------------

    @property
    def volumes(self) -> Mapping[str, GuestVolume]:
        """Mounted volumes by drive letter."""
        return MappingProxyType(self._running().volumes)

    @property
    def dirty_bytes(self) -> int:
        """Bytes that a power cut would take now."""
        return sum(volume.dirty_bytes for volume in self._running().volumes.values())

    def flush(self) -> None:
        """Write everything that waits in the cache."""
        for volume in self._running().volumes.values():
            volume.flush()

    def read_file(self, path: str) -> bytes:
        """A file's contents, by guest path."""
        volume, inside = self._volume(path)
        file = volume.open(inside)
        try:
            return file.read(0, file.size)
        finally:
            volume.release(inside)

    def write_file(self, path: str, data: bytes, *, flush: bool = False) -> None:
        """Write a file, creating its directories; without ``flush`` the data waits in the cache."""
        self._writable()
        volume, inside = self._volume(path)
        volume.mkdir(inside.rpartition("\\")[0])
        file = volume.open(inside, create=True)
        try:
            if file.size > len(data):
                file.truncate(len(data))
            if data:
                file.write(0, data, now=self._second())
            if flush:
                volume.flush_file(file)
        finally:
            volume.release(inside)

    def remove_file(self, path: str) -> None:
        """Delete a file or an empty directory."""
        self._writable()
        volume, inside = self._volume(path)
        volume.remove(inside)

    def exists(self, path: str) -> bool:
        """Whether a guest path names a file or directory."""
        volume, inside = self._volume(path)
        return volume.exists(inside)

    def list_files(self, path: str) -> list[Entry]:
        """What a directory holds, by name."""
        volume, inside = self._volume(path)
        return volume.listdir(inside)

    # -- time and VSS ------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        """Whether writers are held."""
        return self._frozen

    def freeze(self) -> None:
        """Hold all writers and flush everything: what the disks hold now is application-consistent."""
        self._running()
        self.settle()
        self._frozen = True
        for volume in self.volumes.values():
            volume.quiesce()

    def thaw(self) -> None:
        """Let the writers go on; the time in between is lost to background load."""
        self._running()
        self._settled = max(self._settled, self._second())
        self._frozen = False

    def settle(self, now: datetime | None = None) -> None:
        """Do what the guest does by itself up to a lab time: background load, and the lazy writer once a second."""
        system = self._running()
        end = int((now or self._now()).timestamp())
        while self._settled < end:
            idle = not self._loads and all(volume.settled for volume in system.volumes.values())
            if self._frozen or idle:
                self._settled = end
                break
            self._settled += 1
            for key in sorted(self._loads):
                self._add_load(self._loads[key])
            random = Random(f"{self._seed}/{self.vm_id}/{self.system.boots}/{self._settled}")
            for volume in system.volumes.values():
                volume.lazy_write(random, second=self._settled)

    def start_load(self, load: Load) -> None:
        """Let a client add rows in the background from now on; the load ends by itself, or with the power."""
        self._engine().files(load.database)
        self.settle()
        self._loads[load.database.upper()] = load

    def stop_load(self, database: str) -> None:
        """End the background load of a database."""
        self.settle()
        self._loads.pop(database.upper(), None)

    @property
    def loads(self) -> list[Load]:
        """The background loads that are not finished."""
        return [self._loads[key] for key in sorted(self._loads)]

    # -- databases ---------------------------------------------------------------------------------------------

    def databases(self) -> list[str]:
        """Names of the attached databases."""
        return self._engine().names

    def database_files(self, name: str) -> DatabaseFiles:
        """Where a database is."""
        return self._engine().files(name)

    def database_state(self, name: str) -> tuple[DatabaseState, str]:
        """Whether a database is online, and why not."""
        return self._engine().state(name)

    def create_database(
        self, name: str, *, data: str, log: str, journal: Journal = Journal.PERSIST, with_ledger: bool = True
    ) -> None:
        """Create a database with the ledger's tables; its journal lives at the path of the log."""
        self._writable()
        self._engine().create(name, DatabaseFiles(data, log, journal), with_ledger=with_ledger)
        self._remember_databases()

    def create_ledger(self, name: str) -> None:
        """Create the ledger's tables in an empty database."""
        self._writable()
        self._engine().create_ledger(name)

    def attach(self, name: str, *, data: str, log: str) -> None:
        """Attach a database whose files are there, and recover it."""
        self._writable()
        self._engine().attach(name, DatabaseFiles(data, log))
        self._remember_databases()

    def detach(self, name: str) -> None:
        """Detach a database; its files stay."""
        self._writable()
        self._engine().detach(name)
        self._loads.pop(name.upper(), None)
        self._remember_databases()

    def insert(self, database: str, rows: int) -> int:
        """Add rows in one transaction; returns the total. The transaction is on the disks when this returns."""
        self._writable()
        self.settle()
        return self._engine().insert(database, rows)

    def count(self, database: str) -> int:
        """Number of committed rows."""
        self.settle()
        return self._engine().count(database)

    def checkdb(self, database: str) -> CheckResult:
        """Check every page and the ledger."""
        self.settle()
        return self._engine().check(database)

    def ledger(self, database: str) -> LedgerCheck:
        """The ledger check alone."""
        self.settle()
        return self._engine().ledger(database)

    def has_ledger(self, database: str) -> bool:
        """Whether a database has the ledger's tables."""
        return self._engine().has_ledger(database)

    def begin(self, database: str, rows: int) -> None:
        """Leave a transaction open that has added rows; a Snapshot copy taken now holds a hot journal."""
        self._writable()
        self.settle()
        self._engine().begin(database, rows)

    def commit(self, database: str) -> int:
        """Commit the open transaction; returns the number of rows."""
        self._writable()
        return self._engine().commit(database)

    def rollback(self, database: str) -> int:
        """Roll the open transaction back; returns the number of rows."""
        self._writable()
        return self._engine().rollback(database)

    def open_transactions(self) -> list[str]:
        """Databases with an open transaction."""
        return self._engine().open_transactions()

    def do(self, verb: str, **arguments: object) -> object:
        """Carry out a named action of the lab's control endpoint; see ``labenv.guest.verbs``."""
        return verbs.perform(self, verb, arguments)

    # -- inside ------------------------------------------------------------------------------------------------

    def _running(self) -> _System:
        if self._system is None:
            raise GuestNotRunning("the virtual machine is not running: start it first")
        return self._system

    def _writable(self) -> None:
        self._running()
        if self._frozen:
            raise GuestFrozen("the guest's writers are frozen for a shadow copy: try again after the thaw")

    def _engine(self) -> Engine:
        engine = self._running().engine
        assert engine is not None  # it lives exactly as long as the system
        return engine

    def _second(self) -> int:
        return int(self._now().timestamp())

    def _volume(self, path: str) -> tuple[GuestVolume, str]:
        letter, inside = split_path(path)
        volumes = self._running().volumes
        if letter not in volumes:
            raise VolumeNotFound(f"{path}: there is no volume {letter}:, only {', '.join(volumes)}")
        return volumes[letter], inside

    def _mount(self, system: _System) -> None:
        volumes = list(mount_all(system.disks, now=self._now))
        boot_volume = next((volume for volume in volumes if system_record(volume).exists()), None)
        self._record = system_record(boot_volume) if boot_volume is not None else None
        record = self._record.load() if self._record is not None else None
        if boot_volume is None or record is None:
            raise NoOperatingSystem(
                f"none of the {len(system.disks)} disks of virtual machine {self.vm_id} holds an installed operating "
                f"system: attach the disk with the system first, or install one"
            )
        system.volumes, mounted = assign_letters(volumes, boot_volume, record.mounted)
        self._identity = record
        self.unexpected_shutdown = not record.clean
        changes: dict[str, object] = {"mounted": mounted, "boots": record.boots + 1, "clean": False}
        if boot_volume.exists(GENERALIZED):
            changes |= self._specialise()
        self._store(**changes)
        if boot_volume.exists(GENERALIZED):
            boot_volume.remove(GENERALIZED)  # after the new identity is durable; doing both again does no harm

    def _specialise(self) -> dict[str, object]:
        random = Random(f"{self._seed}/{self.vm_id}/identity")
        name = self._answers.host_name or "WIN-" + "".join(random.choice(HOST_NAME_LETTERS) for _ in range(11))
        authority = "-".join(str(random.randrange(1 << 29, 1 << 32)) for _ in range(3))
        return {
            "host_name": name,
            "sid": f"S-1-5-21-{authority}",
            "machine_id": str(UUID(int=random.getrandbits(128), version=4)),
            "address": self._answers.address,
            "boots": 1,
            "clean": False,
        }

    def _store(self, **changes: object) -> None:
        assert self._record is not None
        changed = replace(self.system, **changes)  # type: ignore[arg-type]  # fields by name
        self._record.store(changed)
        self._identity = changed

    def _start_engine(self, system: _System) -> None:
        engine = Engine(
            f"guest-{self.vm_id}",
            system.volumes,
            now=self._now,
            seed=f"{self._seed}/{self.vm_id}/{self.system.boots}",
        )
        system.engine = engine
        self._master = Record(system.volumes["C"], MASTER, MasterRecord)
        master = self._master.load() or MasterRecord()
        for name, files in sorted(master.databases.items()):
            engine.attach(name, files)

    def _remember_databases(self) -> None:
        assert self._master is not None
        engine = self._engine()
        self._master.store(MasterRecord({name: engine.files(name) for name in engine.names}))

    def _add_load(self, load: Load) -> None:
        engine = self._engine()
        if load.database.upper() in (name.upper() for name in engine.open_transactions()):
            return  # the client waits for the lock
        present = engine.count(load.database)
        rows = min(load.rows_per_second, load.up_to - present)
        if rows > 0:
            engine.insert(load.database, rows)
        if present + rows >= load.up_to:
            del self._loads[load.database.upper()]
