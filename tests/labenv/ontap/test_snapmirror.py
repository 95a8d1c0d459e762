"""SnapMirror between two clusters: the life of a relationship."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .snapmirror_bench import RELATIONSHIPS, PairBench


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.close()


def test_a_mirror_holds_the_bytes_of_its_source(pair: PairBench) -> None:
    """Initialise, update and break: the destination has the source's bytes, and is written to only after the break."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "monday")
    monday = pair.content(1, "vol1")
    pair.at(2)
    assert pair.state_of(uuid)["state"] == "uninitialized"
    shown = pair.mirrored(uuid)
    assert (shown["state"], shown["healthy"], shown["transfer"]["state"]) == ("snapmirrored", True, "success")
    assert pair.content(2, "vol1_dr") == monday
    tuesday = pair.scribble(1, "vol1", 2, blocks=5)
    pair.snap(1, "vol1", "tuesday")
    wednesday = pair.scribble(1, "vol1", 3, blocks=7)
    shown = pair.at(2).transfer(uuid)
    assert shown["transfer"]["bytes_transferred"] == 12 * 4096
    assert pair.content(2, "vol1_dr", snapshot="monday") == monday
    assert pair.content(2, "vol1_dr", snapshot="tuesday") == tuesday
    assert pair.content(2, "vol1_dr") == wednesday
    assert pair.copies(1, "vol1") == pair.copies(2, "vol1_dr")
    volume = f"/storage/volumes/{pair.key(2, 'vol1_dr')}"
    assert pair.do("GET", volume)["type"] == "dp"
    assert pair.patch(uuid, "broken_off")[0] == 200
    assert pair.state_of(uuid)["state"] == "broken_off"
    assert pair.do("GET", volume)["type"] == "rw"
    assert pair.blocks.check() == []
    assert pair.do("GET", RELATIONSHIPS, state="broken_off")["num_records"] == 1
