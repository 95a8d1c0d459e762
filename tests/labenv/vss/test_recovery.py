"""What an application-consistent set holds, on the bytes."""

from __future__ import annotations

import hashlib

import pytest

from labenv.guest import shadow
from labenv.windows.disks import gpt
from labenv.windows.vss.arrival import FLAGS

from .bench import SQL01, Bench, backup

LOG = "\\SQL\\bb1.ldf"


def _dirty(bench: Bench) -> None:
    """Committed rows, an open transaction and a file that nobody flushed."""
    guest = bench.guest("sql01")
    guest.insert("bb1", 100)
    guest.insert("aa1", 40)
    guest.write_file("E:\\notes.txt", b"in the cache")
    guest.begin("bb1", 600)


@pytest.mark.tr("R-6.2-04", "R-6.2-05", "R-6.2-06", "R-6.2-07", "R-6.2-08")
def test_the_recovered_image_is_consistent_and_the_live_lun_beside_it_is_not(bench: Bench) -> None:
    """Before auto-recovery the copy has a hot journal and the guest's shadow copy; afterwards neither."""
    _dirty(bench)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    first, second = f"{{{ran.set_id}}}", f"{{{ran.set_id}}}_backup"
    assert bench.snapshots("vm_sql01") == [first, second]
    image = f"/golden_{first}.rws"
    assert set(bench.site.volume_files("vm_sql01", second)) == {"/golden", image}

    before = bench.guest_files(bench.image("vm_sql01", first, "/golden"), "\\sql01", "sql01")
    assert any(before["F"].read_file(LOG)[:8])
    assert shadow.areas(before["E"])
    after = bench.guest_files(bench.image("vm_sql01", second, image), "\\sql01", "sql01")
    assert not any(after["F"].read_file(LOG)[:8])
    assert shadow.areas(after["E"]) == []
    assert after["E"].read_file("\\notes.txt") == b"in the cache"
    later = bench.guest_files(bench.image("vm_sql01", second, "/golden"), "\\sql01", "sql01")
    assert any(later["F"].read_file(LOG)[:8])


@pytest.mark.tr("R-5.2-09", "R-9-04")
def test_a_restored_image_has_the_rows_of_the_freeze(bench: Bench) -> None:
    """A load runs on while the set is made; what is restored ends at the guest's freeze and is sound."""
    guest = bench.guest("sql01")
    guest.insert("bb1", 100)
    since = int(bench.site.clock.time.timestamp())
    guest.do("start_load", database="bb1", rows_per_second=20, up_to=100_000)
    ran = bench.script(*backup(SQL01))
    frozen = next(e for e in bench.events("labenv") if e.values[1:3] == ("guest sql01", "freeze"))
    expected = 100 + 20 * (int(frozen.time.timestamp()) - since)
    assert guest.count("bb1") > expected
    first = f"{{{ran.set_id}}}"
    _restore(bench, f"/vol/vm_sql01/.snapshot/{first}_backup/golden_{first}.rws")
    guest = bench.guest("sql01")
    assert guest.count("bb1") == expected
    assert guest.checkdb("bb1").ok
    assert guest.checkdb("aa1").ok


def _restore(bench: Bench, source: str) -> None:
    """TR 6.6 by hand: stop, overwrite the LUN in place, clear VSS's flags, start."""
    bench.run("Stop-VM", Name="sql01", TurnOff=True, Force=True)
    lun = bench.rest("GET", "/storage/luns", name="/vol/vm_sql01/golden", fields="uuid,serial_number")["records"][0]
    disk = bench.run("Get-Disk", UniqueId="600A0980" + lun["serial_number"].encode().hex().upper())[0]
    number = disk.properties["Number"]
    guid = str(disk.properties["Guid"])
    bench.run("Set-Disk", Number=number, IsOffline=True)
    bench.rest("PATCH", f"/storage/luns/{lun['uuid']}", {"clone": {"source": {"name": source}}})
    bench.run("Update-HostStorageCache")
    bench.run("Set-Disk", Number=number, IsOffline=False)
    assert str(bench.run("Get-Disk", Number=number)[0].properties["Guid"]) == guid
    partition = bench.run("Get-Partition", DiskNumber=number)[-1].properties["PartitionNumber"]
    bench.run(
        "Set-Partition",
        DiskNumber=number,
        PartitionNumber=partition,
        IsHidden=False,
        IsReadOnly=False,
        IsShadowCopy=False,
        NoDefaultDriveLetter=False,
    )
    bench.run("Start-VM", Name="sql01")


def test_both_copies_carry_the_flags_and_the_identity_of_the_original(bench: Bench) -> None:
    """VSS marks the partition while it is copied; the live disk is clean afterwards, the copies are hidden."""
    _, disk = next((v, v.disk) for v in bench.host.volumes.all() if SQL01 in v.paths)
    record = bench.host.disks.records[disk]
    original = gpt.read_gpt(bench.host.disks.raw(record))
    assert original is not None
    ran = bench.script(*backup(SQL01))
    assert gpt.read_gpt(bench.host.disks.raw(record)) == original
    first = f"{{{ran.set_id}}}"
    for snapshot, path in ((first, "/golden"), (f"{first}_backup", f"/golden_{first}.rws")):
        copy = gpt.read_gpt(bench.site.block_file("vm_sql01", path, snapshot))
        assert copy is not None
        assert copy.disk_guid == original.disk_guid
        assert [p.guid for p in copy.partitions] == [p.guid for p in original.partitions]
        assert copy.partitions[-1].attributes & FLAGS == FLAGS


def test_nothing_stays_on_the_host_or_mapped(bench: Bench) -> None:
    """After the set the clone, its map and its disk are gone, writers are stable, the guest keeps no shadow copy."""
    luns, maps = bench.luns(), bench.maps()
    disks = set(bench.host.disks.records)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0
    assert (bench.luns(), bench.maps()) == (luns, maps)
    assert set(bench.host.disks.records) == disks
    assert set(bench.states().values()) == {(1, 0)}
    guest = bench.guest("sql01")
    assert guest.shadow is None
    assert not any(shadow.areas(v.file_system) for v in guest.volumes.values())
    assert bench.site.blocks.check() == []


def test_the_same_backup_gives_the_same_bytes_again(bench: Bench) -> None:
    """Two runs from one state make images that are equal to the last byte."""

    def once() -> tuple[str, str]:
        bench.restore()
        _dirty(bench)
        ran = bench.script(*backup(SQL01))
        first = f"{{{ran.set_id}}}"
        file = bench.site.block_file("vm_sql01", f"/golden_{first}.rws", f"{first}_backup")
        digest = hashlib.sha256()
        for offset, length in file.data_ranges(0, file.size):
            digest.update(file.read(offset, length))
        return ran.text, digest.hexdigest()

    assert once() == once()
