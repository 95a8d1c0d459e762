"""Work on many blocks leaves the lab its turns: requests are answered while a job deduplicates, splits or mirrors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labenv.ontap.blocks.staging import STEP

from .ontap_bench import MIB, Bench
from .snapmirror_bench import PairBench

BLOCKS = 4 * STEP


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.discard()


def fill(pair: PairBench) -> str:
    """svm1:vol1 with a LUN of which every block occurs twice; the volume's uuid."""
    volume = pair.make(1, "vol1", size=128 * MIB)
    pair.disk(1, "/vol/vol1/lun1", BLOCKS * 4096)
    data = b"".join(number.to_bytes(8, "big") * 512 for number in range(1, BLOCKS // 2 + 1))
    file = pair.blocks.volume(volume).files["/lun1"]
    file.write(0, data)
    file.write(len(data), data)
    pair.snap(1, "vol1", "base")
    return volume


def answered(bench: Bench, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """How many others got an answer while a request waited for its job, counted by event loop turns; and its answer."""
    array, clock = bench.array, bench.clock

    async def work() -> tuple[int, Any]:
        async def ask() -> Any:
            with clock.request():
                return await array.call(method, path, query={"return_timeout": "120"}, body=body)

        begun = clock.now
        waiting = asyncio.create_task(ask())
        count = 0
        while not waiting.done():
            await asyncio.sleep(0)
            if clock.now > begun and not waiting.done():  # its cost has passed: the job is at work
                status, _ = await array.call("GET", "/cluster", query={}, body=None)
                count += status == 200
        return count, waiting.result()

    return bench.run(work())


def test_a_deduplication_lets_others_have_their_turns(pair: PairBench) -> None:
    """One turn at least for each piece of the volume, and the savings are there at the end."""
    volume = fill(pair)
    turns, (status, answer) = answered(
        pair.at(1), "PATCH", f"/storage/volumes/{volume}", {"efficiency": {"dedupe": "background"}}
    )
    assert (status, turns >= BLOCKS // STEP) == (200, True), (answer, turns)
    assert pair.blocks.volume(volume).usage.shared == BLOCKS // 2 * 4096


def test_a_split_lets_others_have_their_turns(pair: PairBench) -> None:
    """A FlexClone volume that is split as it is made has blocks of its own at the end."""
    fill(pair)
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "split_initiated": True}
    body = {"name": "copy", "svm": {"name": "svm1"}, "clone": clone}
    turns, (status, answer) = answered(pair.at(1), "POST", "/storage/volumes", body)
    assert (status, turns >= BLOCKS // STEP) == (201, True), (answer, turns)
    shown = pair.one("/storage/volumes", name="copy")
    assert "parent_volume" not in shown.get("clone", {})
    assert pair.blocks.volume(shown["uuid"]).usage.physical == BLOCKS * 4096


def test_a_split_that_was_killed_is_finished_by_the_next_life(pair: PairBench) -> None:
    """The clone that the job had made is split then, and not made twice."""
    fill(pair)
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "split_initiated": True}
    body = {"name": "copy", "svm": {"name": "svm1"}, "clone": clone}
    status, answer = pair.at(1).call("POST", "/storage/volumes", body)
    assert status == 202

    async def until_it_is_there() -> None:
        with pair.clock.request():
            passing = asyncio.create_task(pair.clock.advance(100))
        for _ in range(1000):
            if pair.array.core.volumes_by_plain_name.first("copy") is not None:
                break
            await asyncio.sleep(0)
        pair.state.commit()
        await pair.clock.cancel_tasks()
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)

    pair.run(until_it_is_there())
    pair.kill()
    (there,) = pair.at(1).array.core.volumes_by_plain_name["copy"]
    assert there.clone is not None
    pair.advance(100)
    job = pair.at(1).do("GET", f"/cluster/jobs/{answer['job']['uuid']}")
    assert job["state"] == "success", job
    assert "parent_volume" not in pair.one("/storage/volumes", name="copy").get("clone", {})


def test_a_transfer_lets_others_have_their_turns(pair: PairBench) -> None:
    """The blocks of a baseline are copied piece by piece before its Snapshot copy arrives."""
    pair.peer()
    fill(pair)
    pair.make(2, "vol1_dr", size=128 * MIB, type="dp")
    uuid = pair.relate()
    pair.at(2).patch(uuid, "snapmirrored")
    count = 0

    async def work() -> None:
        nonlocal count
        with pair.clock.request():
            passing = asyncio.create_task(pair.clock.advance(600))
        while not passing.done():
            await asyncio.sleep(0)
            if pair.blocks._engine.pool.aside:  # copies are being made
                status, _ = await pair.array.call("GET", "/cluster", query={}, body=None)
                count += status == 200

    pair.run(work())
    assert count >= BLOCKS // STEP
    assert pair.settle(uuid)["state"] == "snapmirrored"
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")
    assert pair.blocks._engine.pool.aside == {}
