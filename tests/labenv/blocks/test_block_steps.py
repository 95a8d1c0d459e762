"""Deduplication, FlexClone split and replication in small steps: others work in between, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from block_bench import MIB, B, Bench, pattern

from labenv.ontap.blocks.staging import STEP
from labenv.ontap.blocks.volume import VolumeBlocks

BLOCKS = 3 * STEP
Begin = Callable[[Bench], Iterator[None]]


def parent(bench: Bench) -> VolumeBlocks:
    """A volume with a LUN of which every block occurs twice, and a Snapshot copy of it."""
    volume = bench.store.create_volume("parent", aggregate="aggr", size=512 * MIB, guarantee=False)
    data = pattern(BLOCKS // 2)
    lun = volume.create_file("/lun", 2 * len(data), reserved=False)
    lun.write(0, data)
    lun.write(len(data), data)
    volume.create_snapshot("one")
    bench.state.commit()
    return volume


def deduplication(bench: Bench) -> Iterator[None]:
    """Steps on the parent."""
    return parent(bench).deduplicate_steps()


def split(bench: Bench) -> Iterator[None]:
    """Steps on a FlexClone volume."""
    parent(bench)
    clone = bench.store.clone_volume("clone", parent="parent", snapshot="one")
    bench.state.commit()
    return clone.split_steps()


def staging(bench: Bench) -> Iterator[None]:
    """Steps ahead of a first transfer."""
    parent(bench)
    bench.store.create_volume("far", aggregate="aggr", size=512 * MIB, guarantee=False)
    bench.state.commit()
    return bench.store.stage("parent", "one", destination="far")


WORK = (deduplication, split, staging)


@pytest.mark.parametrize("begin", WORK)
def test_no_step_is_about_more_than_its_share(bench: Bench, begin: Begin) -> None:
    """There are at least as many steps as there are pieces of the volume."""
    assert sum(1 for _ in begin(bench)) >= BLOCKS // STEP


@pytest.mark.parametrize("begin", WORK)
def test_the_store_is_sound_between_any_two_steps(bench: Bench, begin: Begin) -> None:
    """Every count is right after each step, with a write and a consistency point in between."""
    lun: bytes | None = None
    for number, _ in enumerate(begin(bench)):
        bench.store.volume("parent").files["/lun"].write(number * 7 * B, pattern(1, seed=number + 1))
        bench.state.commit()
        assert bench.store.check() == []
        lun = bench.store.volume("parent").files["/lun"].read(0, 300 * B)
    expected = bytearray(pattern(300))
    for number in range(300 // 7):
        expected[number * 7 * B : (number * 7 + 1) * B] = lun[number * 7 * B : (number * 7 + 1) * B] if lun else b""
    assert lun == bytes(expected)


@pytest.mark.parametrize("begin", WORK)
@pytest.mark.parametrize("taken", [2])
def test_work_that_is_given_up_leaves_nothing(bench: Bench, begin: Begin, taken: int) -> None:
    """Whether it is cancelled or the process is killed: contents and counts are as before."""
    steps = begin(bench)
    for _ in range(taken):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert bench.store.check() == []
    steps = begin_again(bench, begin)
    for _ in range(taken):
        next(steps)
    bench.crash()
    assert bench.store.check() == []
    assert bench.store.volume("parent").files["/lun"].read(0, BLOCKS * B) == 2 * pattern(BLOCKS // 2)


def begin_again(bench: Bench, begin: Begin) -> Iterator[None]:
    """The same work on the volumes that are there."""
    store = bench.store
    if begin is deduplication:
        return store.volume("parent").deduplicate_steps()
    if begin is split:
        return store.volume("clone").split_steps()
    return store.stage("parent", "one", destination="far")


def test_a_checkpoint_between_steps_keeps_no_copies_made_ahead(bench: Bench) -> None:
    """What is copied ahead belongs to no tree: a checkpoint does not hold it, and a restore forgets it."""
    steps = staging(bench)
    next(steps)
    next(steps)
    bench.state.checkpoint("during")
    assert bench.store.check() == []
    bench.state.restore("during")
    steps.close()  # type: ignore[attr-defined]
    assert bench.store.check() == []


def test_copies_of_another_snapshot_copy_are_not_used(bench: Bench) -> None:
    """A Snapshot copy that is deleted and made anew under its name is sent as it is now."""
    steps = staging(bench)
    staged = None
    while staged is None:
        try:
            next(steps)
        except StopIteration as stop:
            staged = stop.value
    volume = bench.store.volume("parent")
    volume.delete_snapshot("one")
    volume.files["/lun"].write(0, pattern(BLOCKS, seed=9))
    bench.state.commit()
    volume.create_snapshot("one")
    bench.store.replicate("parent", "one", destination="far", staged=staged)
    staged.give_back()
    assert bench.store.volume("far").files["/lun"].read(0, BLOCKS * B) == pattern(BLOCKS, seed=9)
