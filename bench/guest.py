"""How fast a guest's databases are, in ratios to SQLite on a plain file of the same disk: `python bench/guest.py`.

A transaction of the guest passes its cache, its exFAT, a fixed VHD, the host's exFAT, a LUN and the block store, and
is safe against a killed process when it returns. The plain file is SQLite with synchronous=FULL, which asks the disk
to be safe against a loss of power: the ratio tells what a user notices, not which code is better.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from uuid import UUID

import apsw

from labenv.devices import BlockDevice
from labenv.guest import ledger
from labenv.guest.engine import Journal
from labenv.guest.golden import install_golden, prepare_disk
from labenv.guest.guest import Guest
from labenv.ontap.blocks.store import BlockStore
from labenv.state import State
from labenv.windows.disks.exfat import FileSystem
from labenv.windows.disks.gpt import PartitionDevice, read_gpt
from labenv.windows.disks.virtualdisk import VhdFormat, VhdType, create_vhd, open_vhd

MIB = 1 << 20
GIB = 1 << 30
ROWS = 20_000


def now() -> datetime:
    """A fixed lab time."""
    return datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


class Counter:
    """Counts what reaches the LUN."""

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self.size = device.size
        self.writes = 0
        self.bytes = 0
        self.read = device.read
        self.unmap = device.unmap
        self.flush = device.flush

    def write(self, offset: int, data: bytes) -> None:
        """Pass a write on."""
        self.writes += 1
        self.bytes += len(data)
        self._device.write(offset, data)


def line(what: str, value: str, wanted: str = "") -> None:
    """One row of the result."""
    print(f"{what:<66}{value:>16}  {wanted}")


def best(times: int, work: Callable[[], None]) -> float:
    """Seconds of the quickest of several runs."""
    found = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        work()
        found = min(found, time.perf_counter() - start)
    return found


def build(lun: BlockDevice, journal: Journal, folder: str) -> Guest:
    """A guest on fixed VHDs on the LUN: data and log on disks of their own."""
    gpt = read_gpt(lun)
    if gpt is None:
        prepare_disk(lun, label="CSV", random=Random(1))
        gpt = read_gpt(lun)
        assert gpt is not None
    partition = gpt.partitions[-1]
    host = FileSystem(PartitionDevice(lun, partition.offset, partition.length), now=now)
    host.mkdir(f"\\{folder}")
    disks = []
    for number in range(3):
        file = host.create(f"\\{folder}\\disk{number}.vhd")
        create_vhd(file, format=VhdFormat.VHD, type=VhdType.FIXED, size=GIB, identifier=UUID(int=number + 1), now=now())
        disks.append(open_vhd(file))
    install_golden(disks, now=now, seed=1, journal=journal, databases={"bb1": ("E:\\bb1.mdf", "F:\\bb1.ldf")})
    guest = Guest(vm_id=UUID(int=9), disks=disks, now=now, seed=1)
    guest.boot()
    return guest


def native(path: Path, journal: Journal) -> apsw.Connection:
    """The same ledger in a plain file."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", journal.value)
    connection.pragma("synchronous", "full")
    ledger.create(connection)
    return connection


def main() -> None:
    """Measure every journal mode in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer transactions; rougher numbers")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: the system's temporary folder)")
    options = parser.parse_args()
    count = 300 if options.quick else 2000
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        state = State(folder / "state.db")
        store = BlockStore(folder / "blocks", state, capacity=64 * GIB)
        store.create_aggregate("aggr", 64 * GIB)
        volume = store.create_volume("csv", aggregate="aggr", size=60 * GIB, guarantee=False)
        lun = Counter(volume.create_file("/lun", 50 * GIB, reserved=False))
        for journal in Journal:
            guest = build(lun, journal, journal.name)
            plain = native(folder / f"{journal.name}.db", journal)

            def ours(guest: Guest = guest) -> None:
                for _ in range(count):
                    guest.insert("bb1", 1)

            def theirs(plain: apsw.Connection = plain) -> None:
                for _ in range(count):
                    with plain:
                        ledger.insert(plain, 1)

            writes, size = lun.writes, lun.bytes
            seconds = best(3, ours)
            per = 3 * count
            wanted = "wanted at least 1" if journal is Journal.PERSIST else ""
            line(f"{journal.name}: transactions of one row / native SQLite", f"{best(3, theirs) / seconds:.2f}", wanted)
            line("   (transactions per second)", f"{count / seconds:.0f}")
            line(
                "   (writes to the LUN and bytes, for each transaction)",
                f"{(lun.writes - writes) / per:.1f} {(lun.bytes - size) / per:.0f}",
            )
            bulk = best(1, lambda guest=guest: guest.insert("bb1", ROWS))  # type: ignore[misc]
            line(f"   one transaction of {ROWS} rows, thousands of rows per second", f"{ROWS / bulk / 1000:.0f}")
            start = time.perf_counter()
            sound = guest.checkdb("bb1").ok
            line(f"   check of all rows, ms (sound: {sound})", f"{(time.perf_counter() - start) * 1e3:.0f}")
            guest.shutdown()
            plain.close()
            state.commit()
        store.close()
        state.db.close()


if __name__ == "__main__":
    main()
