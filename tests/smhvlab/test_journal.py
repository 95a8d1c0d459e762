"""The journal as a file: durable lines, one owner, and what is left after a crash."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest

from smhvlab.doctor import unfinished
from smhvlab.errors import JournalError, JournalLocked
from smhvlab.journal import Header, Journal, Mark, is_closed, journal_folder, read_journal
from smhvlab.lockfile import try_lock


@dataclass(frozen=True)
class Some:
    when: datetime
    sizes: dict[int, tuple[str, ...]]


HEADER = Header(site="lab/one", flow="smhvlab.backup.crash:Backup", format=1, parameters={"label": "x"})


def test_every_line_is_on_disk_before_the_next_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync follows what a change may come after; the end of a step is on disk with the next such line."""
    synced: list[int] = []
    real = os.fsync

    def noted(handle: int) -> None:
        real(handle)
        synced.append(handle)

    monkeypatch.setattr(os, "fsync", noted)
    journal = Journal.create(HEADER, {})
    before = len(synced)
    journal.write(Mark.START, "one")
    assert len(synced) == before + 1
    journal.write(Mark.END, "one", state={"a": 1})
    assert len(synced) == before + 1
    journal.write(Mark.START, "two")
    assert len(synced) == before + 2
    lines = [msgspec.json.decode(line) for line in journal.path.read_bytes().splitlines()]
    marks = [("begin", ""), ("start", "one"), ("end", "one"), ("start", "two")]
    assert [(line["mark"], line["step"]) for line in lines] == marks
    assert lines[0]["header"]["parameters"] == {"label": "x"}
    journal.close()


def test_the_newest_state_counts() -> None:
    """Lines without a state do not hide the one before them."""
    journal = Journal.create(HEADER, {"n": 1})
    journal.write(Mark.START, "one")
    assert journal.state == {"n": 1}
    journal.write(Mark.END, "one", state={"n": 2})
    journal.write(Mark.START, "two")
    assert journal.state == {"n": 2}
    journal.close()


def test_an_opened_journal_goes_on_where_it_ended() -> None:
    """A cut last line goes, and the next one follows the last whole one."""
    journal = Journal.create(HEADER, {})
    journal.write(Mark.START, "one")
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"mark":"end","st')
    again = Journal.open("lab/one", journal.run)
    assert again.to_undo == ["one"]
    again.write(Mark.UNDO, "one")
    again.close()
    lines, length = read_journal(journal.path)
    assert [line.mark for line in lines] == [Mark.BEGIN, Mark.START, Mark.UNDO]
    assert length == journal.path.stat().st_size


def test_what_is_settled_and_what_is_to_be_undone() -> None:
    """Ended and skipped steps are settled; started ones are undone in reverse, once each."""
    journal = Journal.create(HEADER, {})
    for mark, name in [
        (Mark.START, "one"),
        (Mark.END, "one"),
        (Mark.SKIP, "two"),
        (Mark.START, "three"),
        (Mark.FAIL, "three"),
        (Mark.START, "three"),
    ]:
        journal.write(mark, name)
    assert journal.passed == {"one", "two"}
    assert journal.to_undo == ["three", "one"]
    journal.write(Mark.UNDO, "three")
    journal.write(Mark.UNDONE, "three")
    assert journal.to_undo == ["one"]
    journal.close()


def test_obstacles_to_resume_and_undo() -> None:
    """Each state of a journal allows exactly what is safe."""
    journal = Journal.create(HEADER, {})
    assert (journal.obstacle("resume"), journal.obstacle("undo")) == ("", "")
    assert journal.obstacle("resume", version=2) == "its journal has format 1"
    assert journal.obstacle("undo", version=2) == ""
    journal.write(Mark.START, "one")
    journal.write(Mark.UNDO, "one")
    assert (journal.obstacle("resume"), journal.obstacle("undo")) == ("its undo has begun", "")
    journal.write(Mark.CLOSE)
    assert journal.obstacle("undo") == "it is finished"
    journal.close()
    pivoted = Journal.create(HEADER, {})
    pivoted.write(Mark.START, "over", pivot=True)
    assert pivoted.obstacle("resume") == ""
    assert pivoted.obstacle("undo") == "its point of no return has been passed"
    pivoted.close()


def test_one_owner_at_a_time() -> None:
    """A second owner is refused while the first one lives, and let in afterwards."""
    journal = Journal.create(HEADER, {})
    with pytest.raises(JournalLocked):
        Journal.open("lab/one", journal.run)
    journal.close()
    Journal.open("lab/one", journal.run).close()


def test_a_look_of_the_doctor_does_not_take_a_journal_from_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor locks what it looks at for a moment, also a journal that is being made: its owner waits for that."""

    def late(file: BinaryIO) -> bool:
        monkeypatch.undo()
        look = Path(file.name).open("r+b")  # noqa: SIM115  # closed by the timer
        assert try_lock(look)
        threading.Timer(0.05, look.close).start()
        return try_lock(file)

    monkeypatch.setattr("smhvlab.journal.try_lock", late)
    with closing(Journal.create(HEADER, {}, folder=Path(os.environ["SMHVLAB_STATE"]))) as journal:
        assert [u.alive for u in unfinished("lab/one", folder=journal.path.parents[2])] == [True]


def test_the_lock_goes_with_its_process() -> None:
    """A killed process leaves a journal that the next one can take over at once."""
    program = (
        "from smhvlab.journal import *; import time;"
        "j = Journal.create(Header(site='lab/one', flow='m:F', format=1), {});"
        "j.write(Mark.START, 'one'); print(j.run, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        assert [(u.alive, u.allowed) for u in unfinished("lab/one")] == [(True, ())]
        with pytest.raises(JournalLocked):
            Journal.open("lab/one", run)
        process.kill()
    assert [(u.alive, u.allowed) for u in unfinished("lab/one")] == [(False, ("resume", "undo"))]
    journal = Journal.open("lab/one", run)
    assert journal.to_undo == ["one"]
    journal.close()


def test_a_damaged_journal_is_an_error() -> None:
    """A line that is no line, or no header: nobody guesses what had happened, and other runs are still found."""
    journal = Journal.create(HEADER, {})
    journal.write(Mark.START, "one")
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(b"?" + whole)
    with pytest.raises(JournalError):
        Journal.open("lab/one", journal.run)
    other = Journal.create(HEADER, {})
    other.close()
    damaged, found = unfinished("lab/one")
    assert (damaged.run, damaged.allowed, damaged.alive) == (journal.run, (), False)
    assert "damaged" in damaged.error
    assert "another folder" in damaged.error
    assert (found.run, found.allowed) == (other.run, ("resume", "undo"))
    journal.path.write_bytes(whole.splitlines(keepends=True)[1])
    with pytest.raises(JournalError):
        Journal.open("lab/one", journal.run)


def test_a_run_killed_before_its_first_line_had_done_nothing() -> None:
    """An empty journal is not shown, cannot be opened, and its number is not used again."""
    home = journal_folder("lab/one", None)
    home.mkdir(parents=True)
    (home / "0001-Backup.jsonl").touch()
    assert unfinished("lab/one") == []
    with pytest.raises(JournalError):
        Journal.open("lab/one", "0001-Backup")
    journal = Journal.create(HEADER, {})
    assert journal.run == "0002-Backup"
    journal.close()


def test_where_journals_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument wins over SMHVLAB_STATE, which wins over the user's own folder; names cannot leave it."""
    assert journal_folder("a", tmp_path) == tmp_path / "journals" / "a"
    monkeypatch.setenv("SMHVLAB_STATE", str(tmp_path / "env"))
    assert journal_folder("../a b", None) == tmp_path / "env" / "journals" / ".._a_b"
    monkeypatch.delenv("SMHVLAB_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert "smhvlab" in journal_folder("a", None).parts


def test_sites_whose_names_look_alike_are_kept_apart() -> None:
    """Two names may share a folder; the header tells whose run it is."""
    journal = Journal.create(HEADER, {})
    journal.close()
    assert [u.run for u in unfinished("lab/one")] == ["0001-Backup"]
    assert unfinished("lab_one") == []


def test_states_survive_as_json() -> None:
    """Times, tuples and integer keys come back as their types say."""
    state = Some(datetime(2013, 3, 1, 12, 30, tzinfo=UTC), {1: ("a", "b")})
    journal = Journal.create(HEADER, msgspec.to_builtins(state, str_keys=True))
    journal.close()
    again = Journal.open("lab/one", journal.run)
    assert msgspec.convert(again.state, Some, str_keys=True) == state
    again.close()


def test_a_journal_in_the_place_of_a_deleted_one_is_looked_at_anew(tmp_path: Path) -> None:
    """Another run of the same name, and by chance of the same length, is not taken for the one that had ended."""
    path = tmp_path / "0001-Flow.jsonl"
    closed = b'{"mark":"close","at":"x"}\n'
    path.write_bytes(closed)
    assert is_closed(path)
    path.unlink()
    path.write_bytes(b'{"mark":"start","at":"x"}\n'.ljust(len(closed)))
    os.utime(path, ns=(1, 1))
    assert not is_closed(path)
