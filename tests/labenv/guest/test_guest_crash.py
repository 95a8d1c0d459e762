"""What a loss of power takes, and what it cannot take."""

from __future__ import annotations

import gc
from collections.abc import Callable
from random import Random

import pytest

from labenv.devices import DeviceGone
from labenv.guest.engine import Journal
from labenv.guest.errors import GuestFrozen, GuestNotRunning

from . import rack

Image = Callable[[Journal], list[rack.RackDisk]]


def test_crash_and_application_consistent_copies_of_one_moment(disks: list[rack.RackDisk]) -> None:
    """A transaction is open, a note unflushed: both copies have 100 sound rows, only the frozen one has the note."""
    guest = rack.start(disks)
    guest.insert("bb1", 100)
    guest.begin("bb1", 600)
    guest.write_file("C:\\notes.txt", b"remember the tapes")
    crash = rack.copies(disks)
    guest.freeze()
    consistent = rack.copies(disks)
    guest.thaw()
    guest.power_off()
    for image, note in ((crash, bytes(18)), (consistent, b"remember the tapes")):
        restored = rack.start(image)
        assert restored.unexpected_shutdown
        result = restored.checkdb("bb1")
        assert (result.ok, result.rows) == (True, 100)
        assert restored.read_file("C:\\notes.txt") == note
        restored.shutdown()


def test_a_clean_shutdown_keeps_everything(disks: list[rack.RackDisk]) -> None:
    """An unflushed note survives a shutdown, and the next boot knows that it was clean."""
    guest = rack.start(disks)
    guest.write_file("E:\\notes.txt", b"note")
    assert guest.dirty_bytes > 0
    guest.shutdown()
    guest = rack.start(disks)
    assert guest.read_file("E:\\notes.txt") == b"note"
    assert not guest.unexpected_shutdown
    guest.shutdown()


@pytest.mark.parametrize("end", ["power_off", "shutdown", "drop"])
def test_nothing_is_written_after_the_end(disks: list[rack.RackDisk], end: str) -> None:
    """After a power cut, a shutdown, or when a guest is simply forgotten, no byte reaches the disks any more."""
    guest = rack.start(disks)
    guest.insert("bb1", 50)
    guest.begin("bb1", 800)
    guest.write_file("C:\\notes.txt", b"lost")
    volume = guest.volumes["E"]
    before = sum(disk.mains.writes for disk in disks)
    if end != "drop":
        getattr(guest, end)()
        assert not guest.running
        with pytest.raises(GuestNotRunning):
            guest.insert("bb1", 1)
        guest.power_off()  # repeating it is harmless
        if end == "shutdown":
            before = sum(disk.mains.writes for disk in disks)
        with pytest.raises(DeviceGone):
            volume.mkdir("\\late")
    del guest, volume
    gc.collect()
    assert sum(disk.mains.writes for disk in disks) == before
    again = rack.start(disks)
    assert again.checkdb("bb1").rows == 50
    again.shutdown()


def test_frozen_writers_wait_and_readers_do_not(persist_disks: list[rack.RackDisk]) -> None:
    """Between freeze and thaw nothing is dirty, writes are refused, and reads work."""
    guest = rack.start(persist_disks)
    guest.write_file("C:\\notes.txt", b"note")
    guest.freeze()
    assert guest.frozen
    assert guest.dirty_bytes == 0
    assert guest.read_file("C:\\notes.txt") == b"note"
    for write in (
        lambda: guest.insert("bb1", 1),
        lambda: guest.write_file("C:\\x", b""),
        lambda: guest.begin("bb1", 1),
    ):
        with pytest.raises(GuestFrozen, match="after the thaw"):
            write()
    writes = sum(disk.mains.writes for disk in persist_disks)
    assert guest.count("bb1") == 0
    assert sum(disk.mains.writes for disk in persist_disks) == writes
    guest.thaw()
    assert guest.insert("bb1", 1) == 1
    guest.shutdown()


def crash_during_work(disks: list[rack.RackDisk], random: Random, *, cuts: int) -> None:
    """Cut the power at random writes of a random workload, boot again, and compare with what was acknowledged."""
    time = rack.LabTime()
    model = dict.fromkeys(rack.NAMES, 0)
    notes: dict[str, bytes] = {}
    for _ in range(cuts):
        mains = rack.Mains(fails_at=random.randrange(1, 150))
        disks = rack.copies(disks, mains)
        attempted: tuple[str, int] = ("", 0)
        guest = rack.Guest(vm_id=rack.VM_ID, disks=disks, now=time, seed=1)
        try:
            guest.boot()
            while True:
                time.pass_(random.choice((0, 0, 1, 20)))
                if random.random() < 0.2:
                    path = f"E:\\note{random.randrange(3)}.txt"
                    notes.pop(path, None)
                    data = random.randbytes(random.randrange(1, 20_000))
                    guest.write_file(path, data, flush=True)
                    notes[path] = data
                else:
                    attempted = (random.choice(rack.NAMES), random.choice((1, 1, 7, 60)))
                    model[attempted[0]] = guest.insert(*attempted)
                    attempted = ("", 0)
        except DeviceGone:
            guest.power_off()
        disks = rack.copies(disks)
        guest = rack.start(disks, time=time)
        for name in rack.NAMES:
            result = guest.checkdb(name)
            assert result.ok, (name, result)
            allowed = {model[name]} | ({model[name] + attempted[1]} if attempted[0] == name else set())
            assert result.rows in allowed, (name, result.rows, allowed)
            model[name] = result.rows
        for path, data in notes.items():
            assert guest.read_file(path) == data, path
        if random.random() < 0.5:
            guest.shutdown()
        else:
            guest.power_off()


def test_power_cuts_lose_no_committed_transaction(disks: list[rack.RackDisk]) -> None:
    """Whatever write the power fails at, acknowledged rows and flushed files are there after the next boot."""
    crash_during_work(disks, Random(20), cuts=15)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_many_power_cuts_lose_no_committed_transaction(disks: list[rack.RackDisk], seed: int) -> None:
    """As above, with many more cuts."""
    crash_during_work(disks, Random(seed), cuts=150)


def test_power_cuts_while_booting(golden_image: Image) -> None:
    """A first boot that the power interrupts at any write ends, at the next one, in the identity it would have had."""
    identity = None
    cut = 0
    while True:
        mains = rack.Mains(fails_at=cut)
        disks = rack.copies(golden_image(Journal.PERSIST), mains)
        guest = rack.Guest(vm_id=rack.VM_ID, disks=disks, now=rack.LabTime(), seed=1)
        try:
            guest.boot()
        except DeviceGone:
            assert not guest.running
        else:
            break
        again = rack.start(rack.copies(disks))
        identity = identity or (again.host_name, again.sid)
        assert (again.host_name, again.sid) == identity
        assert again.databases() == rack.NAMES
        again.power_off()
        cut += 1
    assert cut > 2
    assert (guest.host_name, guest.sid) == identity
    guest.power_off()
