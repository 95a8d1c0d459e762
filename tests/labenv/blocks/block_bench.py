"""A block store in a folder of its own that can be crashed and mounted again."""

from __future__ import annotations

from pathlib import Path

from labenv.ontap.blocks.store import BlockStore
from labenv.state import State

B = 4096
MIB = 1 << 20


class Bench:
    """A state and a block store with the aggregate "aggr" of 1 GiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mount()
        self.store.create_aggregate("aggr", 1 << 30)
        self.state.commit()

    def mount(self) -> None:
        """Open what is in the folder."""
        self.state = State(self.folder / "state.db")
        self.state.table("test", str)["a"] = "a checkpoint needs a record"
        self.store = BlockStore(self.folder / "blocks", self.state, capacity=1 << 40, log_records=2000, segment=1024)

    def stop(self) -> None:
        """Close without a commit, as a kill does."""
        self.store.close()
        self.state.db.close()

    def crash(self) -> None:
        """Stop without a commit, and mount again."""
        self.stop()
        self.mount()


def pattern(count: int, seed: int = 0) -> bytes:
    """Blocks that all differ."""
    return b"".join(f"{seed}.{number}.".encode().ljust(B, b"#") for number in range(count))
