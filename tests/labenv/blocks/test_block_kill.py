"""A killed process loses nothing that was acknowledged."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path

import block_kill_child as child
import pytest
from block_model import Files, ModelFile, copy_files

SCRIPT = str(Path(child.__file__).resolve())


class Twin:
    """What the child's volume should hold."""

    def __init__(self) -> None:
        self.files: Files = {path: ModelFile(child.SIZE) for path in child.FILES}
        self.snapshots: dict[str, Files] = {}

    def apply(self, operation: child.Operation) -> None:
        kind, name = operation.kind, operation.name
        if kind == "write":
            self.files[name].write(operation.offset, operation.data)
        elif kind == "unmap":
            self.files[name].unmap(operation.offset, operation.length)
        elif kind == "snapshot" and name in self.snapshots:
            del self.snapshots[name]
        elif kind == "snapshot":
            self.snapshots[name] = copy_files(self.files)
        elif kind == "restore" and name in self.snapshots:
            names = list(self.snapshots)
            for newer in names[names.index(name) + 1 :]:
                del self.snapshots[newer]
            self.files = copy_files(self.snapshots[name])
        elif kind == "clone":
            self.files[child.CLONE] = self.files[name].copy()

    def difference(self, folder: Path) -> str:
        """Where the mounted store differs; empty if it does not."""
        state, store = child.make(folder)
        try:
            volume = store.volume("vol")
            assert store.check() == []
            if list(volume.snapshots) != list(self.snapshots):
                return f"Snapshot copies {list(volume.snapshots)}, not {list(self.snapshots)}"
            everything = {"": (volume.files, self.files)}
            everything |= {n: (volume.snapshots[n].files, files) for n, files in self.snapshots.items()}
            for where, (found, files) in everything.items():
                if sorted(found) != sorted(files):
                    return f"{where}: files {sorted(found)}, not {sorted(files)}"
                for path, file in files.items():
                    if found[path].read(0, file.size) != file.read(0, file.size):
                        return f"{where}{path}"
            return ""
        finally:
            store.close()
            state.db.close()


def kill_once(folder: Path, seed: int, *, acknowledge: bool) -> int:
    """Let a child work for a while and kill it; how many operations it reported."""
    process = subprocess.Popen(
        [sys.executable, SCRIPT, str(folder), str(seed), str(acknowledge)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    reported = len(process.stdout.read(1))
    time.sleep(random.Random(seed).uniform(0.0, 0.25))
    process.kill()
    reported += len(process.stdout.read())
    process.stdout.close()
    process.wait()
    assert reported > 0
    return reported


def rounds(folder: Path, count: int, *, first_seed: int, acknowledge: bool = True) -> str:
    """Kill repeatedly, each time going on from what was left; the first difference found."""
    twin = Twin()
    child_state, child_store = child.make(folder)
    child_store.close()
    child_state.db.close()
    for seed in range(first_seed, first_seed + count):
        reported = kill_once(folder, seed, acknowledge=acknowledge)
        work = child.operations(seed)
        for operation in itertools.islice(work, reported):
            twin.apply(operation)
        # the operation under way is either not there at all, or complete
        without = twin.difference(folder)
        if without:
            twin.apply(next(work))
            if with_it := twin.difference(folder):
                return f"seed {seed} after {reported} operations: {without}; {with_it}"
    return ""


def test_nothing_acknowledged_is_lost_and_nothing_is_torn(tmp_path: Path) -> None:
    """Kills at random moments leave every reported operation, and the one under way whole or not at all."""
    assert rounds(tmp_path, 6, first_seed=100) == ""


def test_the_kill_test_notices_a_log_that_does_not_count(tmp_path: Path) -> None:
    """The same test fails when the log's counter is not written, so it can fail."""
    assert rounds(tmp_path, 3, first_seed=100, acknowledge=False) != ""


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 2000, 100))
def test_many_kills(tmp_path: Path, seed: int) -> None:
    """The same for many more moments."""
    assert rounds(tmp_path, 40, first_seed=seed) == ""
