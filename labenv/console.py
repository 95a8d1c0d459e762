"""What the commands print."""

from __future__ import annotations

import os
import sys


def say(text: str, *, error: bool = False) -> None:
    """Print a line. That nobody reads any more is no reason to stop, least of all for a lab in this process."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
