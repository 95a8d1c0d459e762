"""Files that only their owner may read."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only the current user can read: mode 0600, on Windows an ACL of one entry.

    Raises:
        OSError: the file cannot be written or its access cannot be narrowed.
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if sys.platform == "win32":
            command = ["icacls", str(partial), "/inheritance:r", "/grant:r", f"{getpass.getuser()}:F"]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - a part of every Windows
        file.write(data)
    partial.replace(path)
