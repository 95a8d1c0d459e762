"""The ``labenv`` command as a user runs it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labenv.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)


def run(module: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Run ``python -m MODULE`` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def inside(*arguments: str | Path) -> Ran:
    """The same command in this process: a hundred times quicker, for the many variations of arguments."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def labenv(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Run ``labenv`` to its end."""
    return run("labenv", *arguments, environment=environment)


def copied(source: Path, target: Path) -> Path:
    """A copy of a state folder; blocks of zeros become holes, for the pool is mostly empty."""

    def copy(one: str, other: str) -> None:
        with open(one, "rb") as read, open(other, "wb") as write:  # noqa: PTH123 - shutil gives strings
            while piece := read.read(len(_ZEROS)):
                if piece == _ZEROS:
                    write.seek(len(piece), os.SEEK_CUR)
                else:
                    write.write(piece)
            write.truncate()
        shutil.copystat(one, other)

    return Path(shutil.copytree(source, target, copy_function=copy))


_ZEROS = bytes(1 << 18)
