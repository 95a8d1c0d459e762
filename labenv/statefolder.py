"""A lab's state folder: whose it is, who uses it now, and what a lab left there that never got ready."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from contextlib import closing
from io import BufferedRandom
from pathlib import Path

from labenv.state import FORMAT, StateFolderMismatch

_DATA = ("state.db", "state.db-wal", "state.db-shm", "blocks", "hosts")
_PATIENCE = 0.5
"""Real seconds in which a lab that is just ending may let go of its folder."""


class StateFolderUnusable(Exception):
    """The folder cannot be used for a lab; the text says why and what to do."""


def prepare(folder: Path) -> None:
    """Make the folder, or see that an existing one is empty or a lab's; nobody else can look into it afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = next((p.name for p in folder.iterdir()), None)
        if strange is not None and not (folder / "lock").exists():
            raise StateFolderUnusable(
                f"{folder} is not empty and holds no lab (there is {strange}): name another folder with --state"
            )
        folder.chmod(0o700)
    except OSError as error:
        raise StateFolderUnusable(
            f"the state folder {folder} cannot be used ({error.strerror}): name another with --state"
        ) from error


def take(folder: Path) -> BufferedRandom:
    """Hold the folder until the file that is returned is closed: two processes on one folder would destroy it."""
    file = (folder / "lock").open("a+b")
    deadline = time.monotonic() + _PATIENCE
    while not _lock(file):
        if time.monotonic() > deadline:
            file.close()
            raise StateFolderUnusable(
                f"a lab already runs in {folder}: use it, stop it with `labenv down --state {folder}`, "
                f"or name another folder with --state"
            )
        time.sleep(0.02)
    return file


def in_use(folder: Path) -> bool:
    """Whether a process holds the folder."""
    try:
        file = (folder / "lock").open("r+b")
    except OSError:
        return False
    with file:
        return not _lock(file)


def _lock(file: BufferedRandom) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def discard_unfinished(folder: Path) -> None:
    """Remove the data of a lab that was killed before its first contents were complete; call it with the folder held.

    Raises:
        StateFolderMismatch: ``state.db`` was not written by a lab.
    """
    path = folder / "state.db"
    if path.exists() and not _got_ready(path):
        for name in _DATA:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)


def _got_ready(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] not in (0, FORMAT):
                return True  # another version's: refused when it is opened
            return db.execute("SELECT 1 FROM kept WHERE checkpoint='fresh' LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError:
        return False  # killed before its tables were there
    except sqlite3.DatabaseError as error:
        raise StateFolderMismatch(f"{path} was not written by a lab ({error}): name another folder") from error
