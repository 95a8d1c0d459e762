"""Shadow copies inside the guest, and auto-recovery of a later copy of its disks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from uuid import UUID

import pytest

from labenv.guest import shadow
from labenv.guest.engine import Journal
from labenv.guest.errors import NoOperatingSystem, ShadowExists, ShadowLost, ShadowStorageFull
from labenv.guest.golden import install_golden
from labenv.guest.mounting import mount_all
from labenv.guest.recovery import Recovery, recover

from . import rack

Image = Callable[[Journal], list[rack.RackDisk]]
SET = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


def recovered(disks: list[rack.RackDisk]) -> Recovery:
    """Auto-recovery of these disks to the shadow copy."""
    return recover(disks, set_id=SET, vm_id=rack.VM_ID, now=rack.LabTime(), seed=1)


@pytest.mark.tr("R-6.2-04", "R-6.2-07")
def test_a_later_copy_is_turned_back_to_the_instant(disks: list[rack.RackDisk]) -> None:
    """What the guest wrote, deleted and truncated after its shadow copy is undone in the copy, not in the guest."""
    guest = rack.start(disks)
    for name in rack.NAMES:
        guest.insert(name, 100)
    guest.write_file("C:\\notes.txt", b"note")
    guest.write_file("E:\\old.bin", b"old" * 30_000)
    guest.begin("bb3", 500)
    guest.create_shadow(SET)
    assert guest.shadow == SET
    assert not guest.frozen
    guest.rollback("bb3")
    for name in rack.NAMES:
        guest.insert(name, 250)
    guest.remove_file("E:\\old.bin")
    guest.write_file("E:\\new.bin", b"new" * 40_000, flush=True)
    guest.begin("bb1", 800)
    live = rack.copies(disks)
    image = rack.copies(disks)
    result = recovered(image)
    assert result.databases == tuple(rack.NAMES)
    assert result.failed == {}
    assert set(result.reverted) == {"C", "E", "F"}
    assert min(result.reverted.values()) > 0
    restored = rack.start(image)
    assert [restored.checkdb(name).rows for name in rack.NAMES] == [100] * 4
    assert all(restored.checkdb(name).ok for name in rack.NAMES)
    assert restored.read_file("C:\\notes.txt") == b"note"
    assert restored.read_file("E:\\old.bin") == b"old" * 30_000
    assert not restored.exists("E:\\new.bin")
    assert [entry.name for entry in restored.list_files(f"E:{shadow.FOLDER}")] == []
    restored.shutdown()
    # Without auto-recovery the same copy is later than the instant: crash state of the live system.
    crashed = rack.start(live)
    assert crashed.count("bb1") == 350
    assert crashed.exists("E:\\new.bin")
    crashed.power_off()
    guest.delete_shadow()
    assert guest.shadow is None
    assert guest.rollback("bb1") == 350
    guest.shutdown()


def test_the_recovered_image_has_no_hot_log(disks: list[rack.RackDisk]) -> None:
    """Auto-recovery rolls the transaction back that was open at the instant; the log on the image is not hot."""
    guest = rack.start(disks)
    guest.insert("bb1", 100)
    guest.begin("bb1", 600)
    guest.create_shadow(SET)
    image = rack.copies(disks)
    guest.power_off()

    def first_bytes(where: list[rack.RackDisk]) -> bytes:
        volume = list(mount_all(where, now=rack.LabTime()))[2]
        return volume.file_system.read_file("\\Log\\bb1.ldf")[:8]

    assert any(first_bytes(image))
    recovered(image)
    assert not any(first_bytes(image))


def copies_at_random_writes(disks: list[rack.RackDisk], random: Random, count: int) -> None:
    """Copies at random writes after the shadow copy all recover to its instant."""
    mains = rack.Mains()
    disks = rack.copies(disks, mains)
    time = rack.LabTime()
    guest = rack.start(disks, time=time)
    expected = {name: guest.insert(name, random.randrange(1, 300)) for name in rack.NAMES}
    guest.create_shadow(SET)
    wanted = {mains.writes + write for write in random.sample(range(1, 400), count)}
    images: list[list[rack.RackDisk]] = []
    mains.watcher = lambda write: images.append(rack.copies(disks)) if write in wanted else None
    while len(images) < count:
        time.pass_(random.choice((0, 1)))
        if random.random() < 0.2:
            guest.write_file(f"E:\\{random.randrange(5)}.bin", random.randbytes(random.randrange(50_000)))
        else:
            guest.insert(random.choice(rack.NAMES), random.choice((1, 5, 80)))
    mains.watcher = None
    assert guest.shadow == SET
    guest.shutdown()
    for image in images:
        recovered(image)
        restored = rack.start(image)
        assert {name: restored.checkdb(name).rows for name in rack.NAMES} == expected
        assert all(restored.checkdb(name).ok for name in rack.NAMES)
        restored.power_off()


def test_copies_at_any_moment_recover_to_the_instant(disks: list[rack.RackDisk]) -> None:
    """It does not matter when the host copies the disks, as long as the shadow copy is kept."""
    copies_at_random_writes(disks, Random(7), 8)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_many_copies_recover_to_the_instant(disks: list[rack.RackDisk], seed: int) -> None:
    """As above, with more copies."""
    copies_at_random_writes(disks, Random(seed), 60)


def test_auto_recovery_can_be_repeated(persist_disks: list[rack.RackDisk]) -> None:
    """An auto-recovery that the power interrupts at any write is done again from the start with the same result."""
    guest = rack.start(persist_disks)
    guest.insert("bb1", 100)
    guest.create_shadow(SET)
    guest.insert("bb1", 40)
    guest.insert("aa1", 40)
    source = rack.copies(persist_disks)
    guest.power_off()
    cut = 0
    while True:
        mains = rack.Mains(fails_at=cut)
        image = rack.copies(source, mains)
        try:
            recovered(image)
        except OSError:
            pass
        else:
            break
        image = rack.copies(image)
        try:
            recovered(image)
        except ShadowLost:  # the first attempt had finished reverting and was cleaning up
            recover(image, set_id=None, vm_id=rack.VM_ID, now=rack.LabTime(), seed=1)
        restored = rack.start(image)
        assert (restored.count("bb1"), restored.count("aa1")) == (100, 0)
        restored.power_off()
        cut += 3
    assert cut > 10


def test_a_shadow_copy_that_outgrows_its_room_is_given_up(
    persist_disks: list[rack.RackDisk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest's own work goes on when the difference area is full; the copy can no longer be turned back."""
    monkeypatch.setattr(shadow, "SLOTS", 64)
    guest = rack.start(persist_disks)
    guest.create_shadow(SET)
    with pytest.raises(ShadowExists):
        guest.create_shadow(UUID(int=1))
    assert guest.insert("bb1", 5000) == 5000
    assert guest.shadow is None
    with pytest.raises(ShadowLost, match="take the backup again"):
        recovered(rack.copies(persist_disks))
    assert guest.checkdb("bb1").ok
    guest.create_shadow(SET)
    assert guest.shadow == SET
    guest.shutdown()


def test_a_full_volume_has_no_room_for_a_shadow_copy() -> None:
    """Without free space the shadow copy is refused, nothing is left behind, and the guest goes on."""
    disks = [rack.RackDisk(24 << 20), rack.RackDisk(8 << 20)]
    install_golden(disks, now=rack.LabTime(), seed=1)
    guest = rack.start(disks)
    guest.write_file("E:\\big.bin", b"x" * (guest.volumes["E"].free - 100_000), flush=True)
    with pytest.raises(ShadowStorageFull, match="make room"):
        guest.create_shadow(SET)
    assert guest.shadow is None
    assert not guest.frozen
    assert shadow.areas(guest.volumes["C"].file_system) == []
    guest.shutdown()


def test_a_shadow_copy_ends_with_its_system(persist_disks: list[rack.RackDisk]) -> None:
    """A boot removes the difference areas that a crash left."""
    guest = rack.start(persist_disks)
    guest.create_shadow(SET)
    free = guest.volumes["E"].free
    guest.power_off()
    guest = rack.start(persist_disks)
    assert guest.shadow is None
    assert guest.volumes["E"].free > free
    guest.shutdown()


def test_recovery_needs_a_system_and_its_shadow_copy(persist_disks: list[rack.RackDisk]) -> None:
    """Disks without the shadow copy, and disks without a system, are refused."""
    with pytest.raises(ShadowLost):
        recovered(persist_disks)
    with pytest.raises(NoOperatingSystem):
        recover(persist_disks[1:], set_id=None, vm_id=rack.VM_ID, now=rack.LabTime(), seed=1)
