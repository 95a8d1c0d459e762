"""A mirror under endless random work, each step reported when it is acknowledged; to be killed at any moment.

Run as ``python -m tests.labenv.ontap.snapmirror_kill_child FOLDER SEED``.
"""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path

from .snapmirror_bench import RELATIONSHIPS, PairBench


def digest(content: bytes) -> str:
    """What stands for a LUN's contents."""
    return hashlib.sha256(content).hexdigest()[:16]


def say(*words: str) -> None:
    """Report to whoever is going to kill us."""
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def ready(folder: Path) -> tuple[PairBench, str]:
    """Two clusters with a mirror, new or as the last life left them."""
    pair = PairBench(folder)
    pair.prices["ontap.snapmirror.mib"] = 4.0
    if "svm1:vol1" in str(pair.at(2).do("GET", RELATIONSHIPS, fields="source")):
        return pair, str(pair.one(RELATIONSHIPS)["uuid"])
    return pair, pair.protect(blocks=200)


class Life:
    """Random steps."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.pair, self.uuid = ready(folder)
        self.number = 0

    def run(self) -> None:
        """Work for ever."""
        say("ready")
        steps = [self.write, self.snapshot, self.delete, self.update, self.wait, self.abort, self.turn]
        while True:
            self.draw.choices(steps, [4, 4, 1, 6, 6, 1, 1])[0]()
            say("step")

    def write(self) -> None:
        """Change a few blocks of the source."""
        self.number += 1
        self.pair.scribble(1, "vol1", self.seed * 1000 + self.number, blocks=self.draw.randrange(1, 80))

    def snapshot(self) -> None:
        """A Snapshot copy, and what it holds."""
        self.number += 1
        if len(self.pair.copies(1, "vol1")) > 12:
            self.delete()
            return
        name = f"s{self.seed}_{self.number}"
        self.pair.snap(1, "vol1", name)
        say("snapshot", name, digest(self.pair.content(1, "vol1")))

    def delete(self) -> None:
        """The oldest Snapshot copy that can go."""
        pair = self.pair
        path = f"/storage/volumes/{pair.key(1, 'vol1')}/snapshots"
        for copy in pair.at(1).do("GET", path)["records"][:1]:
            pair.call("DELETE", f"{path}/{copy['uuid']}", return_timeout=9)

    def update(self) -> None:
        """Begin a transfer, of whatever kind is possible; refused if one is under way."""
        self.pair.at(2).call("POST", f"{RELATIONSHIPS}/{self.uuid}/transfers", {})

    def wait(self) -> None:
        """Let lab time pass, so that Snapshot copies arrive."""
        self.pair.advance(self.draw.uniform(0.1, 4.0))

    def abort(self) -> None:
        """End the transfer that is under way."""
        transfer = self.pair.at(2).state_of(self.uuid).get("transfer", {})
        if transfer.get("state") == "transferring":
            state = self.draw.choice(["aborted", "hard_aborted"])
            self.pair.call("PATCH", f"{RELATIONSHIPS}/{self.uuid}/transfers/{transfer['uuid']}", {"state": state})

    def turn(self) -> None:
        """Break, write to the destination, resync: all of it without waiting for the end."""
        pair = self.pair.at(2)
        if pair.patch(self.uuid, "broken_off")[0] == 200:
            pair.scribble(2, "vol1_dr", self.draw.randrange(1000), blocks=20)
            pair.at(2).patch(self.uuid, "snapmirrored")


if __name__ == "__main__":
    Life(Path(sys.argv[1]), int(sys.argv[2])).run()
