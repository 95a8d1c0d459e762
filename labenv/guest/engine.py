"""The database engine of a running guest: attached databases, transactions, recovery and checks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import apsw

from labenv.devices import DeviceError
from labenv.guest import ledger
from labenv.guest.errors import DatabaseBusy, DatabaseExists, DatabaseNotFound, DatabaseUnavailable, VolumeNotFound
from labenv.guest.vfs import WAL_VERSION, GuestFiles, GuestVfs, LogFile, seed_sqlite
from labenv.guest.volume import GuestVolume

OPEN_TRANSACTION_CACHE = 8
"""Pages of cache of an open transaction: more than that and its pages reach the data file before the commit."""


CHECKPOINT_PAGES = 256
"""Pages after which a write-ahead log is copied into the data file and used again from its beginning."""


class Journal(Enum):
    """How a database keeps its log."""

    PERSIST = "persist"
    WAL = "wal"
    DELETE = "delete"


class DatabaseState(Enum):
    """As sys.databases names it."""

    ONLINE = "ONLINE"
    RECOVERY_PENDING = "RECOVERY_PENDING"
    SUSPECT = "SUSPECT"


@dataclass(frozen=True)
class DatabaseFiles:
    """Where a database is: guest paths of its data file and its log file."""

    data: str
    log: str
    journal: Journal = Journal.PERSIST


@dataclass(frozen=True)
class CheckResult:
    """What a database check found: every page is well-formed, and the ledger's tables agree.

    Attributes:
        integrity: findings of SQLite's integrity check; ledger: findings of the ledger check (both empty if sound).
        rows, last_transaction: lines and entries of the ledger; 0 where they cannot be read.
    """

    ok: bool
    integrity: list[str]
    ledger: list[str]
    rows: int
    last_transaction: int


class _Database:
    """An attached database and its connections."""

    def __init__(self, name: str, files: DatabaseFiles) -> None:
        self.name = name
        self.files = files
        self.state = DatabaseState.RECOVERY_PENDING
        self.reason = ""
        self.connection: apsw.Connection | None = None
        self.transaction: apsw.Connection | None = None

    def close(self) -> None:
        """Close the connections; an open transaction is rolled back."""
        for connection in (self.transaction, self.connection):
            if connection is not None:
                connection.close(True)
        self.transaction = self.connection = None


class Engine:
    """The databases of one running guest. ``seed`` makes journals and logs the same in every run."""

    def __init__(self, volumes: Mapping[str, GuestVolume], *, now: Callable[[], datetime], seed: str) -> None:
        self._files = GuestFiles(volumes, now=now)
        # SQLite finds a VFS by its name, and a machine and the copy that is being verified may run side by side.
        self._vfs = GuestVfs(f"labenv-{id(self):x}", self._files)
        self._seed = seed
        self._operations = 0
        self._databases: dict[str, _Database] = {}

    @property
    def names(self) -> list[str]:
        """Names of the attached databases, sorted."""
        return sorted(database.name for database in self._databases.values())

    def files(self, name: str) -> DatabaseFiles:
        """Where a database is."""
        return self._find(name).files

    def state(self, name: str) -> tuple[DatabaseState, str]:
        """The state of a database, and why it is not online."""
        database = self._find(name)
        return database.state, database.reason

    def create(self, name: str, files: DatabaseFiles, *, with_ledger: bool = True) -> None:
        """Create a database and attach it; raises ``DatabaseExists`` if the name or a file is taken."""
        self._refuse_duplicate(name)
        for path in (files.data, files.log):
            if self._exists(path):
                raise DatabaseExists(
                    f"cannot create database {name!r}: {path} exists; attach it, or choose another path"
                )
            volume, inside = self._files.volume(path)
            volume.mkdir(inside.rpartition("\\")[0])
        database = _Database(name, files)
        with self._operation(database):
            connection = self._connect(database)
            connection.pragma("page_size", 4096)
            if files.journal is Journal.WAL:
                connection.pragma("journal_mode", "wal")
            connection.execute("BEGIN IMMEDIATE")
            connection.pragma("user_version", 1)  # the file exists from here on, even without a table
            if with_ledger:
                ledger.create(connection)
            connection.execute("COMMIT")
        self._files.open(files.log).xClose()  # a log file is there from the beginning
        database.state = DatabaseState.ONLINE
        self._databases[name.upper()] = database

    def create_ledger(self, name: str) -> None:
        """Create the ledger's tables in a database that has none."""
        database = self._online(name)
        with self._operation(database), self._transaction(database) as connection:
            ledger.create(connection)

    def attach(self, name: str, files: DatabaseFiles) -> None:
        """Attach a database and recover it: what was not committed is rolled back, what was is completed.

        The database stays attached if a file is missing or damaged; ``state`` then says so.
        """
        self._refuse_duplicate(name)
        database = _Database(name, files)
        self._databases[name.upper()] = database
        for path in (files.data, files.log):
            if not self._exists(path):
                database.reason = f"{path} is missing"
                return
        database.files = DatabaseFiles(files.data, files.log, self._journal_of(files))
        try:
            with self._operation(database):
                connection = self._connect(database)
                connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchall()
                if database.files.journal is Journal.WAL:
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (DatabaseUnavailable, DeviceError) as error:
            database.state = DatabaseState.SUSPECT
            database.reason = str(error)
            database.close()
        else:
            database.state = DatabaseState.ONLINE
            connection.release_memory()  # most guests idle from now on; pages come back with the first use

    def detach(self, name: str) -> DatabaseFiles:
        """Close a database and forget it; its files stay."""
        database = self._find(name)
        database.close()
        del self._databases[name.upper()]
        self._files.forget_log(database.files.data)
        return database.files

    def insert(self, name: str, rows: int) -> int:
        """Add ledger lines in one committed transaction; returns how many there are."""
        database = self._online(name)
        with self._operation(database), self._transaction(database) as connection:
            return ledger.insert(connection, rows)

    def count(self, name: str) -> int:
        """Number of ledger lines that are committed."""
        database = self._online(name)
        with self._operation(database), self._reader(database) as connection:
            return ledger.count(connection)

    def ledger(self, name: str) -> ledger.LedgerCheck:
        """The ledger check alone."""
        database = self._online(name)
        with self._operation(database), self._reader(database) as connection:
            return ledger.check(connection)

    def has_ledger(self, name: str) -> bool:
        """Whether a database holds the ledger's tables."""
        database = self._online(name)
        with self._operation(database), self._reader(database) as connection:
            return ledger.exists(connection)

    def check(self, name: str) -> CheckResult:
        """Check every page and the ledger. A database that is not online fails the check."""
        database = self._find(name)
        if database.state is not DatabaseState.ONLINE:
            return CheckResult(False, [f"the database is {database.state.value}: {database.reason}"], [], 0, 0)
        integrity: list[str] = []
        findings: list[str] = []
        rows = last = 0
        with self._operation(database), self._reader(database) as connection:
            try:
                found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
                integrity = [] if found == ["ok"] else found
            except (apsw.CorruptError, apsw.NotADBError) as error:
                integrity = [str(error)]
            try:
                if ledger.exists(connection):
                    result = ledger.check(connection)
                    findings, rows, last = result.problems, result.rows, result.last_entry
            except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
                findings = [f"the ledger cannot be read: {error}"]
        return CheckResult(not integrity and not findings, integrity, findings, rows, last)

    def begin(self, name: str, rows: int) -> None:
        """Leave a transaction open that has added lines; its first pages are in the data file already."""
        database = self._online(name)
        if database.transaction is not None:
            raise DatabaseBusy(f"database {name!r} has an open transaction already")
        with self._operation(database):
            connection = self._main(database) if self._exclusive(database) else self._open(database)
            if not self._exclusive(database):
                connection.pragma("cache_size", OPEN_TRANSACTION_CACHE)
            connection.execute("BEGIN IMMEDIATE")
            ledger.insert(connection, rows)
            database.transaction = connection

    def commit(self, name: str) -> int:
        """Commit the open transaction; returns the number of lines."""
        return self._end(name, "COMMIT")

    def rollback(self, name: str) -> int:
        """Roll the open transaction back; returns the number of lines."""
        return self._end(name, "ROLLBACK")

    def open_transactions(self) -> list[str]:
        """Names of the databases with an open transaction."""
        return sorted(d.name for d in self._databases.values() if d.transaction is not None)

    def close(self) -> None:
        """Shut the engine down cleanly: open transactions are rolled back, logs are emptied or retired."""
        for key in sorted(self._databases):
            seed_sqlite(self._next_seed())
            self._databases[key].close()
        self._vfs.unregister()

    def cut(self) -> None:
        """The power goes: close every connection without a single write."""
        self._files.cut()
        for database in self._databases.values():
            database.close()
        self._vfs.unregister()

    def _end(self, name: str, statement: str) -> int:
        database = self._online(name)
        if database.transaction is None:
            raise DatabaseNotFound(f"database {name!r} has no open transaction")
        with self._operation(database):
            connection = database.transaction
            connection.execute(statement)
            rows = ledger.count(connection)
            database.transaction = None
            if connection is not database.connection:
                connection.close()
        return rows

    def _find(self, name: str) -> _Database:
        database = self._databases.get(name.upper())
        if database is None:
            raise DatabaseNotFound(f"no database {name!r} is attached; there are: {', '.join(self.names) or 'none'}")
        return database

    def _online(self, name: str) -> _Database:
        database = self._find(name)
        if database.state is not DatabaseState.ONLINE:
            raise DatabaseUnavailable(f"database {name!r} is {database.state.value}: {database.reason}")
        return database

    def _refuse_duplicate(self, name: str) -> None:
        if name.upper() in self._databases:
            raise DatabaseExists(f"a database named {name!r} is attached already")

    def _exists(self, path: str) -> bool:
        try:
            volume, inside = self._files.volume(path)
        except VolumeNotFound:
            return False
        return volume.exists(inside)

    def _journal_of(self, files: DatabaseFiles) -> Journal:
        """The data file itself says whether its log is a write-ahead log."""
        file = self._files.open(files.data)
        header = file.xRead(2, 18)
        file.xClose()
        if header == bytes((WAL_VERSION, WAL_VERSION)):
            return Journal.WAL
        return Journal.PERSIST if files.journal is Journal.WAL else files.journal

    def _exclusive(self, database: _Database) -> bool:
        return database.files.journal is Journal.WAL

    def _connect(self, database: _Database) -> apsw.Connection:
        files = database.files
        self._files.set_log(files.data, LogFile(files.log, write_ahead=files.journal is Journal.WAL))
        database.connection = self._open(database)
        return database.connection

    def _open(self, database: _Database) -> apsw.Connection:
        connection = apsw.Connection(database.files.data, vfs=self._vfs.name)
        connection.pragma("temp_store", "memory")
        if self._exclusive(database):
            connection.pragma("locking_mode", "exclusive")  # without shared memory there is one user only
            connection.wal_autocheckpoint(CHECKPOINT_PAGES)
        else:
            connection.pragma("journal_mode", database.files.journal.value)
        connection.pragma("synchronous", "full")
        return connection

    def _main(self, database: _Database) -> apsw.Connection:
        assert database.connection is not None
        return database.connection

    @contextmanager
    def _transaction(self, database: _Database) -> Iterator[apsw.Connection]:
        connection = self._main(database)
        if database.transaction is connection:
            raise DatabaseBusy(
                f"database {database.name!r} is locked by an open transaction; commit it or roll it back"
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                # Storage that does not answer fails here again; the log rolls back at the next use.
                with suppress(apsw.Error, OSError):
                    connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _reader(self, database: _Database) -> Iterator[apsw.Connection]:
        """A connection that sees what is committed."""
        if database.transaction is database.connection and database.transaction is not None:
            raise DatabaseBusy(
                f"database {database.name!r} is locked by an open transaction; commit it or roll it back"
            )
        yield self._main(database)

    @contextmanager
    def _operation(self, database: _Database) -> Iterator[None]:
        """Seed SQLite, and turn its errors into ours."""
        seed_sqlite(self._next_seed())
        try:
            yield
        except apsw.BusyError as error:
            raise DatabaseBusy(
                f"database {database.name!r} is locked by an open transaction; commit it or roll it back"
            ) from error
        except (apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError) as error:
            raise DatabaseUnavailable(f"database {database.name!r} cannot be used: {error}") from error

    def _next_seed(self) -> bytes:
        self._operations += 1
        return hashlib.sha256(f"{self._seed}\x1f{self._operations}".encode()).digest()
