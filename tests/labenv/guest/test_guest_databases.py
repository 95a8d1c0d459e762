"""Databases of one guest: the TR's test cases, checks, and what other programs read of the files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from labenv.guest.engine import DatabaseState, Journal
from labenv.guest.errors import DatabaseBusy, DatabaseExists, DatabaseNotFound, DatabaseUnavailable
from labenv.guest.guest import Guest
from labenv.guest.load import Load
from labenv.guest.mounting import mount_all

from . import rack

Image = Callable[[Journal], list[rack.RackDisk]]


def sound(guest: Guest) -> dict[str, int]:
    """Rows by database, after a check of each that must be clean."""
    rows = {}
    for name in guest.databases():
        result = guest.checkdb(name)
        assert result.ok, (name, result)
        rows[name] = result.rows
    return rows


@pytest.mark.tr("R-APF-01")
def test_table_4_on_one_guest(disks: list[rack.RackDisk]) -> None:
    """100 rows, check, copy while frozen, 500 more, check, back to the copy, check: 100 rows in each database."""
    guest = rack.start(disks)
    for name in rack.NAMES:
        assert guest.insert(name, 100) == 100
    assert sound(guest) == dict.fromkeys(rack.NAMES, 100)
    guest.freeze()
    backup = rack.copies(disks)
    guest.thaw()
    for name in rack.NAMES:
        assert guest.insert(name, 500) == 600
    assert sound(guest) == dict.fromkeys(rack.NAMES, 600)
    guest.power_off()
    restored = rack.start(backup)
    assert sound(restored) == dict.fromkeys(rack.NAMES, 100)
    restored.shutdown()


@pytest.mark.tr("R-APF-02")
def test_load_goes_on_through_checks_and_a_backup(disks: list[rack.RackDisk]) -> None:
    """Background load on all databases, with checks and a frozen copy in between, leaves everything sound."""
    time = rack.LabTime()
    guest = rack.start(disks, time=time)
    for name in rack.NAMES:
        guest.start_load(Load(name, rows_per_second=40, up_to=400))
    time.pass_(4)
    at_check = sound(guest)
    guest.freeze()
    backup = rack.copies(disks)
    time.pass_(3)
    assert guest.count("bb1") == at_check["bb1"]
    guest.thaw()
    time.pass_(60)
    assert sound(guest) == dict.fromkeys(rack.NAMES, 400)
    assert guest.loads == []
    guest.shutdown()
    assert sound(rack.start(backup)) == at_check == dict.fromkeys(rack.NAMES, 160)


def test_data_and_log_are_on_their_own_disks(disks: list[rack.RackDisk]) -> None:
    """The log file of a database is on the log's volume, from the beginning and after use."""
    guest = rack.start(disks)
    guest.insert("bb1", 10)
    assert [entry.name for entry in guest.list_files("F:\\Log")] == ["bb1.ldf", "bb2.ldf", "bb3.ldf"]
    assert [entry.name for entry in guest.list_files("E:\\Data")] == ["bb1.mdf", "bb2.mdf", "bb3.mdf"]
    guest.shutdown()


def test_sqlite3_reads_the_data_file(disks: list[rack.RackDisk], tmp_path: Path) -> None:
    """After a clean shutdown the data file alone is a complete database for any SQLite."""
    guest = rack.start(disks)
    guest.insert("bb1", 123)
    guest.shutdown()
    guest = rack.start(disks)
    guest.detach("bb1")
    path = tmp_path / "bb1.db"
    path.write_bytes(guest.read_file("E:\\Data\\bb1.mdf"))
    guest.shutdown()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT COUNT(*), MAX(sequence) FROM ledger").fetchone() == (123, 123)
    assert connection.execute("SELECT SUM(balance) = (SELECT SUM(amount) FROM ledger) FROM account").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize(
    ("mode", "suffix"), [(Journal.PERSIST, "-journal"), (Journal.DELETE, "-journal"), (Journal.WAL, "-wal")]
)
def test_sqlite3_recovers_the_files_of_a_crash_image(
    golden_image: Image, mode: Journal, suffix: str, tmp_path: Path
) -> None:
    """A crash image's data and log files, side by side under SQLite's own names, recover to what was committed."""
    disks = golden_image(mode)
    guest = rack.start(disks)
    guest.insert("bb1", 100)
    guest.begin("bb1", 700)
    guest.flush()  # pages of the open transaction are in the data file now
    guest.power_off()
    volumes = list(mount_all(disks, now=rack.LabTime()))
    data = volumes[1].file_system.read_file("\\Data\\bb1.mdf")
    log = volumes[2].file_system.read_file("\\Log\\bb1.ldf")
    assert log[:8] != bytes(8), "the log is hot"
    path = tmp_path / "bb1.db"
    path.write_bytes(data)
    path.with_name("bb1.db" + suffix).write_bytes(log)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT COUNT(*) FROM ledger").fetchone() == (100,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_check_runs_beside_an_open_transaction(persist_disks: list[rack.RackDisk]) -> None:
    """A small open transaction lets readers through and stops a second writer; commit and rollback end it."""
    guest = rack.start(persist_disks)
    guest.insert("bb1", 10)
    guest.begin("bb1", 5)
    assert guest.open_transactions() == ["bb1"]
    assert guest.checkdb("bb1").rows == 10
    with pytest.raises(DatabaseBusy, match="commit it or roll it back"):
        guest.insert("bb1", 1)
    assert guest.commit("bb1") == 15
    guest.begin("bb1", 5)
    assert guest.rollback("bb1") == 15
    assert guest.checkdb("bb1").ok
    guest.shutdown()


def test_an_open_transaction_locks_a_write_ahead_database(golden_image: Image) -> None:
    """With a write-ahead log there is one user only: readers wait for the open transaction."""
    guest = rack.start(golden_image(Journal.WAL))
    guest.begin("bb1", 5)
    with pytest.raises(DatabaseBusy):
        guest.count("bb1")
    assert guest.commit("bb1") == 5
    guest.shutdown()


def test_detach_and_attach(disks: list[rack.RackDisk]) -> None:
    """A detached database is attached again under another name with its rows; the choice survives a restart."""
    guest = rack.start(disks)
    guest.insert("bb1", 30)
    guest.detach("bb1")
    with pytest.raises(DatabaseNotFound, match="aa1, bb2, bb3"):
        guest.count("bb1")
    guest.attach("moved", data="E:\\Data\\bb1.mdf", log="F:\\Log\\bb1.ldf")
    guest.shutdown()
    guest = rack.start(disks)
    assert guest.databases() == ["aa1", "bb2", "bb3", "moved"]
    assert guest.count("moved") == 30
    guest.shutdown()


def test_a_name_or_a_file_is_not_taken_twice(persist_disks: list[rack.RackDisk]) -> None:
    """Creating over an attached name or an existing file is refused."""
    guest = rack.start(persist_disks)
    with pytest.raises(DatabaseExists):
        guest.create_database("BB1", data="E:\\x.mdf", log="F:\\x.ldf")
    with pytest.raises(DatabaseExists, match=r"E:\\Data\\bb1\.mdf"):
        guest.create_database("new", data="E:\\Data\\bb1.mdf", log="F:\\x.ldf")
    guest.shutdown()


def test_a_database_without_its_disk_is_recovery_pending(persist_disks: list[rack.RackDisk]) -> None:
    """A guest that boots without the log's disk says which file is missing, and keeps the other databases."""
    rack.start(persist_disks).shutdown()
    guest = rack.start(persist_disks[:2])
    assert guest.database_state("bb1") == (DatabaseState.RECOVERY_PENDING, "F:\\Log\\bb1.ldf is missing")
    with pytest.raises(DatabaseUnavailable, match="RECOVERY_PENDING"):
        guest.insert("bb1", 1)
    assert not guest.checkdb("bb1").ok
    assert guest.checkdb("aa1").ok
    guest.shutdown()
    guest = rack.start(persist_disks)
    assert sound(guest) == dict.fromkeys(rack.NAMES, 0)
    guest.shutdown()


def test_a_damaged_database_is_suspect(persist_disks: list[rack.RackDisk]) -> None:
    """A data file that is no database any more makes its database suspect, and only that one."""
    guest = rack.start(persist_disks)
    guest.detach("bb2")
    size = len(guest.read_file("E:\\Data\\bb2.mdf"))
    guest.write_file("E:\\Data\\bb2.mdf", b"\x5a" * size, flush=True)
    guest.attach("bb2", data="E:\\Data\\bb2.mdf", log="F:\\Log\\bb2.ldf")
    state, reason = guest.database_state("bb2")
    assert state is DatabaseState.SUSPECT
    assert "bb2" in reason
    result = guest.checkdb("bb2")
    assert not result.ok
    assert result.integrity
    assert guest.checkdb("bb1").ok
    guest.shutdown()


def test_a_machine_and_its_copy_run_side_by_side(disks: list[rack.RackDisk]) -> None:
    """Two guests with one id, as when a backup is verified, work on their own disks only."""
    first = rack.start(disks)
    first.insert("bb1", 10)
    second = rack.start(rack.copies(disks))
    first.begin("bb1", 5)
    second.begin("bb2", 7)
    assert (first.commit("bb1"), second.commit("bb2")) == (15, 7)
    second.power_off()
    first.begin("bb2", 1)
    assert first.rollback("bb2") == 0
    assert sound(first) == {"aa1": 0, "bb1": 15, "bb2": 0, "bb3": 0}
    first.shutdown()
