"""Golden images, Sysprep, and who a clone thinks it is."""

from __future__ import annotations

import gc
from uuid import UUID

import pytest

from labenv.guest.engine import Journal
from labenv.guest.errors import GuestNotRunning, NoOperatingSystem, VolumeNotFound
from labenv.guest.golden import install_golden
from labenv.guest.registry import GENERALIZED
from labenv.guest.system import Answers

from . import rack


@pytest.mark.tr("R-2.2-11", "R-2.2-18")
def test_clones_of_a_generalised_image_are_all_different(persist_disks: list[rack.RackDisk]) -> None:
    """Each clone takes its own name, SID and machine id at its first boot, and keeps them at the second."""
    seen = set()
    for number in range(6):
        disks = rack.copies(persist_disks)
        vm_id = UUID(int=number + 1, version=4)
        guest = rack.start(disks, vm_id=vm_id)
        identity = (guest.host_name, guest.sid, guest.system.machine_id)
        assert not guest.exists("C:" + GENERALIZED)
        guest.shutdown()
        again = rack.start(disks, vm_id=vm_id)
        assert (again.host_name, again.sid, again.system.machine_id) == identity
        again.shutdown()
        seen |= set(identity)
    assert len(seen) == 18
    assert all(name.startswith(("WIN-", "S-1-5-21-")) or UUID(name) for name in seen)


@pytest.mark.tr("R-2.2-11")
def test_clones_without_sysprep_share_their_sid() -> None:
    """An image that was not generalised gives every clone the same SID and name."""
    disks = [rack.RackDisk(24 << 20)]
    install_golden(disks, now=rack.LabTime(), seed=1, generalize=False)
    one = rack.start(rack.copies(disks), vm_id=UUID(int=1))
    two = rack.start(rack.copies(disks), vm_id=UUID(int=2))
    assert (one.sid, one.host_name) == (two.sid, two.host_name)
    assert one.host_name == "GOLDEN"
    one.configure(host_name="SQL01", address="192.0.2.11")
    one.shutdown()
    two.shutdown()


def test_the_answer_file_names_the_clone(persist_disks: list[rack.RackDisk]) -> None:
    """Name and address of the answer file are used at the first boot only."""
    guest = rack.start(persist_disks, answers=Answers(host_name="SQL01", address="192.0.2.11"))
    assert (guest.host_name, guest.address) == ("SQL01", "192.0.2.11")
    guest.configure(address="192.0.2.12")
    guest.power_off()
    again = rack.start(persist_disks, answers=Answers(host_name="OTHER"))
    assert (again.host_name, again.address) == ("SQL01", "192.0.2.12")
    assert again.unexpected_shutdown
    again.shutdown()


@pytest.mark.tr("R-2.2-02", "R-2.2-10")
def test_the_golden_image_is_updated(persist_disks: list[rack.RackDisk]) -> None:
    """An image is booted, patched and generalised again; only clones made afterwards have the patch."""
    before = rack.copies(persist_disks)
    guest = rack.start(persist_disks)
    guest.install_software("KB2263829")
    sid = guest.sid
    guest.sysprep()
    clone = rack.start(persist_disks, vm_id=UUID(int=9))
    assert clone.system.software == ("KB2263829",)
    assert clone.sid != sid
    clone.shutdown()
    old = rack.start(before)
    assert old.system.software == ()
    old.shutdown()


@pytest.mark.tr("R-2.2-08", "R-2.2-09")
def test_the_image_is_an_installed_system(persist_disks: list[rack.RackDisk]) -> None:
    """The golden image has an operating system, its files and the integration services."""
    guest = rack.start(persist_disks)
    assert guest.system.operating_system == "Windows Server 2008 R2 SP1"
    assert guest.system.integration_services == "6.1.7601.17514"
    names = [entry.name for entry in guest.list_files("C:\\Windows\\System32")]
    assert {"ntoskrnl.exe", "drivers", "config"} <= set(names)
    assert list(guest.volumes) == ["C", "E", "F"]
    assert guest.volumes["E"].label == "Data E"
    guest.shutdown()


def test_letters_follow_the_partition_not_the_order(persist_disks: list[rack.RackDisk]) -> None:
    """Disks that arrive in another order keep their letters; a new disk gets the next free one."""
    rack.start(persist_disks).shutdown()
    system, data, log = persist_disks
    extra = [rack.RackDisk(24 << 20)]
    install_golden(extra, now=rack.LabTime(), seed=3)
    guest = rack.start([log, system, *extra, data])
    assert {letter: volume.label for letter, volume in guest.volumes.items()} == {
        "C": "System",
        "E": "Data E",
        "F": "Data F",
        "G": "System",
    }
    assert guest.databases() == rack.NAMES
    guest.shutdown()


def test_custom_letters() -> None:
    """A golden image's disks get the letters that were asked for."""
    disks = [rack.RackDisk(24 << 20), rack.RackDisk(24 << 20)]
    install_golden(disks, now=rack.LabTime(), seed=1, letters=["C", "S"], databases={"a": ("S:\\a.mdf", "C:\\a.ldf")})
    guest = rack.start(disks)
    assert list(guest.volumes) == ["C", "S"]
    assert guest.insert("a", 3) == 3
    guest.shutdown()
    with pytest.raises(ValueError, match="C first"):
        install_golden(disks, now=rack.LabTime(), seed=1, letters=["E", "C"])


def test_a_guest_without_a_system_does_not_boot() -> None:
    """Raw disks, and data disks alone, are no operating system."""
    with pytest.raises(NoOperatingSystem, match="install one"):
        rack.start([rack.RackDisk(24 << 20)])
    guest = rack.Guest(vm_id=rack.VM_ID, disks=[], now=rack.LabTime(), seed=1)
    with pytest.raises(GuestNotRunning):
        _ = guest.host_name
    with pytest.raises(GuestNotRunning):
        guest.databases()


def test_an_unknown_letter_is_refused(persist_disks: list[rack.RackDisk]) -> None:
    """A path on a volume that is not there says which ones are."""
    guest = rack.start(persist_disks)
    with pytest.raises(VolumeNotFound, match="C, E, F"):
        guest.read_file("X:\\x")
    guest.shutdown()


def work(disks: list[rack.RackDisk], vm_id: UUID) -> rack.Guest:
    time = rack.LabTime()
    guest = rack.start(disks, time=time, vm_id=vm_id)
    for name in rack.NAMES:
        guest.insert(name, 37)
        time.pass_(2)
    guest.write_file("E:\\notes.txt", b"note" * 5000)
    guest.begin("bb2", 300)
    time.pass_(3)
    guest.settle()
    return guest


@pytest.mark.parametrize("mode", list(Journal), ids=lambda mode: mode.name)
def test_the_same_seed_gives_the_same_bytes(mode: Journal) -> None:
    """Building, booting and working twice gives identical disks, whatever other guests do in between."""
    first = rack.golden(mode, size=24 << 20)
    lonely = work(first, rack.VM_ID)
    lonely.power_off()
    second = rack.golden(mode, size=24 << 20)
    neighbour = work(rack.copies(second), UUID(int=5))
    busy = work(second, rack.VM_ID)
    neighbour.insert("bb1", 5)
    busy.power_off()
    neighbour.shutdown()
    del neighbour
    gc.collect()
    assert [disk.pages for disk in first] == [disk.pages for disk in second]
