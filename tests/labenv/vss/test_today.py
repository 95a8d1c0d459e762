"""Today's era: checkpoints are consistent below their leaf, and the host's shadow copy is decoupled from the guests."""

from __future__ import annotations

import pytest

from labenv.guest import shadow
from labenv.windows.vss.quiesce import Overlay

from .bench import SQL01, Bench, backup

LOG = "\\SQL\\bb1.ldf"
FOLDER = "C:\\VMs\\sql01\\sql01"


def _dirty(bench: Bench) -> None:
    guest = bench.guest("sql01")
    guest.insert("bb1", 100)
    guest.write_file("E:\\notes.txt", b"in the cache")
    guest.begin("bb1", 600)


def _drives(bench: Bench) -> list[str]:
    return [d.properties["Path"] for d in bench.run("Get-VMHardDiskDrive", VMName="sql01")]


def test_a_production_checkpoint_has_no_open_transaction(today: Bench) -> None:
    """The parents need no recovery, the leaves hold the live state, and the guest's transaction goes on."""
    bench = today
    _dirty(bench)
    guest = bench.guest("sql01")
    bench.run("Set-VM", Name="sql01", CheckpointType="ProductionOnly")
    made = bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S", Passthru=True)[0]
    leaves = _drives(bench)
    assert all(path.lower().endswith((".avhd", ".avhdx")) for path in leaves)
    assert guest.open_transactions() == ["bb1"]
    key = bench.array.volume_key("vm_sql01")
    bench.rest("POST", f"/storage/volumes/{key}/snapshots", {"name": "now"})
    parents = bench.guest_files(bench.image("vm_sql01", "now", "/golden"), "\\sql01", "sql01")
    assert not any(parents["F"].read_file(LOG)[:8])
    assert parents["E"].read_file("\\notes.txt") == b"in the cache"
    opened = bench.host.vhds.open(next(p for p in leaves if "vhd2" in p), read_only=True)
    live = bench.guest_volume(opened.device)
    assert any(live.read_file(LOG)[:8])
    opened.close()
    assert guest.commit("bb1") == 700
    assert guest.checkdb("bb1").ok
    bench.run("Remove-VMSnapshot", VMName="sql01", Name="S")
    bench.run("Start-Sleep", Seconds=60)
    assert guest.insert("bb1", 1) == 701
    assert guest.checkdb("bb1").ok
    bench.run("Stop-VM", Name="sql01", TurnOff=True)
    bench.run("Start-VM", Name="sql01")
    assert bench.guest("sql01").count("bb1") == 701
    assert made.properties["Id"] is not None


def test_applying_it_gives_the_committed_rows(today: Bench) -> None:
    """Restore-VMSnapshot drops the leaf; the open transaction is gone, and no log is replayed at the boot."""
    bench = today
    _dirty(bench)
    bench.run("Set-VM", Name="sql01", CheckpointType="ProductionOnly")
    bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S")
    bench.guest("sql01").commit("bb1")
    bench.run("Restore-VMSnapshot", VMName="sql01", Name="S", Confirm=False)
    bench.run("Start-VM", Name="sql01")
    guest = bench.guest("sql01")
    assert guest.count("bb1") == 100
    assert guest.checkdb("bb1").ok


@pytest.mark.parametrize("kind", ["ProductionOnly", "Production"])
def test_a_guest_without_room_takes_no_part(today: Bench, kind: str) -> None:
    """ProductionOnly fails with 18014; Production falls back without a word."""
    bench = today
    guest = bench.guest("sql01")
    guest.write_file("F:\\big.bin", b"\1" * (guest.volumes["F"].free - (256 << 10)), flush=True)
    bench.run("Set-VM", Name="sql01", CheckpointType=kind)
    if kind == "Production":
        bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S")
        record = next(iter(bench.host.machines.snapshots.values()))
        assert record.consistency == "saved"
    else:
        with pytest.raises(Exception, match="Production checkpoints cannot be created"):
            bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S")
        assert not bench.host.machines.snapshots
        assert bench.events("Microsoft-Windows-Hyper-V-VMMS", 18014)
    assert not guest.frozen


def test_a_host_shadow_copy_holds_a_recovery_checkpoint(today: Bench) -> None:
    """One Snapshot copy: consistent parents under live leaves; the checkpoint is merged away on the host."""
    bench = today
    _dirty(bench)
    before = _drives(bench)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    first = f"{{{ran.set_id}}}"
    assert bench.snapshots("vm_sql01") == [first]
    system = bench.image("vm_sql01", first, "/golden")
    parents = bench.guest_files(system, "\\sql01", "sql01")
    assert not any(parents["F"].read_file(LOG)[:8])
    assert sorted(e.name for e in system.listdir("\\sql01") if ".avhd" in e.name)
    bench.run("Start-Sleep", Seconds=120)
    assert _drives(bench) == before
    assert not bench.host.machines.snapshots
    guest = bench.guest("sql01")
    assert guest.commit("bb1") == 700
    assert guest.checkdb("bb1").ok
    assert not any(shadow.areas(v.file_system) for v in guest.volumes.values())


def test_a_vm_without_its_service_is_copied_as_after_a_crash(today: Bench) -> None:
    """No downtime any more, and no consistency either: the caption says so before, the trace afterwards."""
    bench = today
    bench.run("Disable-VMIntegrationService", VMName="sql01", Name="VSS")
    assert "Offline\\sql01" in bench.script("list writers metadata").text
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0
    assert bench.site.vm_states()["sql01"] == "Running"
    assert any("crash-consistent" in e.message for e in bench.events("labenv"))


def test_a_failed_set_leaves_no_checkpoint(today: Bench) -> None:
    """When the array refuses, the recovery checkpoint is merged away."""
    bench = today
    before = bench.footprint()
    bench.fault("vss.provider", "error", phase="CommitSnapshots", code_="0x80042306")
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    bench.run("Start-Sleep", Seconds=120)
    assert bench.footprint() == before


def test_an_overlay_reads_what_was_written_to_it(today: Bench) -> None:
    """Writes of any alignment stay in the overlay; the device below does not change."""
    device = today.host.disks.raw(today.host.disks.present()[1])
    original = device.read(0, 1 << 16)
    expected = bytearray(original)
    overlay = Overlay(device)
    for offset, data in ((0, b"a" * 4096), (4000, b"b" * 300), (8191, b"c"), (12288, b"d" * 9000), (5, b"")):
        overlay.write(offset, data)
        expected[offset : offset + len(data)] = data
    overlay.unmap(20000, 10000)
    expected[20000:30000] = bytes(10000)
    for offset, length in ((0, 1 << 16), (4095, 2), (8000, 8000), (19999, 10002), (7, 0)):
        assert overlay.read(offset, length) == bytes(expected[offset : offset + length])
    assert device.read(0, 1 << 16) == original


@pytest.mark.parametrize("coordinator", ["hv1", "hv2"])
def test_a_shared_volume_with_vms_of_both_nodes(cluster_today: Bench, coordinator: str) -> None:
    """One Snapshot copy with consistent parents of all VMs below their live leaves; nothing stays on the nodes."""
    bench = cluster_today
    csv = "C:\\ClusterStorage\\Volume1\\"
    vms = ("sql01", "web01", "web02")
    for vm in vms:
        bench.guest(vm).insert("bb1", 100)
        bench.guest(vm).begin("bb1", 400)
    ran = bench.script(*backup(csv), on=coordinator)
    assert ran.code == 0, ran.text
    first = f"{{{ran.set_id}}}"
    assert bench.snapshots("csv1") == [first]
    system = bench.image("csv1", first, "/csv1")
    for vm in vms:
        assert any(".avhd" in e.name for e in system.listdir(f"\\{vm}"))
        assert not any(bench.guest_files(system, f"\\{vm}", vm)["F"].read_file(LOG)[:8])
    bench.run("Start-Sleep", Seconds=200)
    for host in bench.hosts.values():
        assert not host.machines.snapshots
        assert set(bench.states(host.name).values()) == {(1, 0)}
    for vm in vms:
        assert bench.guest(vm).commit("bb1") == 500
        assert bench.guest(vm).checkdb("bb1").ok


def test_a_shared_volumes_guest_that_fails_on_another_node(cluster_today: Bench) -> None:
    """The CSV writer shows the failure of the other node; after mending all VMs are in the set."""
    bench = cluster_today
    csv = "C:\\ClusterStorage\\Volume1\\"
    bench.cause("guest-volume-full", vm="web01")
    ran = bench.script("writer verify {1072ae1c-e5a7-4ea1-9e4a-6f7964656570}", *backup(csv), on="hv1")
    assert ran.code == 1
    assert bench.states("hv1")["Cluster Shared Volume VSS Writer"][0] == 8
    assert bench.script("delete shadows all", on="hv1").code == 0
    bench.mend()
    bench.run("Start-Sleep", Seconds=200)
    assert bench.script(*backup(csv), on="hv1").code == 0
