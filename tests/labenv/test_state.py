"""The state file: transactions, checkpoints, order, and files of others."""

from __future__ import annotations

import dataclasses
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from labenv.state import FORMAT, State, StateFolderMismatch


@dataclass(frozen=True)
class Thing:
    """A record."""

    name: str
    size: int = 0
    tags: tuple[str, ...] = ()


class Beside:
    """A participant that keeps a number in the same transaction."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.value = 0
        self.durable = 0
        self.broken = False
        state.db.execute("CREATE TABLE IF NOT EXISTS beside (name TEXT, value INTEGER)")
        state.join(self)

    def write(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM beside WHERE name=''")
        db.execute("INSERT INTO beside VALUES ('', ?)", (self.value,))
        if self.broken:
            raise OSError("no space")

    def committed(self) -> None:
        self.durable = self.value

    def checkpoint(self, name: str, db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO beside VALUES (?, ?)", (name, self.value))

    def restore(self, name: str, db: sqlite3.Connection) -> None:
        (self.value,) = db.execute("SELECT value FROM beside WHERE name=?", (name,)).fetchone()

    def forget(self, name: str, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM beside WHERE name=?", (name,))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """An open state file."""
    opened = State(tmp_path / "state.db")
    yield opened
    opened.db.close()


def reread(path: Path) -> dict[str, Thing]:
    """What another process would find in the file now, as after a kill."""
    found = State(path / "state.db")
    try:
        return dict(found.table("thing", Thing))
    finally:
        found.db.close()


def test_a_commit_is_there_for_the_next_process(state: State, tmp_path: Path) -> None:
    """Everything up to the last commit survives a killed process, with types and nesting."""
    things = state.table("thing", Thing)
    things["a"] = Thing("a", 1, ("x", "y"))
    things["b"] = Thing("b")
    state.commit()
    things["a"] = dataclasses.replace(things["a"], size=2)
    del things["b"]
    state.commit()
    assert reread(tmp_path) == {"a": Thing("a", 2, ("x", "y"))}


def test_what_was_not_committed_is_not_there(state: State, tmp_path: Path) -> None:
    """A process killed between a change and its commit leaves the state before the change."""
    things = state.table("thing", Thing)
    things["a"] = Thing("a")
    state.commit()
    things["a"] = Thing("a", 9)
    things["b"] = Thing("b")
    assert reread(tmp_path) == {"a": Thing("a")}


def test_a_commit_that_fails_changes_nothing_and_can_be_repeated(state: State, tmp_path: Path) -> None:
    """A participant that cannot write undoes the whole transaction; the next commit brings all of it."""
    beside = Beside(state)
    things = state.table("thing", Thing)
    things["a"] = Thing("a")
    beside.value, beside.broken = 5, True
    with pytest.raises(OSError, match="no space"):
        state.commit()
    assert reread(tmp_path) == {}
    assert beside.durable == 0
    beside.broken = False
    state.commit()
    assert reread(tmp_path) == {"a": Thing("a")}
    assert beside.durable == 5


def test_a_restore_that_fails_changes_nothing(state: State, tmp_path: Path) -> None:
    """A participant that cannot go back leaves the records as they were."""
    things = state.table("thing", Thing)
    things["a"] = Thing("a")
    state.checkpoint("before")
    beside = Beside(state)  # it has nothing under that name
    things["b"] = Thing("b")
    with pytest.raises(TypeError):
        state.restore("before")
    state.commit()
    assert set(things) == {"a", "b"}
    assert set(reread(tmp_path)) == {"a", "b"}
    assert beside.durable == beside.value


def test_checkpoints_bring_back_records_order_and_what_is_beside(state: State) -> None:
    """A restore goes back exactly, as often as wanted, and calls back those who cache."""
    beside = Beside(state)
    called: list[str] = []
    state.after_restore(lambda: called.append("restored"))
    things = state.table("thing", Thing)
    for name in "cab":
        things[name] = Thing(name)
    beside.value = 1
    state.checkpoint("one")
    del things["c"]
    things["a"] = Thing("a", 7)
    things["d"] = Thing("d")
    beside.value = 2
    state.checkpoint("two")
    assert state.checkpoints() == ["one", "two"]
    for name, keys, value in (("one", "cab", 1), ("two", "abd", 2), ("one", "cab", 1)):
        things["z"] = Thing("z")
        state.restore(name)
        assert ("".join(things), beside.value) == (keys, value)
    assert called == ["restored"] * 3
    with pytest.raises(KeyError):
        state.restore("three")


def test_a_checkpoint_of_the_same_name_replaces_the_older(state: State) -> None:
    """There is one checkpoint of a name: the newest."""
    things = state.table("thing", Thing)
    things["a"] = Thing("a", 1)
    state.checkpoint("one")
    things["a"] = Thing("a", 2)
    state.checkpoint("one")
    things["a"] = Thing("a", 3)
    state.restore("one")
    assert things["a"].size == 2
    assert state.checkpoints() == ["one"]


def test_a_table_first_used_after_a_restore_is_that_of_the_checkpoint(state: State) -> None:
    """Tables that nobody had opened go back, too."""
    state.table("thing", Thing)["a"] = Thing("a")
    state.checkpoint("one")
    state.table("number", int)["n"] = 1
    state.commit()
    state.restore("one")
    assert dict(state.table("number", int)) == {}
    assert set(state.table("thing", Thing)) == {"a"}


def test_what_is_put_in_before_the_commit_belongs_to_it(state: State, tmp_path: Path) -> None:
    """A callback before the commit can still change records (the clock keeps its time so)."""
    things = state.table("thing", Thing)

    def note() -> None:
        things["noted"] = Thing("noted", len(things))

    state.before_commit(note)
    things["a"] = Thing("a")
    state.commit()
    assert set(reread(tmp_path)) == {"a", "noted"}


def test_the_order_of_records_survives_like_the_records(state: State, tmp_path: Path) -> None:
    """Keys that were removed and came again, in the same commit or in a later one, have the same place after a restart.

    A random walk over commits; the order in memory is the truth.
    """
    chance = random.Random(3)
    things = state.table("thing", Thing)
    for turn in range(300):
        name = chance.choice("abcdefgh")
        if name in things and chance.random() < 0.5:
            del things[name]
        else:
            things[name] = Thing(name, turn)
        if chance.random() < 0.3:
            state.commit()
            assert list(reread(tmp_path).items()) == list(things.items())


@pytest.mark.parametrize("version", [0, FORMAT + 1, 99])
def test_a_folder_of_another_format_is_refused(tmp_path: Path, version: int) -> None:
    """A state file of another version is not read, not changed, and the message names folder and remedy."""
    State(tmp_path / "state.db").db.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        db.execute(f"PRAGMA user_version={version}")
    with pytest.raises(StateFolderMismatch) as caught:
        State(tmp_path / "state.db")
    assert str(tmp_path) in str(caught.value)
    assert f"format {version}" in str(caught.value)
    assert "--state" in str(caught.value)
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version,)


def test_an_index_finds_what_a_scan_finds(state: State) -> None:
    """Whatever is stored, replaced, deleted or restored: an index gives the records that a scan of the table gives."""
    table = state.table("indexed", Thing)
    by_size = table.index(lambda thing: thing.size)
    chance = random.Random(7)

    def agrees() -> None:
        for size in range(4):
            scanned = [thing for thing in table.values() if thing.size == size]
            assert sorted(by_size[size], key=lambda t: t.name) == sorted(scanned, key=lambda t: t.name)
            assert by_size.count(size) == len(scanned)
            assert (by_size.first(size) is None) == (not scanned)

    for step in range(300):
        key = str(chance.randrange(12))
        if key in table and chance.random() < 0.4:
            del table[key]
        else:
            table[key] = Thing(key, chance.randrange(4))
        if step == 150:
            state.checkpoint("middle")
        agrees()
    state.restore("middle")
    agrees()
    assert len(table)
