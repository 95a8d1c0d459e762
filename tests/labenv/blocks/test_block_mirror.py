"""Block-incremental copies to another volume."""

from __future__ import annotations

import pytest
from block_bench import MIB, B, Bench, pattern

from labenv.devices import OutOfSpace
from labenv.ontap.blocks.errors import NameInUse
from labenv.ontap.blocks.volume import VolumeBlocks


@pytest.fixture
def source(bench: Bench) -> VolumeBlocks:
    """A volume with a LUN of 1000 blocks and a Snapshot copy "one"."""
    volume = bench.store.create_volume("source", aggregate="aggr", size=100 * MIB, guarantee=False)
    volume.create_file("/lun", 20 * MIB, reserved=False).write(0, pattern(1000))
    volume.create_snapshot("one")
    return volume


@pytest.fixture
def far(bench: Bench) -> VolumeBlocks:
    """An empty volume in another aggregate."""
    bench.store.create_aggregate("far", 1 << 30)
    return bench.store.create_volume("far", aggregate="far", size=100 * MIB, guarantee=False)


def test_only_changes_are_sent(bench: Bench, source: VolumeBlocks, far: VolumeBlocks) -> None:
    """The first transfer sends everything, later ones what changed; the far volume has blocks of its own."""
    store = bench.store
    assert store.transfer_size("source", "one", destination="far") == 1000 * B
    assert store.replicate("source", "one", destination="far") == 1000 * B
    lun = far.files["/lun"]
    source.files["/lun"].write(10 * B, pattern(5, seed=1))
    source.files["/lun"].unmap(20 * B, 3 * B)
    source.files["/lun"].resize(30 * MIB)
    source.create_snapshot("two")
    assert store.replicate("source", "two", destination="far", base="one") == 5 * B
    assert far.files["/lun"] is lun
    assert lun.size == 30 * MIB
    assert lun.read(0, 30 * MIB) == source.files["/lun"].read(0, 30 * MIB)
    assert far.snapshots["one"].files["/lun"].read(0, 1000 * B) == pattern(1000)
    assert list(far.snapshots) == ["one", "two"]
    with pytest.raises(NameInUse):
        store.replicate("source", "two", destination="far", base="one")
    bench.state.commit()
    store.delete_volume("source")
    bench.state.commit()
    bench.crash()
    assert bench.store.volume("far").files["/lun"].read(10 * B, 5 * B) == pattern(5, seed=1)


def test_sharing_is_kept(bench: Bench, source: VolumeBlocks, far: VolumeBlocks) -> None:
    """A clone of a LUN that is there already, or sent along, is not sent again and takes no space there."""
    store = bench.store
    store.replicate("source", "one", destination="far")
    source.clone_file("/lun", "/recovered", snapshot="one")
    source.files["/recovered"].write(0, pattern(2, seed=2))
    source.create_snapshot("two")
    assert store.replicate("source", "two", destination="far", base="one") == 2 * B
    assert far.usage.physical == 1002 * B
    assert far.files["/recovered"].read(0, 1000 * B) == pattern(2, seed=2) + pattern(1000)[2 * B :]


def test_resynchronisation_gives_up_what_was_written(bench: Bench, source: VolumeBlocks, far: VolumeBlocks) -> None:
    """After writes at the far end a transfer from the common Snapshot copy makes both equal, both ways."""
    store = bench.store
    store.replicate("source", "one", destination="far")
    far.files["/lun"].write(0, b"far" * 10000)
    far.create_file("/extra", MIB, reserved=True)
    far.create_snapshot("written")
    source.files["/lun"].reserved = True
    source.files["/lun"].write(5 * B, b"near" * 10000)
    store.replicate("far", "written", destination="source", base="one")
    assert sorted(source.files) == ["/extra", "/lun"]
    assert source.files["/lun"].read(0, MIB) == far.files["/lun"].read(0, MIB)
    assert not source.files["/lun"].reserved


def test_a_far_volume_without_room_is_unchanged(bench: Bench, source: VolumeBlocks) -> None:
    """A transfer that does not fit raises before anything changes."""
    small = bench.store.create_volume("small", aggregate="aggr", size=900 * B, guarantee=False, snapshot_reserve=0)
    with pytest.raises(OutOfSpace):
        bench.store.replicate("source", "one", destination="small")
    assert (small.usage.used, list(small.files), list(small.snapshots)) == (0, [], [])
