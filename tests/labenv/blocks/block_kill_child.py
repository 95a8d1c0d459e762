"""Endless random operations on a block store, each reported when it has returned; to be killed at any moment.

Run as ``python block_kill_child.py FOLDER SEED ACKNOWLEDGE``.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from labenv.ontap.blocks.store import BlockStore
from labenv.state import State

B = 4096
FILES = ("/a", "/b", "/c")
SIZE = 700 * B
CLONE = "/clone"


class Operation(NamedTuple):
    """What to do; ``name`` is a path, or a Snapshot copy."""

    kind: str
    name: str = ""
    offset: int = 0
    data: bytes = b""
    length: int = 0


def operations(seed: int) -> Iterator[Operation]:
    """The same for the same seed."""
    chance = random.Random(seed)
    while True:
        kind = chance.choices(["write", "unmap", "snapshot", "restore", "clone", "deduplicate"], [80, 10, 5, 1, 1, 1])[
            0
        ]
        path = chance.choice(FILES)
        block = chance.randrange(700)
        if kind == "write":
            length = min((700 - block) * B, B * chance.choice([1, 1, 1, 2, 30, 300]))
            offset = block * B
            if chance.random() < 0.2:
                offset, length = offset + 100, length - 200
            data = (chance.randbytes(32) * (length // 32 + 1))[:length]
            yield Operation("write", path, offset, data)
        elif kind == "unmap":
            yield Operation("unmap", path, block * B, length=min(700 - block, chance.choice([1, 50, 600])) * B)
        elif kind in ("snapshot", "restore"):
            yield Operation(kind, f"s{chance.randrange(6)}")
        else:
            yield Operation(kind, path)


def make(folder: Path, *, acknowledge: bool = True) -> tuple[State, BlockStore]:
    """Mount, or create with three files."""
    state = State(folder / "state.db")
    store = BlockStore(
        folder / "blocks", state, capacity=1 << 34, log_records=700, segment=1024, acknowledge=acknowledge
    )
    if "vol" not in store.volumes:
        store.create_aggregate("aggr", 1 << 34)
        volume = store.create_volume("vol", aggregate="aggr", size=1 << 32, guarantee=False)
        for path in FILES:
            volume.create_file(path, SIZE, reserved=False)
        state.commit()
    return state, store


def apply(state: State, volume: Any, operation: Operation) -> None:
    """Do one operation; everything but writes is committed."""
    kind, name = operation.kind, operation.name
    if kind == "write":
        volume.files[name].write(operation.offset, operation.data)
        return
    if kind == "unmap":
        volume.files[name].unmap(operation.offset, operation.length)
        return
    if kind == "snapshot" and name in volume.snapshots:
        volume.delete_snapshot(name)
    elif kind == "snapshot":
        volume.create_snapshot(name)
    elif kind == "restore" and name in volume.snapshots:
        volume.restore_snapshot(name)
    elif kind == "clone":
        volume.clone_file(name, CLONE, overwrite=True)
    elif kind == "deduplicate":
        volume.deduplicate()
    state.commit()


def main() -> None:
    folder, seed, acknowledge = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
    state, store = make(folder, acknowledge=acknowledge)
    volume = store.volume("vol")
    for operation in operations(seed):
        apply(state, volume, operation)
        os.write(1, b".")


if __name__ == "__main__":
    main()
