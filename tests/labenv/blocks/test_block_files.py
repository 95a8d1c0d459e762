"""Files, Snapshot copies and clones, one rule at a time."""

from __future__ import annotations

import pytest
from block_bench import MIB, B, Bench, pattern

from labenv.devices import DeviceError, DeviceGone, ReadOnlyDevice
from labenv.ontap.blocks.errors import AggregateInUse, NameInUse, NotPossible, SnapshotBusy, VolumeHasClones
from labenv.ontap.blocks.file import BlockFile
from labenv.ontap.blocks.volume import VolumeBlocks


@pytest.fixture
def volume(bench: Bench) -> VolumeBlocks:
    """A thin volume."""
    return bench.store.create_volume("v", aggregate="aggr", size=500 * MIB, guarantee=False)


@pytest.fixture
def lun(volume: VolumeBlocks) -> BlockFile:
    """A LUN in it whose size is no multiple of a block."""
    return volume.create_file("/lun", 10 * MIB + 512, reserved=False)


def test_ranges_outside_are_refused(lun: BlockFile) -> None:
    """Reads, writes and UNMAPs outside the file raise, and write nothing."""
    for offset, length in ((-1, 10), (lun.size - 5, 6), (lun.size, B), (1 << 50, 1), (-B, B)):
        with pytest.raises(DeviceError):
            lun.read(offset, length)
        with pytest.raises(DeviceError):
            lun.write(offset, b"x" * length)
        with pytest.raises(DeviceError):
            lun.unmap(offset, length)
    assert lun.used == 0
    assert lun.read(lun.size - 5, 5) == bytes(5)
    assert lun.read(lun.size, 0) == b""


def test_the_last_part_of_a_block(lun: BlockFile) -> None:
    """A file may end inside a block; that end is written, read and given back like any other."""
    lun.write(lun.size - 600, b"e" * 600)
    assert lun.read(lun.size - 700, 700) == bytes(100) + b"e" * 600
    lun.unmap(10 * MIB, 512)
    assert lun.used == B
    assert lun.read(lun.size - 600, 600) == b"e" * 88 + bytes(512)


def test_misaligned_writes_are_counted(lun: BlockFile) -> None:
    """Only a write that leaves part of a block as it was counts as misaligned."""
    lun.write(0, b"x" * 3 * B)
    lun.write(10 * MIB, b"x" * 512)  # to the end of the file
    assert lun.misaligned == 0
    lun.write(512, b"x" * B)
    lun.write(B, b"x" * 512)
    assert lun.misaligned == 2


def test_unmap_gives_space_back(lun: BlockFile) -> None:
    """UNMAP frees whole blocks and fills the parts at its edges with zeros; holes stay holes."""
    lun.write(0, b"x" * 4 * B)
    lun.unmap(100, 2 * B)
    assert lun.used == 3 * B
    assert lun.read(0, 4 * B) == b"x" * 100 + bytes(2 * B) + b"x" * (2 * B - 100)
    lun.unmap(5 * MIB + 10, MIB)
    assert lun.used == 3 * B
    lun.unmap(0, lun.size)
    assert lun.used == 0


def test_resize(bench: Bench, lun: BlockFile) -> None:
    """A longer file reads zeros; one made shorter and longer again has lost its end, in every height of tree."""
    lun.write(0, pattern(1000))
    bench.state.commit()
    for size in (3 << 30, 600 << 30, 2 * MIB):
        lun.resize(size)
        assert lun.size == size
        assert lun.read(0, 400 * B) == pattern(400)
        assert lun.read(size - B, B) == (bytes(B) if size > 10 * MIB else pattern(512)[-B:])
        assert bench.store.check() == []
    assert lun.used == 512 * B
    lun.resize(B + 1)
    lun.resize(3 * B)
    assert lun.read(0, 3 * B) == pattern(2)[: B + 1] + bytes(2 * B - 1)
    with pytest.raises(NotPossible):
        lun.resize(0)


def test_deleted_files_are_gone(volume: VolumeBlocks, lun: BlockFile) -> None:
    """The object of a deleted file refuses everything, also what it did quickly before."""
    lun.write(0, b"x" * B)
    volume.delete_file("/lun")
    for work in (lambda: lun.read(0, B), lambda: lun.write(0, b"y" * B), lambda: lun.unmap(0, B), lun.flush):
        with pytest.raises(DeviceGone):
            work()
    with pytest.raises(KeyError):
        volume.delete_file("/lun")


def test_snapshot_files_are_read_only(volume: VolumeBlocks, lun: BlockFile) -> None:
    """A file in a Snapshot copy shows the old bytes, takes no write, and is gone with the copy."""
    lun.write(0, pattern(3))
    file = volume.create_snapshot("s").files["/lun"]
    lun.write(B, b"n" * B)
    assert file.read(0, 3 * B) == pattern(3)
    for work in (lambda: file.write(0, b"x"), lambda: file.unmap(0, B), lambda: file.resize(B)):
        with pytest.raises(ReadOnlyDevice):
            work()
    volume.delete_snapshot("s")
    with pytest.raises(DeviceGone):
        file.read(0, B)


def test_names_are_unique(bench: Bench, volume: VolumeBlocks, lun: BlockFile) -> None:
    """Whatever exists is not made again, and not overwritten by a clone that was not asked to."""
    volume.create_snapshot("s")
    for work in (
        lambda: volume.create_file("/lun", B, reserved=False),
        lambda: volume.clone_file("/lun", "/lun"),
        lambda: volume.create_snapshot("s"),
        lambda: bench.store.create_volume("v", aggregate="aggr", size=MIB, guarantee=False),
        lambda: bench.store.clone_volume("v", parent="v", snapshot="s"),
        lambda: bench.store.create_aggregate("aggr", MIB),
    ):
        with pytest.raises(NameInUse):
            work()
    for missing in (
        lambda: volume.clone_file("/none", "/x"),
        lambda: volume.clone_file("/lun", "/x", snapshot="none"),
        lambda: volume.restore_snapshot("none"),
        lambda: bench.store.volume("none"),
    ):
        with pytest.raises(KeyError):
            missing()


def test_restoring_one_file_keeps_its_object(volume: VolumeBlocks, lun: BlockFile) -> None:
    """Single-file SnapRestore changes the bytes and the size behind the same object; newer Snapshot copies stay."""
    lun.write(0, pattern(20))
    volume.create_snapshot("old")
    lun.write(0, b"n" * 20 * B)
    lun.resize(20 * MIB)
    volume.create_snapshot("new")
    assert volume.clone_file("/lun", "/lun", snapshot="old", overwrite=True) is lun
    assert (lun.size, lun.read(0, 20 * B)) == (10 * MIB + 512, pattern(20))
    lun.write(0, b"m" * B)
    assert volume.snapshots["old"].files["/lun"].read(0, B) == pattern(1)
    assert list(volume.snapshots) == ["old", "new"]


def test_restoring_a_volume_drops_newer_copies(bench: Bench, volume: VolumeBlocks, lun: BlockFile) -> None:
    """Volume SnapRestore brings every file back as it was; later files and Snapshot copies are gone."""
    lun.write(0, pattern(20))
    volume.create_file("/gone", MIB, reserved=False).write(0, b"g" * B)
    volume.create_snapshot("old")
    volume.delete_file("/gone")
    lun.write(0, b"n" * 20 * B)
    later = volume.create_file("/later", MIB, reserved=False)
    volume.create_snapshot("new")
    volume.restore_snapshot("old")
    assert sorted(volume.files) == ["/gone", "/lun"]
    assert volume.files["/lun"] is lun
    assert lun.read(0, 20 * B) == pattern(20)
    assert volume.files["/gone"].read(0, B) == b"g" * B
    assert list(volume.snapshots) == ["old"]
    with pytest.raises(DeviceGone):
        later.read(0, B)
    bench.state.commit()
    bench.crash()
    assert sorted(bench.store.volume("v").files) == ["/gone", "/lun"]


def test_busy_copies_and_parents_stay(bench: Bench, volume: VolumeBlocks, lun: BlockFile) -> None:
    """A FlexClone volume makes its Snapshot copy busy and its parent undeletable, until it is split or deleted."""
    lun.write(0, pattern(20))
    volume.create_snapshot("older")
    volume.create_snapshot("base")
    clone = bench.store.clone_volume("c", parent="v", snapshot="base")
    assert volume.snapshots["base"].busy
    with pytest.raises(SnapshotBusy):
        volume.delete_snapshot("base")
    with pytest.raises(SnapshotBusy):
        volume.restore_snapshot("older")
    with pytest.raises(VolumeHasClones):
        bench.store.delete_volume("v")
    with pytest.raises(AggregateInUse):
        bench.store.delete_aggregate("aggr")
    clone.create_snapshot("own")
    bench.store.clone_volume("cc", parent="c", snapshot="own")
    with pytest.raises(NotPossible):
        clone.split()
    bench.store.delete_volume("cc")
    clone.split()
    volume.delete_snapshot("base")
    bench.store.delete_volume("v")
    assert clone.files["/lun"].read(0, 20 * B) == pattern(20)
    with pytest.raises(DeviceGone):
        lun.read(0, B)


def test_the_order_of_snapshot_copies_survives(bench: Bench, volume: VolumeBlocks) -> None:
    """Snapshot copies keep the order of their creation through renames and remounts."""
    for name in ("c", "a", "b"):
        volume.create_snapshot(name)
    volume.rename_snapshot("a", "z")
    assert list(volume.snapshots) == ["c", "z", "b"]
    bench.state.commit()
    bench.crash()
    assert list(bench.store.volume("v").snapshots) == ["c", "z", "b"]


def test_uncommitted_changes_are_undone_by_a_crash(bench: Bench, volume: VolumeBlocks, lun: BlockFile) -> None:
    """A crash before the commit leaves the files as before a restore, with the writes before it but not after it."""
    lun.write(0, b"a" * B)
    volume.create_snapshot("s")
    bench.state.commit()
    lun.write(0, b"b" * B)
    volume.restore_snapshot("s")
    lun.write(B, b"c" * B)
    volume.create_file("/new", MIB, reserved=False).write(0, b"d" * B)
    bench.crash()
    found = bench.store.volume("v")
    assert sorted(found.files) == ["/lun"]
    assert found.files["/lun"].read(0, 2 * B) == b"b" * B + bytes(B)


def test_checkpoints(bench: Bench, volume: VolumeBlocks, lun: BlockFile) -> None:
    """A checkpoint brings everything back, any number of times and after a restart; it costs no volume any space."""
    lun.write(0, pattern(100))
    bench.state.checkpoint("fresh")
    used = bench.store.aggregate("aggr").used
    for number in range(3):
        volume = bench.store.volume("v")
        found = volume.files["/lun"]
        assert found.read(0, 100 * B) == pattern(100)
        found.write(0, pattern(100, seed=number + 1))
        assert volume.usage.used == 100 * B
        volume.create_snapshot("later")
        bench.store.clone_volume("c", parent="v", snapshot="later")
        bench.state.checkpoint("other")
        if number == 1:
            bench.crash()
        bench.state.restore("fresh")
        assert bench.store.check() == []
        with pytest.raises(DeviceGone):
            found.read(0, B)
        assert (list(bench.store.volumes), bench.store.aggregate("aggr").used) == (["v"], used)
    bench.state.restore("other")
    assert bench.store.volume("c").files["/lun"].read(0, 100 * B) == pattern(100, seed=3)


def test_a_checkpoint_does_not_hold_space(bench: Bench, volume: VolumeBlocks, lun: BlockFile) -> None:
    """What a checkpoint alone keeps is free as far as the volume knows, and free in the pool when it is replaced."""
    lun.write(0, b"x" * 9 * MIB)
    bench.state.checkpoint("big")
    volume.delete_file("/lun")
    bench.state.commit()
    assert volume.usage.used == 0
    bench.state.checkpoint("big")
    pool = bench.folder / "blocks" / "pool"
    size = pool.stat().st_size
    for number in range(8):
        volume.create_file(f"/{number}", 10 * MIB, reserved=False).write(0, b"y" * MIB)
    assert pool.stat().st_size == size


def test_the_store_may_close_before_the_state(bench: Bench, lun: BlockFile) -> None:
    """Closing twice is harmless, and so is a commit of the state afterwards; what was committed before is there."""
    lun.write(0, b"x" * B)
    bench.state.commit()
    bench.store.close()
    bench.store.close()
    bench.state.close()
    bench.mount()
    assert bench.store.volume("v").files["/lun"].read(0, B) == b"x" * B


def test_a_deleted_volume_takes_nothing(bench: Bench, volume: VolumeBlocks, lun: BlockFile) -> None:
    """The objects of a deleted volume and of its Snapshot copies refuse everything and leave no rows behind."""
    snapshot = volume.create_snapshot("s")
    bench.state.commit()
    bench.store.delete_volume("v")
    for work in (
        lambda: lun.write(0, b"x" * B),
        lambda: snapshot.files["/lun"].read(0, B),
        lambda: volume.create_file("/new", B, reserved=False),
        lambda: volume.create_snapshot("t"),
        lambda: volume.resize(600 * MIB),
    ):
        with pytest.raises(DeviceGone):
            work()
    bench.state.commit()
    bench.crash()
    assert list(bench.store.volumes) == []


def test_a_kill_between_the_transaction_and_the_end_of_the_log(
    bench: Bench, volume: VolumeBlocks, lun: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log whose writes are in the consistency point already is not replayed over it."""
    bench.state.commit()
    lun.write(0, pattern(5))
    monkeypatch.setattr(bench.store, "committed", lambda: None)
    bench.state.commit()
    bench.crash()
    assert bench.store.check() == []
    assert bench.store.volume("v").files["/lun"].read(0, 5 * B) == pattern(5)
    bench.store.volume("v").files["/lun"].write(0, pattern(3, seed=1))
    bench.crash()
    assert bench.store.volume("v").files["/lun"].read(0, 5 * B) == pattern(3, seed=1) + pattern(5)[3 * B :]
