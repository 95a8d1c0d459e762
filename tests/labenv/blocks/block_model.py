"""A plain model of the block store (dictionaries of blocks), and a random walk that does the same to both."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

from labenv.devices import OutOfSpace
from labenv.ontap.blocks.errors import SnapshotBusy
from labenv.ontap.blocks.staging import Steps
from labenv.ontap.blocks.store import BlockStore
from labenv.state import State

T = TypeVar("T")
B = 4096
SIZES = (5 * B, 700 * B + 100, 3 << 20, 40 << 20, 3 << 30)


@dataclass
class ModelFile:
    """A file as its size and the blocks that are not holes."""

    size: int
    blocks: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> ModelFile:
        return ModelFile(self.size, dict(self.blocks))

    def read(self, offset: int, length: int) -> bytes:
        first, end = offset // B, -(-(offset + length) // B)
        whole = b"".join(self.blocks.get(b, bytes(B)) for b in range(first, end))
        return whole[offset - first * B : offset - first * B + length]

    def write(self, offset: int, data: bytes) -> None:
        first, end = offset // B, -(-(offset + len(data)) // B)
        whole = bytearray(self.read(first * B, (end - first) * B))
        whole[offset - first * B : offset - first * B + len(data)] = data
        for block in range(first, end):
            self.blocks[block] = bytes(whole[(block - first) * B : (block - first + 1) * B])

    def unmap(self, offset: int, length: int) -> None:
        end = offset + length
        for block in [b for b in self.blocks if b * B < end and (b + 1) * B > offset]:
            low, high = max(offset, block * B), min(end, (block + 1) * B)
            if (low == block * B and high == (block + 1) * B) or (low == block * B and high == self.size):
                del self.blocks[block]
            else:
                self.write(low, bytes(high - low))

    def resize(self, size: int) -> None:
        if size < self.size:
            for block in [b for b in self.blocks if (b + 1) * B > size]:
                if block * B >= size:
                    del self.blocks[block]
                else:
                    self.blocks[block] = self.blocks[block][: size - block * B].ljust(B, b"\0")
        self.size = size


Files = dict[str, ModelFile]


def copy_files(files: Files) -> Files:
    return {path: file.copy() for path, file in files.items()}


@dataclass
class ModelVolume:
    """A volume as its files and those of its Snapshot copies."""

    files: Files = field(default_factory=dict)
    snapshots: dict[str, Files] = field(default_factory=dict)
    parent: tuple[str, str] | None = None

    def copy(self) -> ModelVolume:
        return ModelVolume(copy_files(self.files), {n: copy_files(f) for n, f in self.snapshots.items()}, self.parent)


Volumes = dict[str, ModelVolume]


class Walk:
    """Random operations on a store in a folder and on the model."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.model: Volumes = {}
        self.kept: dict[str, Volumes] = {}
        self.names = 0
        self.alone = False
        self.open()
        self.store.create_aggregate("aggr1", 1 << 40)
        for key in ("vol1", "vol2"):
            self.store.create_volume(key, aggregate="aggr1", size=1 << 38, guarantee=False)
            self.model[key] = ModelVolume()
        self.state.commit()

    def open(self) -> None:
        self.state = State(self.folder / "state.db")
        self.state.table("test", str)["a"] = "a checkpoint needs a record"
        self.store = BlockStore(self.folder / "blocks", self.state, capacity=1 << 40, log_records=5000, segment=2048)

    def close(self) -> None:
        self.store.close()
        self.state.db.close()

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def step(self) -> None:
        operations: list[tuple[int, Callable[[], bool]]] = [
            (60, self.write),
            (10, self.unmap),
            (4, self.resize),
            (5, self.create_file),
            (2, self.delete_file),
            (2, self.rename_file),
            (6, self.clone_file),
            (6, self.create_snapshot),
            (4, self.delete_snapshot),
            (1, self.rename_snapshot),
            (2, self.restore_snapshot),
            (2, self.clone_volume),
            (1, self.delete_volume),
            (1, self.split),
            (1, self.deduplicate),
            (1, self.checkpoint),
            (1, self.restore),
            (2, self.remount),
            (3, self.lost_change),
            (5, self.replicate),
        ]
        operation = self.random.choices([o for _, o in operations], [w for w, _ in operations])[0]
        if operation() and self.random.random() < 0.7:
            self.state.commit()

    # what is chosen

    def volume(self) -> str:
        return self.random.choice(list(self.model))

    def file(self, volume: str) -> str | None:
        return self.random.choice(list(self.model[volume].files) or [None])

    def snapshot(self, volume: str) -> str | None:
        return self.random.choice(list(self.model[volume].snapshots) or [None])

    def range(self, size: int, most: int) -> tuple[int, int]:
        shape = self.random.random()
        spot = self.random.choice([0, 0, size // 2, max(0, size - 4 * most)])
        offset = min(size - 1, spot + self.random.randrange(max(1, min(size, 3 * most))))
        if shape < 0.6:
            offset = offset // B * B
            return offset, min(B * self.random.choice([1, 1, 1, 3, 20, 600]), size - offset)
        return offset, min(self.random.randrange(1, most), size - offset)

    # operations: True if the change is one that waits for a commit

    def write(self) -> bool:
        volume = self.volume()
        for _ in range(self.random.choice([1, 1, 10])):
            path = self.file(volume)
            if path is None:
                return False
            model = self.model[volume].files[path]
            offset, length = self.range(model.size, 50000)
            pattern = self.random.choice([self.random.randbytes(64), b"a" * 64, b"\0" * 64])
            data = (pattern * (length // 64 + 1))[:length]
            self.store.volume(volume).files[path].write(offset, data)
            model.write(offset, data)
        return False

    def unmap(self) -> bool:
        volume = self.volume()
        path = self.file(volume)
        if path is not None:
            model = self.model[volume].files[path]
            offset, length = self.range(model.size, self.random.choice([9000, 5 << 20, 2 << 30]))
            self.store.volume(volume).files[path].unmap(offset, length)
            model.unmap(offset, length)
        return False

    def resize(self) -> bool:
        volume = self.volume()
        path = self.file(volume)
        if path is not None:
            model = self.model[volume].files[path]
            size = self.random.choice([*SIZES, model.size - B, model.size - 1, model.size + 1, model.size // 2])
            if size > 0:
                self.store.volume(volume).files[path].resize(size)
                model.resize(size)
        return True

    def create_file(self) -> bool:
        volume, path, size = self.volume(), self.name("/lun"), self.random.choice(SIZES)
        if len(self.model[volume].files) < 5:
            self.store.volume(volume).create_file(path, size, reserved=self.random.random() < 0.3)
            self.model[volume].files[path] = ModelFile(size)
        return True

    def delete_file(self) -> bool:
        volume = self.volume()
        path = self.file(volume)
        if path is not None:
            self.store.volume(volume).delete_file(path)
            del self.model[volume].files[path]
        return True

    def rename_file(self) -> bool:
        volume = self.volume()
        path = self.file(volume)
        if path is not None:
            new = self.name("/renamed")
            self.store.volume(volume).rename_file(path, new)
            self.model[volume].files[new] = self.model[volume].files.pop(path)
        return True

    def clone_file(self) -> bool:
        volume = self.volume()
        model = self.model[volume]
        snapshot = self.snapshot(volume) if self.random.random() < 0.6 else None
        files = model.files if snapshot is None else model.snapshots[snapshot]
        if not files:
            return False
        source = self.random.choice(list(files))
        destination = self.file(volume) if self.random.random() < 0.5 else self.name("/clone")
        if destination is None or (len(model.files) >= 6 and destination not in model.files):
            return False
        before = self.store.volume(volume).files.get(destination)
        after = self.store.volume(volume).clone_file(source, destination, snapshot=snapshot, overwrite=True)
        assert before is None or before is after
        model.files[destination] = files[source].copy()
        return True

    def create_snapshot(self) -> bool:
        volume, name = self.volume(), self.name("snap")
        self.store.volume(volume).create_snapshot(name)
        self.model[volume].snapshots[name] = copy_files(self.model[volume].files)
        return True

    def busy(self, volume: str, snapshot: str) -> bool:
        return any(m.parent == (volume, snapshot) for m in self.model.values())

    def delete_snapshot(self) -> bool:
        volume = self.volume()
        name = self.snapshot(volume)
        if name is not None:
            try:
                self.store.volume(volume).delete_snapshot(name)
            except SnapshotBusy:
                assert self.busy(volume, name)
                return False
            assert not self.busy(volume, name)
            del self.model[volume].snapshots[name]
        return True

    def rename_snapshot(self) -> bool:
        volume = self.volume()
        name = self.snapshot(volume)
        if name is not None and not self.busy(volume, name):
            new = self.name("was")
            self.store.volume(volume).rename_snapshot(name, new)
            snapshots = self.model[volume].snapshots
            self.model[volume].snapshots = {new if n == name else n: f for n, f in snapshots.items()}
        return True

    def restore_snapshot(self) -> bool:
        volume = self.volume()
        name = self.snapshot(volume)
        if name is None:
            return False
        model = self.model[volume]
        names = list(model.snapshots)
        newer = names[names.index(name) + 1 :]
        try:
            self.store.volume(volume).restore_snapshot(name)
        except SnapshotBusy:
            assert any(self.busy(volume, n) for n in newer)
            return False
        for other in newer:
            del model.snapshots[other]
        model.files = copy_files(model.snapshots[name])
        return True

    def clone_volume(self) -> bool:
        parent = self.volume()
        snapshot = self.snapshot(parent)
        if snapshot is not None and len(self.model) < 6:
            key = self.name("clone")
            self.store.clone_volume(key, parent=parent, snapshot=snapshot)
            files = copy_files(self.model[parent].snapshots[snapshot])
            self.model[key] = ModelVolume(files, parent=(parent, snapshot))
        return True

    def delete_volume(self) -> bool:
        key = self.volume()
        if self.model[key].parent and not any(m.parent and m.parent[0] == key for m in self.model.values()):
            self.store.delete_volume(key)
            del self.model[key]
        return True

    @property
    def writes(self) -> list[Callable[[], bool]]:
        """What may happen to any volume while another one is worked on in steps."""
        return [self.write, self.write, self.unmap, self.create_file, self.create_snapshot]

    def interleave(self, steps: Steps[T], meanwhile: Sequence[Callable[[], bool]]) -> T:
        """Take steps with other operations between them, and some commits."""
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                value: T = stop.value
                return value
            if self.alone:
                continue
            for _ in range(self.random.randrange(3)):
                self.random.choice(meanwhile)()
            if self.random.random() < 0.1:
                self.state.commit()
            if self.random.random() < 0.05:
                assert self.store.check() == []

    def split(self) -> bool:
        key = self.volume()
        if self.model[key].parent and not any(m.parent and m.parent[0] == key for m in self.model.values()):
            self.interleave(
                self.store.volume(key).split_steps(), [*self.writes, self.delete_file, self.restore_snapshot]
            )
            self.model[key].parent = None
        return True

    def deduplicate(self) -> bool:
        volume = self.store.volume(self.volume())
        if self.random.random() < 0.5:
            changes = [self.resize, self.delete_file, self.rename_file, self.clone_file, self.delete_snapshot]
            self.interleave(volume.deduplicate_steps(), [*self.writes, *changes, self.restore_snapshot])
            return True
        before = volume.usage
        saved = volume.deduplicate()
        assert saved == (before.used - before.snapshot_used) - (volume.usage.used - volume.usage.snapshot_used) or (
            volume.usage.snapshot_used >= before.snapshot_used
        )
        return True

    def replicate(self) -> bool:
        source, destination = self.volume(), self.volume()
        if source == destination:
            return False
        name = self.snapshot(source)
        if name is None or name in self.model[destination].snapshots:
            self.store.volume(source).create_snapshot(name := self.name("snap"))
            self.model[source].snapshots[name] = copy_files(self.model[source].files)
        common = [n for n in self.model[source].snapshots if n in self.model[destination].snapshots]
        base = self.random.choice([*common, None])
        staged = None
        if self.random.random() < 0.7:
            staged = self.interleave(self.store.stage(source, name, destination=destination, base=base), self.writes)
        self.store.replicate(source, name, destination=destination, base=base, staged=staged)
        if staged is not None:
            staged.give_back()
        self.model[destination].files = copy_files(self.model[source].snapshots[name])
        self.model[destination].snapshots[name] = copy_files(self.model[source].snapshots[name])
        return True

    def copy(self) -> Volumes:
        return {key: volume.copy() for key, volume in self.model.items()}

    def checkpoint(self) -> bool:
        name = self.random.choice("xy")
        self.state.checkpoint(name)
        self.kept[name] = self.copy()
        return False

    def restore(self) -> bool:
        if self.kept:
            name = self.random.choice(sorted(self.kept))
            self.state.restore(name)
            self.model = {key: volume.copy() for key, volume in self.kept[name].items()}
        return False

    def remount(self) -> bool:
        """Commit, write more, and go away without another commit: everything must still be there."""
        self.state.commit()
        for _ in range(self.random.randrange(20)):
            self.write()
            self.unmap()
        self.close()
        self.open()
        return False

    def lost_change(self) -> bool:
        """A change that was not committed, then a crash: the state before it comes back."""
        self.state.commit()
        before = self.copy()
        changes: list[Callable[[], bool]] = [
            self.resize,
            self.create_file,
            self.delete_file,
            self.clone_file,
            self.create_snapshot,
            self.delete_snapshot,
            self.restore_snapshot,
            self.clone_volume,
            self.split,
            self.deduplicate,
            self.replicate,
        ]
        self.alone = True  # other operations could commit
        for _ in range(self.random.choice([1, 3])):
            self.random.choice(changes)()
        self.alone = False
        self.close()
        self.model = before
        self.open()
        return False

    # comparison

    def compare(self) -> None:
        assert self.store.check() == []
        assert sorted(self.store.volumes) == sorted(self.model)
        for key, model in self.model.items():
            volume = self.store.volume(key)
            assert sorted(volume.files) == sorted(model.files)
            assert list(volume.snapshots) == list(model.snapshots)
            for path, file in model.files.items():
                self.compare_file(volume.files[path], file)
            for name, files in model.snapshots.items():
                assert sorted(volume.snapshots[name].files) == sorted(files)
                for path, file in files.items():
                    self.compare_file(volume.snapshots[name].files[path], file)

    def compare_file(self, file: object, model: ModelFile) -> None:
        assert file.size == model.size
        assert file.used == len(model.blocks) * B
        runs: list[list[int]] = []
        for block in sorted(model.blocks):
            if runs and runs[-1][1] == block:
                runs[-1][1] = block + 1
            else:
                runs.append([block, block + 1])
        for first, end in runs:
            # with the hole before and after
            low, high = max(0, (first - 1) * B), min(model.size, (end + 1) * B)
            assert file.read(low, high - low) == model.read(low, high - low)


def run(folder: Path, seed: int, steps: int, every: int) -> None:
    """Walk, comparing now and then and at the end."""
    walk = Walk(folder, seed)
    small = ExitStack()  # many steps, although the files are small
    for name, value in (("staging.STEP", 40), ("dedup.STEP", 40), ("dedup._LEAVES", 1), ("dedup._GROUP", 50)):
        small.enter_context(patch(f"labenv.ontap.blocks.{name}", value))
    try:
        for number in range(steps):
            try:
                walk.step()
            except OutOfSpace as error:  # there is plenty in this model
                raise AssertionError("out of space") from error
            if number % every == 0:
                walk.compare()
        walk.compare()
    finally:
        small.close()
        walk.close()
