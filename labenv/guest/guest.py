"""A running virtual machine: its operating system, its volumes behind a write cache, and its databases."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.guest import shadow, verbs
from labenv.guest.engine import CheckResult, DatabaseFiles, DatabaseState, Engine, Journal
from labenv.guest.errors import DatabaseError, GuestFrozen, GuestNotRunning, ShadowExists, VolumeNotFound
from labenv.guest.initiator import Network, node_name
from labenv.guest.ledger import LedgerCheck
from labenv.guest.load import GuestClock, Load
from labenv.guest.registry import GENERALIZED, SystemRecord
from labenv.guest.system import Answers, RunningSystem
from labenv.guest.volume import GuestVolume, split_path
from labenv.windows.disks.errors import DiskFull
from labenv.windows.disks.exfat import Entry

__all__ = ["Answers", "Guest"]


class Guest:
    """One life of a virtual machine's operating system, from ``boot`` to ``shutdown`` or ``power_off``.

    Whatever it knows is on its disks, so it can be made again from them at any time. A guest that is dropped without
    a shutdown is a guest whose power was cut: its cache is lost, and nothing of it reaches a disk afterwards.

    ``disks`` are the virtual disks in the order of their controllers; ``now`` is lab time. ``answers`` serve the first
    boot of a generalised image, whose identity otherwise follows from ``seed`` and ``vm_id``. ``network`` is what its
    network card leads to; ``note_loads`` hears of every change of the background loads but a loss of power.
    """

    def __init__(
        self,
        *,
        vm_id: UUID,
        disks: Sequence[BlockDevice],
        now: Callable[[], datetime],
        seed: int,
        answers: Answers | None = None,
        network: Network | None = None,
        note_loads: Callable[[Sequence[Load]], None] | None = None,
    ) -> None:
        self.vm_id = vm_id
        self._network = network
        self._note_loads = note_loads
        self.unexpected_shutdown = False
        self._disks = disks
        self._clock = GuestClock(now)
        self._seed = seed
        self._answers = answers or Answers()
        self._system: RunningSystem | None = None
        self._finalizer: weakref.finalize[..., Guest] | None = None
        self._shadow: UUID | None = None
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
        system = RunningSystem(
            self._disks,
            vm_id=self.vm_id,
            now=self._clock,
            seed=self._seed,
            answers=self._answers,
            network=self._network,
        )
        self._finalizer = weakref.finalize(self, system.cut)
        self._system = system
        try:
            system.mount()
            system.start_engine()
        except BaseException:
            self.power_off()
            raise
        self.unexpected_shutdown = system.unexpected_shutdown
        self._settled = self._clock.second

    def shutdown(self) -> None:
        """Shut down in order: everything is flushed and the databases are closed."""
        system = self._running()
        self.delete_shadow()
        system.shut_down()
        self.power_off()

    def power_off(self) -> None:
        """Cut the power: what was not flushed is gone, and nothing can be written any more. Safe to repeat."""
        if self._finalizer is not None:
            self._finalizer()
        self._system = None
        self._shadow = None
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
        return self._running().identity

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
        self._writable()
        self._running().change(host_name=host_name, address=address)

    def upgrade(self, *, operating_system: str, integration_services: str) -> None:
        """Run another release of the operating system from now on; empty ``integration_services``: they do not run."""
        self._writable()
        self._running().upgrade(operating_system=operating_system, integration_services=integration_services)

    def install_software(self, name: str, *, size: int = 64 * 1024) -> None:
        """Install an update or an application; its files are made from its name, so clones can share them."""
        self._writable()
        content = (hashlib.sha256(name.encode()).digest() * (-(-size // 32)))[:size]
        self.write_file(f"C:\\Program Files\\{name}\\{name}.bin", content, flush=True)
        if name not in self.system.software:
            self._running().change(software=(*self.system.software, name))

    # -- volumes and files -------------------------------------------------------------------------------------

    @property
    def volumes(self) -> Mapping[str, GuestVolume]:
        """Mounted volumes by drive letter."""
        return MappingProxyType(self._running().volumes)

    @property
    def dirty_bytes(self) -> int:
        """Bytes that a power cut would take now."""
        return sum(volume.dirty_bytes for volume in self._running().volumes.values())

    def attach_disk(self, disk: BlockDevice, *, online: bool = True) -> list[str]:
        """Hot-add a disk; returns the drive letters of its volumes.

        A clone of a disk that the guest has gets other GUIDs when it is brought online; else it stays offline.
        """
        self._writable()
        return self._running().attach_disk(disk, online=online)

    def detach_disk(self, disk: BlockDevice) -> None:
        """Remove a disk in order; raises KeyError if the guest has not got it, ``DiskInUse``."""
        self._writable()
        self._running().detach_disk(disk)

    def connect_portal(self, portal: str, *, label: str = "iSCSI") -> list[str]:
        """Log in to an iSCSI portal with the guest's own initiator; returns the letters of the volumes that it brings.

        Its host knows nothing of these disks: no backup of the virtual machine holds them. An empty one is formatted.
        """
        self._writable()
        return self._running().connect_portal(portal, label=label)

    @property
    def initiator(self) -> str:
        """The node name of the guest's own iSCSI initiator."""
        return node_name(self.host_name)

    @property
    def own_volumes(self) -> Mapping[str, GuestVolume]:
        """The volumes on its virtual disks, by drive letter; not those of its own initiator."""
        system = self._running()
        return MappingProxyType({k: v for k, v in system.volumes.items() if not system.is_remote(v)})

    @property
    def has_remote_disks(self) -> bool:
        """Whether it uses disks of its own initiator."""
        return len(self.own_volumes) < len(self.volumes)

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
                file.write(0, data, now=self._clock.second)
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
        self._settled = max(self._settled, self._clock.second)
        self._frozen = False

    @property
    def shadow(self) -> UUID | None:
        """The set id of the shadow copy that the guest keeps; None if it keeps none (any more)."""
        if self._shadow is not None and any(volume.shadow.lost for volume in self.volumes.values()):
            self._shadow = None
        return self._shadow

    def create_shadow(self, set_id: UUID) -> None:
        """Make an application-consistent shadow copy of all volumes, inside the guest, and go on.

        ``recovery.recover`` turns a later copy of the disks back to this instant. Raises ``ShadowExists`` if one is
        being kept, ``ShadowStorageFull`` if a volume has no room; the guest then goes on as before.
        """
        self._writable()
        if self.shadow is not None:
            raise ShadowExists(f"the guest keeps shadow copy {self._shadow} already: delete it first")
        self.delete_shadow()
        volumes = self.own_volumes.values()
        try:
            for volume in volumes:
                volume.shadow.prepare(volume.file_system, set_id)
            self.freeze()
        except BaseException:
            self._remove_areas()
            raise
        for volume in volumes:
            volume.shadow.activate()
        self._shadow = set_id
        self.thaw()

    def delete_shadow(self) -> None:
        """Give the shadow copy up; nothing happens if there is none."""
        self._shadow = None
        self._remove_areas()

    def settle(self, now: datetime | None = None) -> None:
        """Do what the guest does by itself up to a lab time: background load, and the lazy writer once a second."""
        self._running()
        end = int((now or self._clock()).timestamp())
        try:
            while self._settled < end and not self._idle():
                self._settled += 1
                self._clock.go_to(self._settled)
                self._tick()
        finally:
            self._clock.go_to(None)
        self._settled = max(self._settled, end)

    def start_load(self, load: Load) -> None:
        """Let a client add rows in the background from now on; the load ends by itself, or with the power."""
        self._engine().files(load.database)
        self.settle()
        self._loads[load.database.upper()] = load
        self._note()

    def stop_load(self, database: str) -> None:
        """End the background load of a database."""
        self.settle()
        self._loads.pop(database.upper(), None)
        self._note()

    def _note(self) -> None:
        if self._note_loads is not None:
            self._note_loads(self.loads)

    @property
    def loads(self) -> list[Load]:
        """The background loads that are not finished."""
        return [self._loads[key] for key in sorted(self._loads)]

    # -- databases ---------------------------------------------------------------------------------------------

    def databases(self) -> list[str]:
        """Names of the attached databases."""
        return self._engine().names

    def database_state(self, name: str) -> tuple[DatabaseState, str]:
        """Whether a database is online, and why not."""
        return self._engine().state(name)

    def create_database(
        self, name: str, *, data: str, log: str, journal: Journal = Journal.PERSIST, with_ledger: bool = True
    ) -> None:
        """Create a database with the ledger's tables; its journal lives at the path of the log."""
        self._writable()
        self._engine().create(name, DatabaseFiles(data, log, journal), with_ledger=with_ledger)
        self._running().remember_databases()

    def create_ledger(self, name: str) -> None:
        """Create the ledger's tables in an empty database."""
        self._writable()
        self._engine().create_ledger(name)

    def attach(self, name: str, *, data: str, log: str) -> None:
        """Attach a database whose files are there, and recover it."""
        self._writable()
        self._engine().attach(name, DatabaseFiles(data, log))
        self._running().remember_databases()

    def detach(self, name: str) -> None:
        """Detach a database; its files stay."""
        self._writable()
        self._engine().detach(name)
        self._loads.pop(name.upper(), None)
        self._running().remember_databases()

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

    def _running(self) -> RunningSystem:
        if self._system is None:
            raise GuestNotRunning("the virtual machine is not running: start it first")
        return self._system

    def _writable(self) -> None:
        self._running()
        if self._frozen:
            raise GuestFrozen("the guest's writers are frozen for a shadow copy: try again after the thaw")

    def _engine(self) -> Engine:
        return self._running().engine

    def _volume(self, path: str) -> tuple[GuestVolume, str]:
        letter, inside = split_path(path)
        volumes = self._running().volumes
        if letter not in volumes:
            raise VolumeNotFound(f"{path}: there is no volume {letter}:, only {', '.join(volumes)}")
        return volumes[letter], inside

    def _remove_areas(self) -> None:
        for volume in self.volumes.values():
            volume.shadow.deactivate()
            for path in shadow.areas(volume.file_system):
                volume.file_system.remove(path)

    def _idle(self) -> bool:
        return self._frozen or (not self._loads and all(volume.settled for volume in self._running().volumes.values()))

    def _tick(self) -> None:
        system = self._running()
        for key in sorted(self._loads):
            self._add_load(self._loads[key])
        random = system.random(str(self._settled))
        for volume in system.volumes.values():
            volume.lazy_write(random, second=self._settled)

    def _add_load(self, load: Load) -> None:
        engine = self._engine()
        if load.database.upper() in (name.upper() for name in engine.open_transactions()):
            return  # the client waits for the lock
        present = engine.count(load.database)
        rows = min(load.rows_per_second, load.up_to - present)
        if rows > 0:
            try:
                engine.insert(load.database, rows)
            except (DatabaseError, DiskFull):
                del self._loads[load.database.upper()]  # the client got the error and gave up
                self._note()
                return
        if present + rows >= load.up_to:
            del self._loads[load.database.upper()]
            self._note()
