"""The operating system's own lock on an open file: it goes away with its owner, however that ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    _BEHIND = 1 << 30  # locked bytes cannot be read on Windows, so lock one far behind the text

    def try_lock(file: BinaryIO) -> bool:
        """Take the lock if nobody has it; closing the file gives it back. Leaves the file at its end."""
        file.seek(_BEHIND)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0, os.SEEK_END)
        return True

else:
    import fcntl

    def try_lock(file: BinaryIO) -> bool:
        """Take the lock if nobody has it; closing the file gives it back. Leaves the file at its end."""
        file.seek(0, os.SEEK_END)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def sync_folder(folder: Path) -> None:
    """Make a new file's name durable. Windows does that by itself, and cannot open a folder."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
