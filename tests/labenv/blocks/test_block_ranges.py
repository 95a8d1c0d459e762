"""Ranges of a file cloned into another file."""

from __future__ import annotations

import random

import pytest
from block_bench import MIB, B, Bench, pattern

from labenv.devices import OutOfSpace
from labenv.ontap.blocks.errors import NotPossible
from labenv.ontap.blocks.ranges import Range


def test_a_range_is_shared_until_it_is_written(bench: Bench) -> None:
    """A cloned range shows the source's bytes, holes too, takes no space, and parts at the next write."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * MIB, guarantee=False)
    source = volume.create_file("/a", 8 * MIB, reserved=False)
    source.write(0, pattern(1000))
    source.unmap(500 * B, 4 * B)
    target = volume.create_file("/b", 4 * MIB, reserved=False)
    target.write(0, pattern(1000, seed=1))
    bench.state.commit()
    before = volume.usage.used
    volume.clone_ranges("/a", "/b", [Range(490, 10, 30), Range(0, 600, 100)])
    wanted = bytearray(pattern(1000, seed=1))
    wanted[10 * B : 40 * B] = source.read(490 * B, 30 * B)
    wanted[600 * B : 700 * B] = source.read(0, 100 * B)
    assert target.read(0, 1000 * B) == bytes(wanted)
    assert volume.usage.used == before - 130 * B
    source.write(0, pattern(1, seed=5))
    target.write(601 * B, pattern(1, seed=6))
    wanted[601 * B : 602 * B] = pattern(1, seed=6)
    bench.state.commit()
    bench.crash()
    volume = bench.store.volume("v")
    assert volume.files["/b"].read(0, 1000 * B) == bytes(wanted)
    assert volume.files["/a"].read(0, B) == pattern(1, seed=5)


def test_a_range_comes_from_a_snapshot(bench: Bench) -> None:
    """The source may be a file in a Snapshot copy, and the destination that same file today."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * MIB, guarantee=False)
    file = volume.create_file("/a", 8 * MIB, reserved=True)
    file.write(0, pattern(2000))
    volume.create_snapshot("s")
    file.write(0, pattern(2000, seed=3))
    volume.clone_ranges("/a", "/a", [Range(100, 100, 700)], snapshot="s")
    expected = bytearray(pattern(2000, seed=3))
    expected[100 * B : 800 * B] = pattern(2000)[100 * B : 800 * B]
    assert file.read(0, 2000 * B) == bytes(expected)
    volume.delete_snapshot("s")
    bench.state.commit()
    assert file.read(0, 2000 * B) == bytes(expected)


def test_random_ranges_do_what_a_copy_does(bench: Bench) -> None:
    """Whatever ranges are cloned between writes, bytes are those of a model that copies, and the store is sound."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=200 * MIB, guarantee=False)
    chance = random.Random(5)
    blocks = 1500
    files = {name: volume.create_file(name, blocks * B, reserved=False) for name in ("/a", "/b")}
    model = {name: bytearray(blocks * B) for name in files}
    for step in range(60):
        name, other = chance.sample(sorted(files), 2)
        count = chance.randrange(1, 700)
        source, target = chance.randrange(blocks - count), chance.randrange(blocks - count)
        if chance.random() < 0.5:
            data = pattern(count, seed=step)
            files[name].write(target * B, data)
            model[name][target * B : (target + count) * B] = data
        else:
            volume.clone_ranges(other, name, [Range(source, target, count)])
            model[name][target * B : (target + count) * B] = model[other][source * B : (source + count) * B]
        if step % 20 == 19:
            bench.state.commit()
            assert bench.store.check() == []
    for name, file in files.items():
        assert file.read(0, blocks * B) == bytes(model[name])


@pytest.mark.parametrize(
    "ranges",
    [
        [Range(0, 0, 0)],
        [Range(-1, 0, 1)],
        [Range(0, 0, 3000)],
        [Range(0, 1023, 2)],
        [Range(0, 10, 5), Range(4, 20, 5)],
        [Range(0, 10, 5), Range(40, 14, 5)],
    ],
    ids=str,
)
def test_impossible_ranges_change_nothing(bench: Bench, ranges: list[Range]) -> None:
    """Ranges that are empty, leave a file or overlap are refused before anything is changed."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * MIB, guarantee=False)
    volume.create_file("/a", 8 * MIB, reserved=False).write(0, pattern(100))
    target = volume.create_file("/b", 4 * MIB, reserved=False)
    with pytest.raises(NotPossible):
        volume.clone_ranges("/a", "/b", ranges)
    assert target.used == 0


def test_a_range_of_the_same_file_must_not_overlap_itself(bench: Bench) -> None:
    """Inside one file a range cannot be cloned over a part of itself, but beside it."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * MIB, guarantee=False)
    file = volume.create_file("/a", 8 * MIB, reserved=False)
    file.write(0, pattern(100))
    with pytest.raises(NotPossible):
        volume.clone_ranges("/a", "/a", [Range(0, 5, 10)])
    volume.clone_ranges("/a", "/a", [Range(0, 100, 100)])
    assert file.read(100 * B, 100 * B) == pattern(100)
    with pytest.raises(KeyError):
        volume.clone_ranges("/none", "/a", [Range(0, 0, 1)])


def test_a_full_aggregate_refuses_the_pages(bench: Bench) -> None:
    """Without room for the pointer pages nothing is cloned."""
    store = bench.store
    store.create_aggregate("tiny", 3 * MIB)
    volume = store.create_volume("v", aggregate="tiny", size=100 * MIB, guarantee=False)
    volume.create_file("/a", 64 * MIB, reserved=False).write(0, pattern(512))
    target = volume.create_file("/b", 64 * MIB, reserved=False)
    while store.aggregate("tiny").available >= 8 * B:
        volume.files["/a"].write(volume.files["/a"].used, pattern(1))
    with pytest.raises(OutOfSpace):
        volume.clone_ranges("/a", "/b", [Range(0, 0, 1), Range(1, 9000, 400)])
    assert target.used == 0
