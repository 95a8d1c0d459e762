"""Space: who is charged for what, and what happens when there is none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from block_bench import MIB, B, Bench, pattern

from labenv.devices import OutOfSpace
from labenv.ontap.blocks.errors import NotPossible


def test_a_write_that_does_not_fit_changes_nothing(bench: Bench) -> None:
    """A write for which the volume has no room fails whole: no byte, count or log record of it remains."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=64 * B, guarantee=False, snapshot_reserve=0)
    lun = volume.create_file("/lun", MIB, reserved=False)
    lun.write(0, pattern(60))
    bench.state.commit()
    before, usage = lun.read(0, MIB), volume.usage
    with pytest.raises(OutOfSpace, match="the volume is full"):
        lun.write(58 * B, pattern(8, seed=1))
    assert lun.read(0, MIB) == before
    assert volume.usage == usage
    assert bench.store.check() == []
    lun.write(58 * B, pattern(6, seed=2))  # two blocks of these are there already
    assert volume.usage.available == 0
    bench.crash()
    assert bench.store.volume("v").files["/lun"].read(58 * B, 6 * B) == pattern(6, seed=2)


def test_single_blocks_fill_a_volume_to_the_last(bench: Bench) -> None:
    """Block by block exactly the volume's size can be written, and overwriting still works when it is full."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * B, guarantee=False, snapshot_reserve=10)
    lun = volume.create_file("/lun", MIB, reserved=False)
    bench.state.commit()
    for number in range(90):
        lun.write(number * B, b"a" * B)
    with pytest.raises(OutOfSpace):
        lun.write(90 * B, b"a" * B)
    lun.write(89 * B, b"b" * B)
    lun.unmap(0, B)
    lun.write(90 * B, b"c" * B)
    with pytest.raises(OutOfSpace):
        lun.write(0, b"d" * B)


def test_snapshot_copies_use_their_reserve_first(bench: Bench) -> None:
    """What a Snapshot copy holds is taken from its reserve, and from the active file system only beyond that."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * B, guarantee=False, snapshot_reserve=20)
    lun = volume.create_file("/lun", MIB, reserved=False)
    lun.write(0, pattern(60))
    volume.create_snapshot("s")
    lun.write(0, pattern(20, seed=1))
    usage = volume.usage
    assert (usage.used, usage.snapshot_used, usage.available) == (60 * B, 20 * B, 20 * B)
    lun.write(20 * B, pattern(10, seed=1))
    usage = volume.usage
    assert (usage.used, usage.snapshot_used, usage.available) == (70 * B, 30 * B, 10 * B)
    with pytest.raises(OutOfSpace):
        lun.write(30 * B, pattern(11, seed=1))
    volume.delete_snapshot("s")
    assert volume.usage.available == 20 * B
    lun.write(60 * B, pattern(20))


def test_a_reserved_lun_can_always_be_filled(bench: Bench) -> None:
    """In a guaranteed volume a reserved LUN keeps its room whatever other LUNs take; one without gets what is left."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * B, guarantee=True, snapshot_reserve=0)
    lun = volume.create_file("/reserved", 60 * B, reserved=True)
    other = volume.create_file("/thin", MIB, reserved=False)
    assert volume.usage.used == 60 * B
    bench.state.commit()
    other.write(0, pattern(40))
    with pytest.raises(OutOfSpace):
        other.write(40 * B, b"x" * B)
    for number in range(60):
        lun.write(number * B, b"r" * B)
    lun.unmap(0, 30 * B)
    with pytest.raises(OutOfSpace):
        other.write(40 * B, b"x" * B)
    lun.write(0, pattern(30))
    with pytest.raises(OutOfSpace, match="reserve space"):
        volume.create_file("/second", 60 * B, reserved=True)
    with pytest.raises(OutOfSpace):
        other.reserved = True
    lun.reserved = False
    assert volume.usage.used == 100 * B


def test_thin_volumes_share_the_aggregate(bench: Bench) -> None:
    """Two thin volumes larger together than their aggregate fill it; deleting data of one lets the other go on."""
    bench.store.create_aggregate("small", 200 * B)
    luns = []
    for key in ("a", "b"):
        volume = bench.store.create_volume(key, aggregate="small", size=150 * B, guarantee=False, snapshot_reserve=0)
        luns.append(volume.create_file("/lun", MIB, reserved=False))
    bench.state.commit()
    luns[0].write(0, pattern(120))
    with pytest.raises(OutOfSpace, match="aggregate small is full"):
        luns[1].write(0, pattern(120))
    assert luns[1].used == 0
    luns[1].write(0, pattern(60))
    assert bench.store.volume("b").usage.available <= 20 * B
    luns[0].unmap(0, 120 * B)
    luns[1].write(0, pattern(120))
    assert bench.store.aggregate("small").available == 200 * B - 122 * B


def test_guarantees_take_the_aggregate(bench: Bench) -> None:
    """A guaranteed volume takes its whole size at once; the aggregate refuses what does not fit."""
    store = bench.store
    volume = store.create_volume("a", aggregate="aggr", size=600 * MIB, guarantee=True)
    assert store.aggregate("aggr").used == 600 * MIB
    with pytest.raises(OutOfSpace, match="aggregate aggr"):
        store.create_volume("b", aggregate="aggr", size=600 * MIB, guarantee=True)
    thin = store.create_volume("b", aggregate="aggr", size=600 * MIB, guarantee=False)
    with pytest.raises(OutOfSpace):
        thin.guarantee = True
    with pytest.raises(OutOfSpace):
        volume.resize(2000 * MIB)
    volume.resize(400 * MIB)
    thin.guarantee = True
    assert store.aggregate("aggr").used == 1000 * MIB
    volume.guarantee = False
    assert store.aggregate("aggr").used == 600 * MIB
    with pytest.raises(OutOfSpace, match="of this array's disks"):
        store.create_aggregate("huge", 1 << 41)


def test_a_volume_does_not_shrink_below_what_it_holds(bench: Bench) -> None:
    """Shrinking a volume is refused while its contents need the space."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * B, guarantee=False, snapshot_reserve=0)
    volume.create_file("/lun", MIB, reserved=False).write(0, pattern(50))
    with pytest.raises(NotPossible):
        volume.resize(49 * B)
    volume.resize(50 * B)
    assert volume.usage.available == 0


def test_a_flexclone_volume_starts_with_nothing(bench: Bench) -> None:
    """A FlexClone volume is charged only for what is written to it, until a split copies the rest."""
    store = bench.store
    parent = store.create_volume("p", aggregate="aggr", size=100 * MIB, guarantee=False)
    parent.create_file("/lun", 10 * MIB, reserved=False).write(0, pattern(1000))
    parent.create_snapshot("s")
    used = store.aggregate("aggr").used
    clone = store.clone_volume("c", parent="p", snapshot="s")
    assert (clone.usage.used, clone.usage.shared, store.aggregate("aggr").used) == (0, 1000 * B, used)
    clone.files["/lun"].write(0, pattern(10, seed=1))
    assert (clone.usage.used, clone.usage.shared) == (10 * B, 990 * B)
    clone.create_snapshot("mine")
    clone.files["/lun"].write(0, pattern(5, seed=2))
    clone.split()
    assert (clone.usage.used, clone.usage.snapshot_used, clone.usage.shared) == (1000 * B, 5 * B, 0)
    parent.delete_snapshot("s")
    assert clone.files["/lun"].read(0, 5 * B) == pattern(5, seed=2)
    assert clone.snapshots["mine"].files["/lun"].read(0, 10 * B) == pattern(10, seed=1)


def test_split_needs_room_first(bench: Bench) -> None:
    """A split for which there is no room changes nothing."""
    bench.store.create_aggregate("small", 1100 * B)
    parent = bench.store.create_volume("p", aggregate="small", size=2000 * B, guarantee=False)
    parent.create_file("/lun", 10 * MIB, reserved=False).write(0, pattern(1000))
    parent.create_snapshot("s")
    clone = bench.store.clone_volume("c", parent="p", snapshot="s")
    with pytest.raises(OutOfSpace):
        clone.split()
    assert (clone.parent, clone.usage.used) == (parent.number, 0)


def test_deduplication_saves_what_it_says(bench: Bench) -> None:
    """Equal blocks are stored once; overwriting one of them takes its own block again."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * MIB, guarantee=False)
    lun = volume.create_file("/lun", 20 * MIB, reserved=False)
    lun.write(0, pattern(100) + pattern(100) + bytes(50 * B))
    lun.write(5 * MIB, pattern(100))
    assert volume.usage.used == 350 * B
    assert volume.deduplicate() == 249 * B
    assert (volume.usage.used, volume.usage.shared) == (101 * B, 249 * B)
    assert volume.deduplicate() == 0
    lun.write(5 * MIB, b"x" * B)
    assert volume.usage.used == 102 * B
    assert lun.read(0, 250 * B) == pattern(100) + pattern(100) + bytes(50 * B)
    assert lun.read(5 * MIB, 100 * B) == b"x" * B + pattern(100)[B:]


def test_a_snapshot_copy_knows_its_size(bench: Bench) -> None:
    """The size of a Snapshot copy is what changed between it and the next one."""
    volume = bench.store.create_volume("v", aggregate="aggr", size=100 * MIB, guarantee=False)
    lun = volume.create_file("/lun", 20 * MIB, reserved=False)
    lun.write(0, pattern(100))
    volume.create_snapshot("first")
    lun.write(0, pattern(10, seed=1))
    lun.write(200 * B, pattern(10, seed=1))
    second = volume.create_snapshot("second")
    lun.write(0, pattern(3, seed=2))
    assert (volume.snapshots["first"].size, second.size) == (10 * B, 3 * B)
    volume.delete_file("/lun")
    assert second.size == 110 * B


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the platform gives no space in advance")
def test_a_full_disk_of_the_machine_is_out_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the pool cannot grow, pinned blocks are freed first; then writes fail without changing anything."""
    bench = Bench(tmp_path)
    volume = bench.store.create_volume("v", aggregate="aggr", size=500 * MIB, guarantee=False)
    lun = volume.create_file("/lun", 100 * MIB, reserved=False)
    lun.write(0, b"a" * MIB)
    bench.state.commit()

    def full(number: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    for number in range(40):  # ten times what the pool holds
        lun.write(0, bytes([number]) * MIB)
    with pytest.raises(OutOfSpace, match="disk of this machine"):
        lun.write(0, b"z" * 16 * MIB)
    assert lun.read(0, 2 * MIB) == bytes([39]) * MIB + bytes(MIB)
    assert bench.store.check() == []
    bench.stop()
