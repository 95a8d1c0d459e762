"""``kill -9`` with transfers in flight: each Snapshot copy has arrived or has not, and the mirror goes on."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import snapmirror_kill_child as child
from .snapmirror_bench import RELATIONSHIPS, PairBench

ROOT = Path(__file__).parents[3]
MODULE = "tests.labenv.ontap.snapmirror_kill_child"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.discard()


def check_destination(pair: PairBench, known: dict[str, str]) -> None:
    """Blocks and records tell the same, and every Snapshot copy holds what its source held."""
    assert pair.blocks.check() == []
    core = pair.arrays[1].core
    volume = pair.key(2, "vol1_dr")
    blocks = pair.blocks.volume(volume)
    records = core.snapshots_of(volume)
    assert [s.name for s in records] == list(blocks.snapshots)
    assert {lun.path for lun in core.luns_of(volume)} == set(blocks.files)
    source = pair.blocks.volume(pair.key(1, "vol1")).snapshots
    for snapshot in records:
        held = blocks.snapshots[snapshot.name].files["/lun1"]
        content = held.read(0, held.size)
        if snapshot.name in source:
            twin = source[snapshot.name].files["/lun1"]
            assert content == twin.read(0, twin.size)
        if snapshot.name in known:
            assert child.digest(content) == known[snapshot.name]


def mend(pair: PairBench, uuid: str) -> None:
    """Let what is under way end, jobs of the last life included, and bring the mirror up to date."""
    for number in (1, 2):
        pair.at(number).do("GET", "/cluster")  # a first request wakes the jobs that a cluster still had
    pair.advance(60)
    shown = pair.at(2).settle(uuid)
    if shown["state"] in ("broken_off", "uninitialized", "paused"):
        shown = pair.mirrored(uuid)
    assert shown["state"] == "snapmirrored", shown
    shown = pair.transfer(uuid)
    assert shown["healthy"], shown
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")
    assert pair.copies(2, "vol1_dr") == pair.copies(1, "vol1")
    volumes = {
        lun["location"]["volume"]["name"] for lun in pair.at(2).do("GET", "/storage/luns", fields="**")["records"]
    }
    assert volumes == {"vol1_dr"}


def lives(folder: Path, count: int, seed: int) -> int:
    """Kill so many processes that work on one mirror; how many steps they had acknowledged."""
    known: dict[str, str] = {}
    steps = 0
    for life in range(seed, seed + count):
        arguments = [sys.executable, "-m", MODULE, str(folder), str(life)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(random.Random(life).uniform(0.1, 0.8))
            process.kill()
            lines = process.stdout.read().splitlines()
        for line in lines:
            if line.startswith("snapshot") and len(line.split()) == 3:
                _, name, value = line.split()
                known[name] = value
        steps += lines.count("step")
        pair, uuid = child.ready(folder)
        with pair:
            check_destination(pair, known)
            mend(pair, uuid)
            check_destination(pair, known)
    return steps


def test_killed_processes_leave_whole_snapshot_copies(tmp_path: Path) -> None:
    """Two lives of a busy mirror."""
    assert lives(tmp_path, 2, 1) > 0


@pytest.mark.long
def test_many_killed_processes_leave_whole_snapshot_copies(tmp_path: Path) -> None:
    """Sixty lives of a busy mirror."""
    assert lives(tmp_path, 60, 100) > 60


def test_a_kill_at_every_second_of_a_first_transfer(pair: PairBench) -> None:
    """A baseline of four Snapshot copies, cut off each time before its next arrival: each arrives once, and whole."""
    uuid = pair.protect(blocks=40)
    for number in range(3):
        pair.snap(1, "vol1", f"s{number}")
        pair.scribble(1, "vol1", 10 + number, blocks=20)
    pair.prices["ontap.snapmirror.mib"] = 50.0
    pair.at(2).patch(uuid, "snapmirrored")
    seen = []
    for _ in range(100):
        pair.kill()
        check_destination(pair, {})
        done = pair.at(2).state_of(uuid)["state"] == "snapmirrored"
        seen.append(len(pair.copies(2, "vol1_dr")))
        if done:
            break
        pair.advance(1)
    assert sorted(set(seen)) == [0, 1, 2, 3, 4]
    assert seen == sorted(seen)
    shown = pair.state_of(uuid)
    assert shown["transfer"]["bytes_transferred"] == shown["total_transfer_bytes"]
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")
    assert pair.do("GET", f"{RELATIONSHIPS}/{uuid}/transfers")["num_records"] == 1


def test_a_kill_while_a_resync_is_under_way(pair: PairBench) -> None:
    """Until the first Snapshot copy arrives the destination keeps what was written to it; then it has the source's."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    pair.patch(uuid, "broken_off")
    mine = pair.scribble(2, "vol1_dr", 5, blocks=30)
    home = pair.scribble(1, "vol1", 6, blocks=30)
    pair.prices["ontap.snapmirror.mib"] = 50.0
    pair.at(2).patch(uuid, "snapmirrored")
    pair.kill()
    assert pair.content(2, "vol1_dr") == mine
    assert pair.state_of(uuid)["state"] == "broken_off"
    assert pair.settle(uuid)["state"] == "snapmirrored"
    assert pair.content(2, "vol1_dr") == home
    check_destination(pair, {})
