"""Disks that come, go and fill up while a guest runs, and the actions of the control endpoint."""

from __future__ import annotations

import asyncio
import json

import pytest

from labenv.devices import DeviceGone, OutOfSpace
from labenv.guest import sql
from labenv.guest.errors import DiskInUse
from labenv.guest.sql import SqlError, Statement, Template
from labenv.guest.verbs import VERBS

from . import rack


def test_a_clone_is_browsed_beside_its_source(persist_disks: list[rack.RackDisk]) -> None:
    """A hot-added clone of a disk in use gets other GUIDs and a letter; a file is copied back, and the disk removed."""
    guest = rack.start(persist_disks)
    guest.write_file("E:\\notes.txt", b"good", flush=True)
    clone = persist_disks[1].copy()
    guest.write_file("E:\\notes.txt", b"oops", flush=True)
    assert guest.attach_disk(clone, online=False) == []
    guest.detach_disk(clone)
    assert guest.attach_disk(clone) == ["G"]
    guest.write_file("E:\\notes.txt", guest.read_file("G:\\notes.txt"), flush=True)
    guest.detach_disk(clone)
    assert list(guest.volumes) == ["C", "E", "F"]
    with pytest.raises(KeyError):
        guest.detach_disk(clone)
    assert guest.read_file("E:\\notes.txt") == b"good"
    assert guest.checkdb("bb1").ok
    guest.shutdown()


def test_a_clone_beside_its_source_stays_offline_at_boot(persist_disks: list[rack.RackDisk]) -> None:
    """A guest that finds a disk and its clone uses the first and leaves the second alone."""
    rack.start(persist_disks).shutdown()
    clone = persist_disks[1].copy()
    guest = rack.start([*persist_disks, clone])
    assert list(guest.volumes) == ["C", "E", "F"]
    guest.insert("bb1", 5)
    guest.shutdown()
    assert clone.mains.writes == 0


def test_a_disk_in_use_is_not_taken_away(persist_disks: list[rack.RackDisk]) -> None:
    """The system's disk and the disk of a database cannot be removed in order."""
    guest = rack.start(persist_disks)
    with pytest.raises(DiskInUse, match="the system"):
        guest.detach_disk(persist_disks[0])
    with pytest.raises(DiskInUse, match="bb1, bb2, bb3"):
        guest.detach_disk(persist_disks[1])
    for name in ("bb1", "bb2", "bb3"):
        guest.detach(name)
    guest.detach_disk(persist_disks[1])
    assert list(guest.volumes) == ["C", "F"]
    guest.shutdown()


def test_a_full_guest_volume_stops_inserts_only(persist_disks: list[rack.RackDisk]) -> None:
    """When the data volume is full, the insert fails as SQL Server's does, and the database stays sound."""
    guest = rack.start(persist_disks)
    guest.insert("bb1", 100)
    guest.write_file("E:\\big.bin", bytes(1), flush=True)
    guest.write_file("E:\\big.bin", b"x" * (guest.volumes["E"].free - 200_000), flush=True)
    insert = sql.render(Statement(Template.INSERT_ROWS, database="bb1", rows=20_000))
    with pytest.raises(SqlError, match="Msg 1105"):
        asyncio.run(sql.run(guest, insert, sleep=asyncio.sleep))
    result = guest.checkdb("bb1")
    assert (result.ok, result.rows) == (True, 100)
    guest.remove_file("E:\\big.bin")
    assert asyncio.run(sql.run(guest, insert, sleep=asyncio.sleep)) == [{"RowTotal": 20_100}]
    guest.shutdown()


def test_a_thin_lun_that_is_full_loses_no_committed_row(disks: list[rack.RackDisk]) -> None:
    """Storage that fails a write fails the transaction; when it answers again, or after a reset, the rows are there."""
    guest = rack.start(disks)
    guest.insert("bb1", 100)
    mains = rack.Mains()
    for disk in disks:
        disk.mains = mains

    def fail(write: int) -> None:
        if write > 3:
            raise OutOfSpace("the volume is full")

    mains.watcher = fail
    with pytest.raises(OutOfSpace):
        guest.insert("bb1", 5000)
    mains.watcher = None
    assert guest.insert("bb1", 1) == 101
    assert guest.checkdb("bb1").ok
    mains.watcher = fail
    mains.writes = 0
    with pytest.raises(OutOfSpace):
        guest.insert("bb1", 5000)
    guest.power_off()
    mains.watcher = None
    again = rack.start(disks)
    assert (again.checkdb("bb1").ok, again.count("bb1")) == (True, 101)
    again.shutdown()


def test_a_vanished_disk_fails_what_needs_it(persist_disks: list[rack.RackDisk]) -> None:
    """A disk that stops answering fails the databases on it and no others."""
    guest = rack.start(persist_disks)
    persist_disks[2].mains = rack.Mains(fails_at=0)
    with pytest.raises(DeviceGone):
        guest.insert("bb1", 1)
    assert guest.insert("aa1", 1) == 1
    guest.power_off()


def test_the_actions_answer_in_json(persist_disks: list[rack.RackDisk]) -> None:
    """Every action of the control endpoint takes plain keywords and gives plain JSON."""
    guest = rack.start(persist_disks)
    script: list[tuple[str, dict[str, object]]] = [
        ("databases", {}),
        ("insert", {"database": "bb1", "rows": 7}),
        ("insert", {"database": "bb1", "rows": 10, "per_transaction": 4}),
        ("count", {"database": "bb1"}),
        ("checkdb", {"database": "bb1"}),
        ("begin", {"database": "bb2", "rows": 3}),
        ("commit", {"database": "bb2"}),
        ("begin", {"database": "bb2", "rows": 3}),
        ("rollback", {"database": "bb2"}),
        ("start_load", {"database": "bb3", "rows_per_second": 1, "up_to": 5}),
        ("stop_load", {"database": "bb3"}),
        ("configure", {"host_name": "SQL01"}),
        ("install_software", {"name": "KB1"}),
        ("identity", {}),
        ("write_file", {"path": "C:\\notes.txt", "text": "note"}),
        ("flush", {}),
        ("read_file", {"path": "C:\\notes.txt"}),
        ("list_files", {"path": "F:\\Log"}),
        ("initiator", {}),
        ("sysprep", {}),
    ]
    answers = [json.loads(json.dumps(guest.do(verb, **arguments))) for verb, arguments in script]
    assert {verb for verb, _ in script} == set(VERBS) - {"connect_portal"}  # which needs a network
    assert answers[1:4] == [7, 17, 17]
    assert answers[4] == {"ok": True, "integrity": [], "ledger": [], "rows": 17, "last_transaction": 10}
    assert (answers[6], answers[8]) == (3, 3)
    assert answers[13]["host_name"] == "SQL01"
    assert answers[16] == "note"
    assert [entry["name"] for entry in answers[17]] == ["bb1.ldf", "bb2.ldf", "bb3.ldf"]
    for verb, arguments in (("fly", {}), ("insert", {"rows": 1}), ("count", {"database": "none"}), ("flush", {})):
        with pytest.raises(ValueError, match=r"no verb|missing|none|not running"):
            guest.do(verb, **arguments)
