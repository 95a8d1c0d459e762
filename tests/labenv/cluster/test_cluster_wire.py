"""A failover cluster over the real wires, in a lab process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.errors import PowerShellError, SmhvLabError

from .conftest import Lab, open_wires

CSV = "C:\\ClusterStorage\\Volume1"


def test_both_nodes_show_one_cluster(lab: Lab) -> None:
    """Nodes, roles, disks and shared volumes are the same, whichever node is asked."""
    pictures = []
    for node in ("hv1", "hv2"):
        groups = {str(g["Name"]): (str(g["OwnerNode"]), str(g["State"])) for g in lab.run(node, "Get-ClusterGroup")}
        disks = {str(r["Name"]): str(r["OwnerGroup"]) for r in lab.run(node, "Get-ClusterResource")}
        pictures.append((groups, disks, lab.show(node, "Get-ClusterSharedVolume", "Name")))
    assert pictures[0] == pictures[1]
    groups, disks, shared = pictures[0]
    assert groups["sql01"] == ("hv1", "Online")
    assert groups["web01"] == ("hv2", "Online")
    assert groups["smhv_snapinfo"] == ("hv1", "Online")
    assert disks["Cluster Disk 1"] == "Cluster Group"
    assert disks["Cluster Disk 4"] == "file01"
    assert shared == "Cluster Disk 3"
    assert shared not in disks


def test_a_shared_volume_has_two_guids(lab: Lab) -> None:
    """CSVFS shows a volume GUID of its own on every node; that of the NTFS volume below leads nowhere (TR 11.2)."""
    (volume,) = lab.wires["hv1"].run("Get-ClusterSharedVolume", select=["SharedVolumeInfo"])
    info = volume["SharedVolumeInfo"][0]  # type: ignore[index]
    assert info["FriendlyVolumeName"] == CSV
    path = str(info["Partition"])
    for node in ("hv1", "hv2"):
        (seen,) = lab.run(node, "Get-Volume", FilePath=f"{CSV}\\sql01")
        assert (seen["FileSystem"], seen["Path"]) == ("CSVFS", path)
        assert lab.run(node, "Test-Path", LiteralPath=f"{path}sql01") == [True]
    (disk,) = lab.run("hv1", "Get-Disk", UniqueId=_disk_of(lab))
    parts = lab.run("hv1", "Get-Partition", DiskNumber=disk["Number"])
    (data,) = [p for p in parts if p["Type"] == "Basic"]
    assert data["AccessPaths"] == [f"{CSV}\\", path]
    assert str(data["Guid"]) not in path
    assert lab.run("hv1", "Test-Path", LiteralPath=f"\\\\?\\Volume{data['Guid']}\\sql01") == [False]


def _disk_of(lab: Lab) -> str:
    guid = lab.wires["hv1"].pair(
        ("Get-ClusterSharedVolume", {"Name": "Cluster Disk 3"}), ("Get-ClusterParameter", {"Name": ["DiskIdGuid"]})
    )[0]["Value"]  # type: ignore[index]
    (found,) = [d for d in lab.run("hv1", "Get-Disk") if d["Guid"] == guid]
    return str(found["UniqueId"])


def test_power_cut_of_a_node_with_running_vms(lab: Lab) -> None:
    """Committed rows survive the crash of their host; the VMs run on the other node, on the same bytes."""
    door = lab.lab.guest("sql01")
    before = door.insert("bb1", 300)
    lab.run("hv2", "Set-Content", LiteralPath=f"{CSV}\\note.txt", Value="hv2 was here", NoNewline=True)
    lab.lab.host("hv1").power_off()
    with pytest.raises(SmhvLabError):
        lab.run("hv1", "Get-Date")
    lab.lab.clock.advance(60)
    assert lab.show("hv2", "Get-ClusterNode", "State", Name=["hv1"]) == "Down"
    states = {str(v["Name"]): str(v["State"]) for v in lab.run("hv2", "Get-VM")}
    assert states == {"sql01": "Running", "app01": "Running", "web01": "Running", "file01": "Running"}
    assert door.count("bb1") == before
    assert door.checkdb("bb1")["ok"]
    assert door.identity()["unexpected_shutdown"] is True
    assert lab.run("hv2", "Get-Content", LiteralPath=f"{CSV}\\note.txt", Raw=True) == ["hv2 was here"]
    assert lab.run("hv2", "Test-Path", LiteralPath="S:\\") == [True]
    events = lab.run("hv2", "Get-WinEvent", FilterHashtable={"LogName": "System", "Id": [1135]})
    assert len(events) == 1
    lab.lab.host("hv1").power_on()
    lab.lab.clock.advance(5)
    assert lab.show("hv1", "Get-ClusterNode", "State", Name=["hv1"]) == "Up"
    assert lab.run("hv1", "Get-Content", LiteralPath=f"{CSV}\\note.txt", Raw=True) == ["hv2 was here"]
    assert [str(v["Name"]) for v in lab.run("hv1", "Get-VM")] == ["golden"]


def test_live_migration_keeps_what_the_guest_has_in_memory(lab: Lab) -> None:
    """A file that the guest has not written out yet is still there after a live migration, and lost by a crash."""
    door = lab.lab.guest("sql01")
    door.write_file("C:\\memo.txt", "only in memory")
    (moved,) = lab.run("hv1", "Move-ClusterVirtualMachineRole", Name="sql01", Node="hv2")
    assert str(moved["OwnerNode"]) == "hv2"
    assert door.read_file("C:\\memo.txt") == "only in memory"
    assert lab.show("hv2", "Get-VM", "IsClustered", Name=["sql01"]) is True
    with pytest.raises(PowerShellError) as caught:
        lab.run("hv1", "Get-VM", Name=["sql01"])
    assert caught.value.code == "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM"


def test_a_vm_on_a_disk_of_its_own_takes_it_along(lab: Lab) -> None:
    """The disk of a role is online where the role is; its drive letter comes with it."""
    rows = lab.lab.guest("file01").insert("aa1", 20)
    assert lab.run("hv2", "Test-Path", LiteralPath="V:\\file01") == [True]
    lab.run("hv1", "Move-ClusterVirtualMachineRole", Name="file01", Node="hv1")
    assert lab.run("hv1", "Test-Path", LiteralPath="V:\\file01") == [True]
    assert lab.run("hv2", "Test-Path", LiteralPath="V:\\file01") == [False]
    assert lab.lab.guest("file01").count("aa1") == rows


def test_a_new_vm_becomes_a_role(lab: Lab) -> None:
    """A VM made on a shared volume is made highly available; its resources are offline until it is started."""
    lab.run("hv1", "New-VM", Name="plain", NoVHD=True, Path=CSV)
    (group,) = lab.run("hv1", "Add-ClusterVirtualMachineRole", VMName="plain")
    assert (group["Name"], str(group["State"])) == ("plain", "PartialOnline")
    assert lab.show("hv1", "Get-ClusterResource", "State", Name=["Virtual Machine plain"]) == "Offline"
    lab.run("hv1", "Start-ClusterGroup", Name="plain")
    assert lab.show("hv1", "Get-VM", "State", Name=["plain"]) == "Running"


def test_kill_of_the_lab_while_vms_run_on_both_nodes(tmp_path: Path) -> None:
    """After kill -9 everything is where it was: owners, shared volume, rows; a node that was off is still off."""
    lab = labs.start("two-node-cluster", state=tmp_path)
    rows = lab.guest("web01").insert("bb2", 40)
    wires = open_wires(lab)
    wires["hv1"].run("Move-ClusterVirtualMachineRole", {"Name": "app01", "Node": "hv2"})
    for wire in wires.values():
        wire.close()
    lab.host("hv1").power_off()
    lab.kill()
    with labs.start("two-node-cluster", state=tmp_path) as lab:
        with open_wires(lab)["hv2"] as wire:
            nodes = {str(n["Name"]): str(n["State"]) for n in wire.run("Get-ClusterNode")}
            groups = {str(g["Name"]): (str(g["OwnerNode"]), str(g["State"])) for g in wire.run("Get-ClusterGroup")}
        assert nodes == {"hv1": "Down", "hv2": "Up"}
        assert {groups[n] for n in ("sql01", "app01", "web01", "file01")} == {("hv2", "Online")}
        assert lab.guest("web01").count("bb2") == rows
        assert lab.guest("sql01").checkdb("bb1")["ok"]
        assert lab.status()["failures"] == []


def test_restore_of_a_shared_volume(lab: Lab) -> None:
    """The steps of TR 6.7 for a CSV: role and VM away, disk offline, LUN put back, disk online, VM registered again."""
    door = lab.lab.guest("sql01")
    rows = door.insert("bb1", 30)
    door.flush()
    unique_id = _disk_of(lab)
    (vm,) = lab.run("hv1", "Get-VM", Name=["sql01"])
    identity = {"Id": vm["Id"]}
    with smhvlab.site.connect(lab.lab.profile) as site:
        storage = site.tools().storage
        lun = storage.luns_by_disk([unique_id])[unique_id]
        storage.ensure_snapshots([lun.volume], "before")
        assert door.insert("bb1", 30) == rows + 30
        for node, name in (("hv1", "sql01"), ("hv1", "app01"), ("hv2", "web01")):
            lab.run(node, "Stop-VM", Name=[name], TurnOff=True, Force=True)
        lab.run("hv1", "Remove-ClusterGroup", VMId=vm["Id"], RemoveResources=True, Force=True)
        lab.wires["hv1"].pair(("Get-VM", identity), ("Remove-VM", {"Force": True}))
        assert lab.run("hv2", "Test-Path", LiteralPath=[f"{CSV}\\sql01"]) == [True]
        lab.run("hv1", "Stop-ClusterResource", Name="Cluster Disk 3", Wait=120)
        assert lab.run("hv2", "Test-Path", LiteralPath=[f"{CSV}\\sql01"]) == [False]
        storage.restore_lun(lun, snapshot="before")
    lab.run("hv1", "Start-ClusterResource", Name="Cluster Disk 3")
    path = f"{CSV}\\sql01\\Virtual Machines\\{str(vm['Id']).upper()}.xml"
    assert lab.run("hv2", "Test-Path", LiteralPath=[path]) == [True]
    (back,) = lab.run("hv1", "Import-VM", Path=path, Register=True)
    assert back["Id"] == vm["Id"]
    lab.run("hv1", "Add-ClusterVirtualMachineRole", VMId=vm["Id"])
    lab.run("hv1", "Start-ClusterGroup", Name="sql01")
    assert door.count("bb1") == rows
    assert door.checkdb("bb1")["ok"]
    lab.run("hv2", "Start-ClusterGroup", Name="web01")
    assert lab.lab.guest("web01").checkdb("aa1")["ok"]
