"""How fast the block store is, in ratios to plain files of the same run: `python bench/blocks.py [--quick]`."""

from __future__ import annotations

import argparse
import mmap
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labenv.ontap.blocks.store import BlockStore
from labenv.ontap.blocks.volume import VolumeBlocks
from labenv.state import State

B = 4096
MIB = 1 << 20
GIB = 1 << 30


def best(times: int, work: Callable[[], None]) -> float:
    """Seconds of the quickest of several runs."""
    found = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        work()
        found = min(found, time.perf_counter() - start)
    return found


def line(what: str, value: str, wanted: str = "") -> None:
    """One row of the result."""
    print(f"{what:<66}{value:>16}  {wanted}")


def side_by_side(places: list[int], works: dict[str, Callable[[list[int]], None]]) -> dict[str, float]:
    """Seconds for each place, of several works that take turns, so that a busy machine is busy for all of them.

    The lower quartile of many turns; the caches are warm.
    """
    turns: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(2):
        for at in range(0, len(places), 2000):
            part = places[at : at + 2000]
            for name, work in works.items():
                start = time.perf_counter()
                work(part)
                turns[name].append((time.perf_counter() - start) / len(part))
    return {name: sorted(found)[len(found) // 4] for name, found in turns.items()}


def small_writes(folder: Path, volume: VolumeBlocks, span: int, count: int) -> None:
    """4 KiB writes and reads at random places of a file of ``span`` bytes."""
    chance = random.Random(1)
    places = [chance.randrange(span // B) * B for _ in range(count)]
    data = chance.randbytes(B)
    lun = volume.create_file("/small", span, reserved=False)
    # a file for each: what one has just written would be in the processor's cache for the other
    with (folder / "plain").open("w+b", buffering=0) as file, (folder / "mapped").open("w+b", buffering=0) as other:
        number = file.fileno()
        for at in range(0, span, MIB):
            os.pwrite(number, bytes(MIB), at)
            other.write(bytes(MIB))
            lun.write(at, bytes(MIB))
        with mmap.mmap(other.fileno(), span) as mapping:

            def pwrite(part: list[int]) -> None:
                for at in part:
                    os.pwrite(number, data, at)

            def store_to(part: list[int]) -> None:
                for at in part:
                    mapping[at : at + B] = data

            def write(part: list[int]) -> None:
                for at in part:
                    lun.write(at, data)

            def pread(part: list[int]) -> None:
                for at in part:
                    os.pread(number, B, at)

            def load(part: list[int]) -> None:
                for at in part:
                    mapping[at : at + B]

            def read(part: list[int]) -> None:
                for at in part:
                    lun.read(at, B)

            store_to(list(range(0, span, B)))
            write(list(range(0, span, B)))
            writes = side_by_side(places, {"pwrite": pwrite, "mapping": store_to, "ours": write})
            reads = side_by_side(places, {"pread": pread, "mapping": load, "ours": read})
    line(f"4 KiB random writes a second / pwrite, {span // MIB} MiB", ratio(writes, "pwrite"), "wanted 1.0")
    line("4 KiB random writes a second / stores to a mapping", ratio(writes, "mapping"), "wanted 0.3, aim 0.5")
    line("4 KiB random reads a second / pread", ratio(reads, "pread"))
    line("4 KiB random reads a second / loads from a mapping", ratio(reads, "mapping"))
    line("   microseconds of a write: ours, pwrite, mapping", micro(writes, "ours", "pwrite", "mapping"))
    line("   microseconds of a read: ours, pread, mapping", micro(reads, "ours", "pread", "mapping"))


def ratio(seconds: dict[str, float], to: str) -> str:
    """How often ours is done in the time of another."""
    return f"{seconds[to] / seconds['ours']:.2f}"


def micro(seconds: dict[str, float], *names: str) -> str:
    """Microseconds of each."""
    return " ".join(f"{seconds[name] * 1e6:.2f}" for name in names)


def long_writes(folder: Path, volume: VolumeBlocks, span: int) -> None:
    """Writes in order, in pieces of several sizes."""
    path = folder / "plain2"
    path.write_bytes(b"")
    lun = volume.create_file("/long", span, reserved=False)
    for at in range(0, 2 * span, MIB):  # twice: then the pool has all the blocks that rewriting needs
        lun.write(at % span, bytes(MIB))
    for piece in (64 * 1024, MIB):
        data = random.Random(2).randbytes(piece)
        with path.open("r+b", buffering=0) as file:

            def pwrite(number: int = file.fileno(), data: bytes = data, piece: int = piece) -> None:
                for at in range(0, span, piece):
                    os.pwrite(number, data, at)

            plain = best(4, pwrite)

        def store(data: bytes = data, piece: int = piece) -> None:
            for at in range(0, span, piece):
                lun.write(at, data)

        def reads(piece: int = piece) -> None:
            for at in range(0, span, piece):
                lun.read(at, piece)

        line(f"{piece // 1024} KiB writes in order / pwrite", f"{plain / best(4, store):.2f}")
        line(f"{piece // 1024} KiB reads in order, GB/s", f"{span / best(3, reads) / 1e9:.2f}")


def constant_time(store: BlockStore, state: State) -> None:
    """Snapshot copies and clones of LUNs of very different sizes."""
    sizes = {"10 MB": 10 * MIB, "1 GB": GIB, "100 GB": 100 * GIB}
    volumes = {}
    for label, size in sizes.items():
        volume = volumes[label] = store.create_volume(label, aggregate="aggr", size=1 << 40, guarantee=False)
        lun = volume.create_file("/lun", size, reserved=False)
        chance = random.Random(3)
        for _ in range(20000):  # in use all over
            lun.write(chance.randrange(size // B) * B, b"x" * B)
    state.commit()
    snapshot: dict[str, float] = dict.fromkeys(sizes, 1e9)
    flexclone, lun_clone, restore = dict(snapshot), dict(snapshot), dict(snapshot)
    for number in range(200):
        for label, volume in volumes.items():
            start = time.perf_counter()
            volume.create_snapshot(f"s{number}")
            one = time.perf_counter()
            store.clone_volume(f"{label}.{number}", parent=label, snapshot=f"s{number}")
            two = time.perf_counter()
            volume.clone_file("/lun", f"/clone{number}")
            three = time.perf_counter()
            volume.clone_file("/lun", "/lun", snapshot=f"s{number}", overwrite=True)
            four = time.perf_counter()
            for table, seconds in (
                (snapshot, one - start),
                (flexclone, two - one),
                (lun_clone, three - two),
                (restore, four - three),
            ):
                table[label] = min(table[label], seconds)
            volume.delete_file(f"/clone{number}")
            store.delete_volume(f"{label}.{number}")
            volume.delete_snapshot(f"s{number}")
        state.commit()
    for what, table in (
        ("Snapshot copy", snapshot),
        ("FlexClone", flexclone),
        ("LUN clone", lun_clone),
        ("single-file SnapRestore", restore),
    ):
        times = table["100 GB"] / table["10 MB"]
        line(f"{what} of 100 GB / of 10 MB ({table['100 GB'] * 1e6:.0f} us)", f"{times:.2f}", "wanted at most 1.5")


def changes(volume: VolumeBlocks, state: State, span: int) -> None:
    """What costs more with more changes."""
    lun = volume.create_file("/changes", span, reserved=False)
    chance = random.Random(4)
    twice = [chance.randbytes(MIB) for _ in range(16)]
    for at in range(0, span, MIB):  # every other MiB exists many times
        lun.write(at, chance.randbytes(MIB) if at & MIB else twice[chance.randrange(16)])
    state.commit()
    start = time.perf_counter()
    saved = volume.deduplicate()
    took = time.perf_counter() - start
    line(f"deduplication of {span // MIB} MiB, GB/s ({saved // MIB} MiB saved)", f"{span / took / 1e9:.2f}")
    start = time.perf_counter()
    volume.deduplicate()
    line("   the same with nothing to do", f"{span / (time.perf_counter() - start) / 1e9:.2f}")
    state.commit()
    volume.create_snapshot("changes")
    state.commit()
    places = [chance.randrange(span // B) * B for _ in range(50000)]
    data = chance.randbytes(B)
    start = time.perf_counter()
    for at in places:
        lun.write(at, data)
    line("4 KiB random writes after a Snapshot copy, thousands per second", f"{50 / (time.perf_counter() - start):.0f}")
    start = time.perf_counter()
    state.commit()
    line("consistency point after them, ms", f"{(time.perf_counter() - start) * 1e3:.1f}")
    start = time.perf_counter()
    volume.delete_snapshot("changes")
    line("deletion of the Snapshot copy, ms", f"{(time.perf_counter() - start) * 1e3:.1f}")
    state.commit()


def main() -> None:
    """Measure everything in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller files; rougher numbers")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: in memory, if the system can)")
    options = parser.parse_args()
    memory = Path("/dev/shm")  # noqa: S108 - a disk that writes back at the same time would be measured, too
    home = options.folder or (memory if memory.is_dir() else None)
    scale = 4 if options.quick else 1
    with tempfile.TemporaryDirectory(dir=home) as name:
        folder = Path(name)
        state = State(folder / "state.db")
        store = BlockStore(folder / "blocks", state, capacity=1 << 43)
        store.create_aggregate("aggr", 1 << 43)
        volume = store.create_volume("vol", aggregate="aggr", size=1 << 42, guarantee=False)
        small_writes(folder, volume, GIB // scale, 200_000 // scale)
        long_writes(folder, volume, GIB // 2 // scale)
        constant_time(store, state)
        other = store.create_volume("other", aggregate="aggr", size=1 << 40, guarantee=False)
        changes(other, state, GIB // scale)
        faults = store.check()
        line("faults found by the check", str(len(faults)), "wanted 0")
        store.close()
        state.db.close()


if __name__ == "__main__":
    main()
