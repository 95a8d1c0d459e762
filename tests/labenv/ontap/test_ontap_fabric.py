"""What hosts see of the array: portals, logical units, and how a LUN behaves when space runs out."""

from __future__ import annotations

import pytest

from labenv.devices import DeviceGone, OutOfSpace, ReadOnlyDevice
from labenv.fabric import Fabric

from .ontap_bench import GIB, IQN, MIB, Bench


def test_portals_answer_for_their_svm(bench: Bench) -> None:
    """Every iSCSI LIF of an SVM leads to its target with all portals; other addresses do not answer."""
    (target,) = bench.array.targets("10.0.1.22")
    assert target.portals == ("10.0.1.21", "10.0.1.22")
    assert bench.array.targets("10.0.0.20") == ()
    assert bench.array.targets("192.0.2.1") == ()
    lif = bench.one("/network/ip/interfaces", name="svm1_iscsi_1")["uuid"]
    bench.do("PATCH", f"/network/ip/interfaces/{lif}", {"enabled": False})
    assert bench.array.targets("10.0.1.21") == ()
    assert bench.array.targets("10.0.1.22")[0].portals == ("10.0.1.22",)


def test_logical_units_follow_maps_and_members(bench: Bench) -> None:
    """Numbers are given from 0 up or as asked; an initiator sees only what its groups map."""
    bench.volume()
    for name in ("a", "b", "c"):
        bench.lun(f"/vol/vol1/{name}", MIB)
    group = bench.igroup()
    bench.map("/vol/vol1/a")
    body = {"lun.name": "/vol/vol1/b", "igroup.name": "hv1", "svm.name": "svm1", "logical_unit_number": 7}
    bench.do("POST", "/protocols/san/lun-maps", body)
    bench.map("/vol/vol1/c")
    assert [unit.number for unit in bench.units()] == [0, 1, 7]
    target = bench.array.targets("10.0.1.21")[0].name
    assert not bench.array.logical_units("iqn.1991-05.com.microsoft:stranger", target)
    path = f"/protocols/san/igroups/{group}/initiators/{IQN}"
    bench.do("DELETE", path, allow_delete_while_mapped="true")
    assert bench.units() == []


def test_the_fabric_takes_the_array(bench: Bench) -> None:
    """The array is a storage system of the fabric."""
    fabric = Fabric()
    fabric.attach(bench.array)
    assert fabric.discover("10.0.1.21")[0].name.startswith("iqn.1992-08.com.netapp:sn.")


def test_the_iscsi_service_can_be_stopped(bench: Bench) -> None:
    """A disabled service answers no discovery and shows no LUN."""
    svm = bench.one("/svm/svms", name="svm1")["uuid"]
    target = bench.array.targets("10.0.1.21")[0].name
    bench.do("PATCH", f"/protocols/san/iscsi/services/{svm}", {"enabled": False})
    assert bench.array.targets("10.0.1.21") == ()
    assert bench.array.logical_units(IQN, target) == ()
    bench.do("DELETE", f"/protocols/san/iscsi/services/{svm}")
    bench.do("POST", "/protocols/san/iscsi/services", {"svm": {"name": "svm1"}})
    assert bench.array.targets("10.0.1.21")


def test_a_luns_statistics_count_what_hosts_move(bench: Bench) -> None:
    """Reads and writes of an initiator are counted with their bytes; Snapshot copies of the array are not."""
    volume = bench.volume()
    lun = bench.lun()
    bench.igroup()
    bench.map()
    device = bench.units()[0].device
    device.write(0, bytes(3 * MIB))
    device.read(0, MIB)
    device.read(MIB, 4096)
    bench.do("POST", f"/storage/volumes/{volume}/snapshots", {"name": "s1"})
    assert "statistics" not in bench.do("GET", f"/storage/luns/{lun}")
    found = bench.do("GET", f"/storage/luns/{lun}", fields="statistics")["statistics"]
    assert found["status"] == "ok"
    assert found["iops_raw"] == {"read": 2, "write": 1, "other": 0, "total": 3}
    moved = {"read": MIB + 4096, "write": 3 * MIB, "other": 0, "total": 4 * MIB + 4096}
    assert found["throughput_raw"] == moved


@pytest.mark.parametrize("space_allocation", [False, True])
def test_a_thin_lun_in_a_full_volume(bench: Bench, *, space_allocation: bool) -> None:
    """A thin LUN whose volume is full goes offline; with space allocation it stays and serves reads."""
    volume = bench.volume(size=20 * MIB, space={"snapshot": {"reserve_percent": 0}})
    extra = {"space.scsi_thin_provisioning_support_enabled": space_allocation}
    lun = bench.lun(size=64 * MIB, **extra)
    bench.igroup()
    bench.map()
    device = bench.units()[0].device
    device.write(0, bytes([1]) * 16 * MIB)
    with pytest.raises(OutOfSpace):
        device.write(16 * MIB, bytes([1]) * 16 * MIB)
    status = bench.do("GET", f"/storage/luns/{lun}")["status"]["state"]
    if space_allocation:
        assert (status, device.read(0, 1)) == ("online", b"\1")
        return
    assert status == "space_error"
    assert not bench.units()[0].online
    with pytest.raises(DeviceGone):
        device.read(0, 1)
    bench.do("PATCH", f"/storage/volumes/{volume}", {"size": GIB})
    bench.do("PATCH", f"/storage/luns/{lun}", {"enabled": True})
    device.write(40 * MIB, b"\2")
    assert (device.read(0, 1), device.read(40 * MIB, 1)) == (b"\1", b"\2")


def test_an_offline_volume_takes_its_luns_along(bench: Bench) -> None:
    """A LUN is gone while its volume is offline or it is disabled, and comes back as the same object."""
    volume = bench.volume()
    lun = bench.lun()
    bench.igroup()
    bench.map()
    device = bench.units()[0].device
    device.write(0, b"data")
    for path, down, up in (
        (f"/storage/volumes/{volume}", {"state": "offline"}, {"state": "online"}),
        (f"/storage/luns/{lun}", {"enabled": False}, {"enabled": True}),
    ):
        bench.do("PATCH", path, down)
        with pytest.raises(DeviceGone):
            device.read(0, 4)
        assert bench.do("GET", f"/storage/luns/{lun}")["status"]["state"] == "offline"
        bench.do("PATCH", path, up)
        assert device.read(0, 4) == b"data"
        assert bench.units()[0].device is device


def test_a_deleted_lun_is_gone_for_good(bench: Bench) -> None:
    """A LUN made later at the same path is another disk; the old device stays gone."""
    bench.volume()
    lun = bench.lun()
    bench.igroup()
    bench.map()
    old = bench.units()[0]
    bench.do("DELETE", f"/storage/luns/{lun}", allow_delete_while_mapped="true")
    bench.lun()
    bench.map()
    new = bench.units()[0]
    assert (new.uuid == old.uuid, new.serial_number == old.serial_number) == (False, False)
    with pytest.raises(DeviceGone):
        old.device.write(0, b"x")


def test_a_mirror_destination_does_not_take_writes(bench: Bench) -> None:
    """A LUN of a data protection volume is read-only, and none can be made in it."""
    core = bench.array.core
    volume = bench.volume()
    bench.lun()
    bench.igroup()
    bench.map()
    core.change_volume(core.volumes[volume], type="dp")
    body = {"name": "/vol/vol1/lun2", "svm.name": "svm1", "os_type": "hyper_v", "space.size": MIB}
    assert bench.call("POST", "/storage/luns", body, return_timeout=9)[1]["error"]["code"] == "917536"
    with pytest.raises(ReadOnlyDevice):
        bench.units()[0].device.write(0, b"x")


def test_a_lun_grows_under_its_host(bench: Bench) -> None:
    """A resize is seen through the same device."""
    bench.volume()
    lun = bench.lun()
    bench.igroup()
    bench.map()
    device = bench.units()[0].device
    bench.do("PATCH", f"/storage/luns/{lun}", {"space.size": "128MB"})
    assert device.size == 128 * MIB
    device.write(127 * MIB, b"end")
    assert device.read(127 * MIB, 3) == b"end"


def test_copies_and_file_clones_hold_the_bytes(bench: Bench) -> None:
    """POST with copy gives independent blocks in another volume; file/clone one of a Snapshot copy's files."""
    volume = bench.volume()
    bench.volume("vol2")
    bench.lun(size=4 * MIB)
    bench.igroup()
    bench.map()
    device = bench.units()[0].device
    device.write(MIB, b"first")
    bench.snapshot(volume, "base")
    device.write(MIB, b"other")
    body = {"name": "/vol/vol2/copy", "svm.name": "svm1", "copy": {"source": {"name": "/vol/vol1/lun1"}}}
    bench.do("POST", "/storage/luns", body)
    body = {"volume": {"name": "vol1"}, "source_path": ".snapshot/base/lun1", "destination_path": "restored"}
    bench.do("POST", "/storage/file/clone", body)
    for name in ("/vol/vol2/copy", "/vol/vol1/restored"):
        bench.map(name)
    assert [unit.device.read(MIB, 5) for unit in bench.units()] == [b"other", b"other", b"first"]
    bench.do("POST", "/storage/file/clone", {**body, "destination_path": "lun1", "overwrite_destination": True})
    assert device.read(MIB, 5) == b"first"


def test_a_clone_takes_no_space_until_it_is_written(bench: Bench) -> None:
    """FlexClone volumes and LUN clones share their blocks (TR 2.1)."""
    volume = bench.volume()
    bench.lun()
    bench.igroup()
    bench.map()
    bench.units()[0].device.write(0, bytes(range(256)) * 4096 * 8)
    bench.snapshot(volume, "base")
    used = bench.one("/storage/aggregates", name="aggr1")["space"]["block_storage"]["used"]
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "base"}}
    bench.do("POST", "/storage/volumes", {"name": "clone1", "svm": {"name": "svm1"}, "clone": clone})
    body = {"name": "/vol/vol1/copy", "svm.name": "svm1", "clone.source.name": "/vol/vol1/.snapshot/base/lun1"}
    bench.do("POST", "/storage/luns", body)
    after = bench.one("/storage/aggregates", name="aggr1")["space"]["block_storage"]["used"]
    assert after - used < MIB
