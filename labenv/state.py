"""The lab's state: tables of records in one SQLite file, committed as one transaction with the block store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, ItemsView, Iterator, MutableMapping, ValuesView
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

R = TypeVar("R")

FORMAT = 1
"""Version of the state folder; a folder of another version is refused, never guessed at."""


class StateFolderMismatch(Exception):
    """The state folder was written by another version of the lab."""


class Participant(Protocol):
    """Something whose persistent data belongs to the same transaction as the records (the block store)."""

    def write(self, db: sqlite3.Connection) -> None:
        """Write what changed since the last commit; called inside the transaction."""

    def committed(self) -> None:
        """The transaction is durable."""

    def checkpoint(self, name: str, db: sqlite3.Connection) -> None:
        """Keep today's contents under a name; inside a transaction."""

    def restore(self, name: str, db: sqlite3.Connection) -> None:
        """Go back to the contents kept under a name; inside a transaction."""

    def forget(self, name: str, db: sqlite3.Connection) -> None:
        """Drop the contents kept under a name; inside a transaction."""


class Index(Generic[R]):
    """The records of a table by something that they have in common; each group in the order of its first records."""

    def __init__(self, of: Callable[[R], Hashable]) -> None:
        self._of = of
        self._groups: dict[Hashable, dict[str, R]] = {}

    def __getitem__(self, value: Hashable) -> list[R]:
        """The records of a value; empty if there are none."""
        return list(self._groups.get(value, {}).values())

    def first(self, value: Hashable) -> R | None:
        """The first record of a value, None if there is none."""
        return next(iter(self._groups.get(value, {}).values()), None)

    def count(self, value: Hashable) -> int:
        """How many records a value has."""
        return len(self._groups.get(value, {}))

    def fill(self, records: dict[str, R]) -> None:
        """Begin anew with all records of the table."""
        self._groups = {}
        for key, record in records.items():
            self.add(key, record)

    def add(self, key: str, record: R) -> None:
        """A record was stored; one of that key was taken out before."""
        self._groups.setdefault(self._of(record), {})[key] = record

    def replace(self, key: str, old: R, new: R) -> None:
        """A record was replaced; it keeps its place if its value is the same."""
        if self._of(old) != self._of(new):
            self.remove(key, old)
        self.add(key, new)

    def remove(self, key: str, record: R) -> None:
        """A record was deleted."""
        value = self._of(record)
        group = self._groups[value]
        del group[key]
        if not group:
            del self._groups[value]


class Table(MutableMapping[str, R], Generic[R]):
    """Records of one kind by key, in the order in which the keys first appeared.

    Records are frozen dataclasses (or plain JSON types); a change is ``table[key] = dataclasses.replace(...)``.
    """

    def __init__(self, kind: str, record_type: type[R]) -> None:
        self.kind = kind
        self._decoder = msgspec.json.Decoder(record_type)
        self._records: dict[str, R] = {}
        self._dirty: dict[str, bool] = {}  # by key: whether its place in the order is new
        self._indexes: list[Index[R]] = []

    def index(self, of: Callable[[R], Hashable]) -> Index[R]:
        """A way to find records by what a function tells of them, kept up to date from now on."""
        index = Index(of)
        index.fill(self._records)
        self._indexes.append(index)
        return index

    def __getitem__(self, key: str) -> R:
        return self._records[key]

    def __setitem__(self, key: str, record: R) -> None:
        if key not in self._records:
            self._dirty.pop(key, None)  # it comes last, also among the changes
            self._dirty[key] = True
            for index in self._indexes:
                index.add(key, record)
        else:
            self._dirty.setdefault(key, False)
            for index in self._indexes:
                index.replace(key, self._records[key], record)
        self._records[key] = record

    def __delitem__(self, key: str) -> None:
        record = self._records.pop(key)
        self._dirty[key] = False
        for index in self._indexes:
            index.remove(key, record)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def values(self) -> ValuesView[R]:
        """The records; the dictionary's own view, which is far quicker than one that asks for each key."""
        return self._records.values()

    def items(self) -> ItemsView[str, R]:
        """Keys and records."""
        return self._records.items()

    def load(self, rows: list[tuple[str, bytes]]) -> None:
        """Replace every record by the stored ones."""
        self._records = {key: self._decoder.decode(body) for key, body in rows}
        self._dirty = {}
        for index in self._indexes:
            index.fill(self._records)

    def changes(self) -> list[tuple[str, bytes | None, bool]]:
        """The changed keys with their encoded record (None: deleted), and whether it goes to the end of the order."""
        return [
            (key, msgspec.json.encode(self._records[key]) if key in self._records else None, last)
            for key, last in self._dirty.items()
        ]

    def committed(self) -> None:
        """Forget what was changed."""
        self._dirty = {}

    @property
    def dirty(self) -> bool:
        """Whether a record changed since the last commit."""
        return bool(self._dirty)


class State:
    """All records of a lab. ``commit`` makes every change since the last one durable against a killed process."""

    def __init__(self, path: Path) -> None:
        fresh = not path.exists()
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=OFF")  # survives a killed process; the page cache belongs to the system
        if fresh:
            self.db.executescript(
                "BEGIN;"
                "CREATE TABLE record (seq INTEGER PRIMARY KEY, kind TEXT, key TEXT, body BLOB, UNIQUE (kind, key));"
                "CREATE TABLE kept (checkpoint TEXT, seq INTEGER, kind TEXT, key TEXT, body BLOB);"
                f"PRAGMA user_version={FORMAT};"
                "COMMIT;"
            )
        found = self.db.execute("PRAGMA user_version").fetchone()[0]
        if found != FORMAT:
            self.db.close()
            raise StateFolderMismatch(
                f"{path.parent} holds lab state of format {found}, this labenv reads format {FORMAT}: "
                f"start with another --state folder, or delete this one"
            )
        self._tables: dict[str, Table[Any]] = {}
        self._participants: list[Participant] = []
        self._before_commit: list[Callable[[], None]] = []
        self._after_restore: list[Callable[[], None]] = []

    def table(self, kind: str, record_type: type[R]) -> Table[R]:
        """The table of a kind, loaded from the file on first use."""
        table = self._tables.get(kind)
        if table is None:
            table = self._tables[kind] = Table(kind, record_type)
            table.load(self._rows(kind))
        return table

    def join(self, participant: Participant) -> None:
        """Let another store take part in every transaction."""
        self._participants.append(participant)

    def before_commit(self, callback: Callable[[], None]) -> None:
        """Call back before each commit (to put into a table what is kept elsewhere, like the clock)."""
        self._before_commit.append(callback)

    def after_restore(self, callback: Callable[[], None]) -> None:
        """Call back after ``restore`` has replaced the records (to drop what was cached from them)."""
        self._after_restore.append(callback)

    def commit(self) -> None:
        """Write every change in one transaction; nothing happens if nothing changed."""
        with self._transaction():
            self._write()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")  # the records stay changed, so the next commit tries again
            raise
        self.db.execute("COMMIT")
        for table in self._tables.values():
            table.committed()
        for participant in self._participants:
            participant.committed()

    def _write(self) -> None:
        for callback in self._before_commit:
            callback()
        for table in self._tables.values():
            if not table.dirty:
                continue
            for key, body, last in table.changes():
                if body is None or last:
                    self.db.execute("DELETE FROM record WHERE kind=? AND key=?", (table.kind, key))
                if body is not None:
                    self.db.execute(
                        "INSERT INTO record (kind, key, body) VALUES (?,?,?) "
                        "ON CONFLICT (kind, key) DO UPDATE SET body=excluded.body",
                        (table.kind, key, body),
                    )
        for participant in self._participants:
            participant.write(self.db)

    def _rows(self, kind: str) -> list[tuple[str, bytes]]:
        return self.db.execute("SELECT key, body FROM record WHERE kind=? ORDER BY seq", (kind,)).fetchall()

    def checkpoints(self) -> list[str]:
        """Names of the kept checkpoints, oldest first."""
        return [n for (n,) in self.db.execute("SELECT checkpoint FROM kept GROUP BY checkpoint ORDER BY MIN(rowid)")]

    def checkpoint(self, name: str) -> None:
        """Keep the present state under a name, replacing an older one of that name."""
        self.commit()
        with self._transaction():
            self._forget(name)
            self.db.execute("INSERT INTO kept SELECT ?, seq, kind, key, body FROM record", (name,))
            for participant in self._participants:
                participant.checkpoint(name, self.db)

    def restore(self, name: str) -> None:
        """Go back to a kept checkpoint; raises KeyError if there is none of that name."""
        if name not in self.checkpoints():
            raise KeyError(name)
        self.commit()
        with self._transaction():
            self.db.execute("DELETE FROM record")
            self.db.execute(
                "INSERT INTO record (seq, kind, key, body) SELECT seq, kind, key, body FROM kept WHERE checkpoint=?",
                (name,),
            )
            for participant in self._participants:
                participant.restore(name, self.db)
        for table in self._tables.values():
            table.load(self._rows(table.kind))
        for callback in self._after_restore:
            callback()

    def _forget(self, name: str) -> None:
        self.db.execute("DELETE FROM kept WHERE checkpoint=?", (name,))
        for participant in self._participants:
            participant.forget(name, self.db)

    def close(self) -> None:
        """Commit and close the file."""
        self.commit()
        self.db.close()
