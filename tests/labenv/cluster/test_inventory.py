"""What is installed on a host, as an administrator reads it over the wire; set by topology."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path

import pytest

from labenv import topology
from labenv.topology import TopologyError
from labenv.windows.inventory import UNINSTALL, Adapter, Inventory, Port, Software, Value
from labenv.windows.records import ServiceRecord

from .bench import ClusterBench
from .conftest import Lab, Make

STANDALONE = (files("labenv") / "topologies" / "standalone.toml").read_text("utf-8")
GIVEN = """
[[inventory]]
hosts = ["hv1"]
hotfixes = ["KB1", "KB2"]
bitlocker = ['V:\\']
unmap = "on"

[[inventory.software]]
name = "SnapDrive"
version = "6.4.0.1"

[[inventory.port]]
name = "SnapManager for Hyper-V (Net.Tcp)"
port = 810

[[inventory.service]]
name = "Navssprv"
display_name = "Data ONTAP VSS Hardware Provider"
status = "Stopped"
start_type = "Disabled"

[[inventory.adapter]]
name = "ql2300"
model = "QLogic QLE2562"
driver = "9.1.9.47"
firmware = "5.06.05"
wwpn = "21:00:00:24:ff:00:00:01"

[[inventory.registry]]
path = 'HKLM:\\SYSTEM\\CurrentControlSet\\Services\\OnCommandHyperV\\Parameters'
name = "vss_retry"
value = "5"
type = "DWord"
"""


def test_a_topology_says_what_is_unusual(tmp_path: Path) -> None:
    """Tables of the topology file become the host's inventory; unknown hosts and fields are named."""
    path = tmp_path / "mine.toml"
    path.write_text(STANDALONE + GIVEN, "utf-8")
    found = topology.load(str(path)).inventory_of("hv1")
    assert found.software == (Software("SnapDrive", "6.4.0.1"),)
    assert found.port == (Port("SnapManager for Hyper-V (Net.Tcp)", 810),)
    assert found.service[0].start_type == "Disabled"
    assert found.adapter[0].model == "QLogic QLE2562"
    assert found.registry[0].value == "5"
    assert topology.load("standalone").inventory_of("hv1") == Inventory()
    for old, new in (('hosts = ["hv1"]', 'hosts = ["hv9"]'), ("hotfixes =", "hotfixs =")):
        path.write_text(STANDALONE + GIVEN.replace(old, new), "utf-8")
        with pytest.raises(TopologyError, match=r"hv9|hotfixs"):
            topology.load(str(path))


def test_what_is_usual_for_an_era(make: Make) -> None:
    """A host of 2012 has SnapDrive 6.5 and Host Utilities; the ports of TR 5.3 are open; unmap is off (TR 11.1)."""
    bench = make()

    async def go() -> None:
        await bench.connect()
        names = {}
        for key in await bench.run("hv1", "Get-ChildItem", Path=UNINSTALL):
            (values,) = await bench.run("hv1", "Get-ItemProperty", Path=f"HKLM:\\{key.text.partition(chr(92))[2]}")
            names[bench.value(values, "DisplayName")] = bench.value(values, "DisplayVersion")
        assert names["SnapDrive"].startswith("6.5.")
        assert names["NetApp Windows Host Utilities"].startswith("6.0.1")
        filters = await bench.run("hv1", "Get-NetFirewallPortFilter")
        rules = {bench.value(r, "InstanceID"): r for r in await bench.run("hv1", "Get-NetFirewallRule")}
        open_ports = {
            bench.value(f, "LocalPort")
            for f in filters
            if bench.value(rules[bench.value(f, "InstanceID")], "Enabled") == "True"
        }
        assert {"808", "4094", "4095", "5986"} <= open_ports
        assert len(await bench.run("hv1", "Get-HotFix")) == 5
        (fix,) = await bench.run("hv1", "Get-HotFix", Id="KB2770917")
        assert bench.value(fix, "HotFixID") == "KB2770917"
        error = await bench.fails("hv1", "Get-HotFix", Id="KB1")
        assert error.error_id == "GetHotFixNoEntriesFound"
        path = "HKLM:\\SYSTEM\\CurrentControlSet\\Control\\FileSystem"
        (values,) = await bench.run("hv1", "Get-ItemProperty", Path=path)
        assert bench.value(values, "DisableDeleteNotification") == 1
        (dsm,) = await bench.run("hv1", "Get-CimInstance", ClassName="MPIO_REGISTERED_DSM", Namespace="root/wmi")
        assert dsm.properties["DsmParameters"].items[0].properties["DsmName"] == "MSDSM"
        claimed = await bench.run("hv1", "Get-MSDSMSupportedHW", VendorId="NETAPP")
        assert bench.value(claimed[0], "ProductId") == "LUN C-Mode"
        assert await bench.run("hv1", "Get-MSDSMGlobalDefaultLoadBalancePolicy") == ["RR"]
        assert await bench.run("hv1", "Get-MSDSMAutomaticClaimSettings") == [{"SAS": False, "iSCSI": True}]
        assert await bench.show("hv1", "Get-MPIOSetting", "PDORemovePeriod") == 130
        assert await bench.run("hv1", "Get-MPIOAvailableHW") == []
        assert await bench.run("hv1", "Get-CimInstance", ClassName="MSFC_FCAdapterHBAAttributes") == []

    asyncio.run(go())


def test_what_a_topology_changes(make: Make) -> None:
    """Versions, a closed port, a disabled service, adapters, registry values and encryption, and none of a kind."""
    given = Inventory(
        software=(Software("SnapDrive", "6.4.0.1"), Software("NetApp Windows Host Utilities", "")),
        hotfixes=("none",),
        port=(Port("SnapManager for Hyper-V (Net.Tcp)", 808, enabled=False), Port("SnapDrive web service (HTTP)", 0)),
        service=(ServiceRecord("Navssprv", "Data ONTAP VSS Hardware Provider", "Stopped", "Disabled"),),
        adapter=(Adapter("ql2300", "QLogic QLE2562", "9.1.9.47", "5.06.05", "21:00:00:24:ff:00:00:01"),),
        registry=(Value("HKLM:\\SOFTWARE\\Mine", "x", "1", "DWord"),),
        bitlocker=("C:\\ClusterStorage\\Volume1",),
        dsm="Data ONTAP DSM",
    )
    bench = make(inventory=given)

    async def go() -> None:
        folder = await bench.standard()
        assert await bench.run("hv1", "Get-HotFix") == []
        (rule,) = await bench.run("hv1", "Get-NetFirewallRule", DisplayName="SnapManager for Hyper-V (Net.Tcp)")
        assert bench.value(rule, "Enabled") == "False"
        error = await bench.fails("hv1", "Get-NetFirewallRule", DisplayName="SnapDrive web service (HTTP)")
        assert error.error_id == "CmdletizationQuery_NotFound_DisplayName"
        assert bench.value((await bench.run("hv1", "Get-Service", Name="Navssprv"))[0], "StartType") == "Disabled"
        error = await bench.fails("hv1", "Start-Service", Name="Navssprv")
        assert error.error_id == "CouldNotStartService"
        await bench.run("hv1", "Set-Service", Name="Navssprv", StartupType="Manual")
        await bench.run("hv1", "Start-Service", Name="Navssprv")
        assert await bench.show("hv1", "Get-Service", "Status", Name="Navssprv") == "Running"
        (adapter,) = await bench.run("hv1", "Get-CimInstance", ClassName="MSFC_FCAdapterHBAAttributes")
        assert bench.value(adapter, "FirmwareVersion") == "5.06.05"
        (values,) = await bench.run("hv1", "Get-ItemProperty", Path="HKLM:\\SOFTWARE\\Mine")
        assert bench.value(values, "x") == 1
        assert len(await bench.run("hv1", "Get-MSDSMSupportedHW")) == 1
        (volume,) = await bench.run("hv1", "Get-BitLockerVolume", MountPoint=folder)
        assert bench.value(volume, "ProtectionStatus") == "On"
        error = await bench.fails("hv1", "Get-BitLockerVolume", MountPoint="Y:")
        assert error.error_id == "System.Runtime.InteropServices.COMException"
        (paths,) = await bench.run("hv1", "Get-CimInstance", ClassName="MPIO_DISK_INFO", Namespace="root/wmi")
        assert {d.properties["NumberPaths"] for d in paths.properties["DriveInfo"].items} == {2}

    asyncio.run(go())


def test_the_cluster_service_is_a_service(bench: ClusterBench) -> None:
    """Stop-Service ClusSvc takes the node out of the cluster, Start-Service brings it back."""

    async def go() -> None:
        await bench.standard()
        assert await bench.show("hv2", "Get-Service", "Status", Name="ClusSvc") == "Running"
        await bench.run("hv2", "Stop-Service", Name="ClusSvc", Force=True)
        assert await bench.show("hv1", "Get-ClusterNode", "State", Name="hv2") == "Down"
        assert await bench.show("hv2", "Get-Service", "Status", Name="ClusSvc") == "Stopped"
        await bench.run("hv2", "Start-Service", Name="ClusSvc")
        assert await bench.show("hv1", "Get-ClusterNode", "State", Name="hv2") == "Up"

    asyncio.run(go())


def test_over_the_wire(lab: Lab) -> None:
    """The inventory can be read with what smhvlab may send."""
    assert len(lab.run("hv1", "Get-HotFix")) == 5
    assert "808" in {str(f["LocalPort"]) for f in lab.run("hv2", "Get-NetFirewallPortFilter", All=True)}
    assert lab.show("hv1", "Get-Service", "Status", Name=["ClusSvc"]) == "Running"
    assert lab.show("hv1", "Get-BitLockerVolume", "VolumeStatus", MountPoint=["C:"]) == "FullyDecrypted"
