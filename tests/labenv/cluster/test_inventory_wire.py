"""A topology's inventory per node, and storage that only some nodes see, read as an administrator would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files

import pytest

from labenv import lab as labs
from labenv import topology
from labenv.topology import TopologyError
from labenv.windows.inventory import LICENCES, UNINSTALL

from .conftest import Lab, open_wires

BASE = (files("labenv") / "topologies" / "two-node-cluster.toml").read_text("utf-8")
GIVEN = """
[[disk]]                                  # only one node has a path to it (TR 11.3)
host = "hv1"
aggregate = "aggr1"
volume = "csv_half"
volume_size = "4GB"
lun = "csv_half"
lun_size = "2GB"
access_path = 'C:\\ClusterStorage\\Half\\'
label = "Half"
role = "csv"
nodes = ["hv1"]

[[inventory]]                             # every node
licence = ["SnapManager for Hyper-V", "SnapDrive"]
bitlocker = ['C:\\ClusterStorage\\Volume1']

[[inventory.software]]
name = "SnapDrive"
version = "6.5.0.5000"

[[inventory.adapter]]
name = "ql2300"
model = "QLogic QLE2562"
driver = "9.1.9.47"
firmware = "5.06.05"
wwpn = "21:00:00:24:ff:00:00:01"

[[inventory]]                             # and what is otherwise on one of them
hosts = ["hv2"]
hotfixes = ["KB2770917"]
dsm = "Data ONTAP DSM"
dsm_version = "4.0.2.1"

[[inventory.software]]
name = "SnapManager 1.2 for Hyper-V"
version = "1.1.0.2430"

[[inventory.software]]
name = "Microsoft .NET Framework 3.5"
version = ""

[[inventory.port]]
name = "SnapManager for Hyper-V (Net.Tcp)"
port = 809

[[inventory.port]]
name = "SnapDrive web service (HTTP)"
port = 4096

[[inventory.port]]
name = "SnapDrive web service (HTTPS)"
port = 4095
enabled = false

[[inventory.service]]
name = "OnCommandHyperV"
display_name = "SnapManager for Hyper-V"
status = "Stopped"
start_type = "Disabled"
"""


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes that are not alike."""
    path = tmp_path_factory.mktemp("unlike") / "unlike.toml"
    path.write_text(BASE + GIVEN, "utf-8")
    with labs.start(str(path)) as lab:
        wires = open_wires(lab)
        yield Lab(lab, wires)
        for wire in wires.values():
            wire.close()


def _software(lab: Lab, node: str) -> dict[str, str]:
    found = {}
    for key in lab.run(node, "Get-ChildItem", LiteralPath=UNINSTALL):
        name = str(key["PSChildName"])
        values = lab.run(node, "Get-ItemProperty", LiteralPath=f"{UNINSTALL}\\{name}")[0]
        found[str(values["DisplayName"])] = str(values["DisplayVersion"])
    return found


def _ports(lab: Lab, node: str) -> dict[str, tuple[str, str]]:
    rules = {str(r["InstanceID"]): r for r in lab.run(node, "Get-NetFirewallRule", All=True)}
    return {
        str(rules[str(f["InstanceID"])]["DisplayName"]): (
            str(f["LocalPort"]),
            str(rules[str(f["InstanceID"])]["Enabled"]),
        )
        for f in lab.run(node, "Get-NetFirewallPortFilter", All=True)
    }


@pytest.mark.tr("R-11.1-03")
def test_software_and_its_versions_differ_by_node(unlike: Lab) -> None:
    """What the general table says holds on both nodes, what the node's own says only there; none means missing."""
    first, second = _software(unlike, "hv1"), _software(unlike, "hv2")
    assert first["SnapDrive"] == second["SnapDrive"] == "6.5.0.5000"
    assert first["SnapManager 1.2 for Hyper-V"].startswith("1.2.")
    assert second["SnapManager 1.2 for Hyper-V"] == "1.1.0.2430"
    assert "Microsoft .NET Framework 3.5" in first
    assert "Microsoft .NET Framework 3.5" not in second
    assert len(unlike.run("hv1", "Get-HotFix")) == 5
    assert [h["HotFixID"] for h in unlike.run("hv2", "Get-HotFix")] == ["KB2770917"]


def test_ports_and_services_differ_by_node(unlike: Lab) -> None:
    """808, 4094 and 4095 are open on one node; on the other two have other numbers, and one is closed."""
    first, second = _ports(unlike, "hv1"), _ports(unlike, "hv2")
    smhv, http, https = (
        "SnapManager for Hyper-V (Net.Tcp)",
        "SnapDrive web service (HTTP)",
        "SnapDrive web service (HTTPS)",
    )
    assert [first[name] for name in (smhv, http, https)] == [("808", "True"), ("4094", "True"), ("4095", "True")]
    assert [second[name] for name in (smhv, http, https)] == [("809", "True"), ("4096", "True"), ("4095", "False")]
    assert unlike.show("hv1", "Get-Service", "Status", Name=["OnCommandHyperV"]) == "Running"
    assert unlike.show("hv2", "Get-Service", "StartType", Name=["OnCommandHyperV"]) == "Disabled"


def test_licences_adapters_dsm_and_encryption(unlike: Lab) -> None:
    """Licences of the host and of the array, HBAs with their driver, the DSM with its version, BitLocker on a CSV."""
    licences = unlike.run("hv2", "Get-ItemProperty", LiteralPath=LICENCES)[0]
    assert (licences["SnapDrive"], licences["SnapManager for Hyper-V"]) == ("Installed", "Installed")
    for node in ("hv1", "hv2"):
        adapter = unlike.run(node, "Get-CimInstance", ClassName="MSFC_FCAdapterHBAAttributes", Namespace="root/wmi")[0]
        assert (adapter["Model"], adapter["DriverVersion"]) == ("QLogic QLE2562", "9.1.9.47")
    (volume,) = unlike.run("hv1", "Get-BitLockerVolume", MountPoint=["C:\\ClusterStorage\\Volume1"])
    assert volume["ProtectionStatus"] == "On"
    for node, name in (("hv1", "MSDSM"), ("hv2", "Data ONTAP DSM")):
        dsm = unlike.run(node, "Get-CimInstance", ClassName="MPIO_REGISTERED_DSM", Namespace="root/wmi")[0]
        assert name in json.dumps(dsm["DsmParameters"], default=str)
    assert len(unlike.run("hv1", "Get-MSDSMSupportedHW")) > len(unlike.run("hv2", "Get-MSDSMSupportedHW"))


@pytest.mark.tr("R-11.3-01")
def test_a_shared_volume_that_one_node_has_no_path_to(unlike: Lab) -> None:
    """The other node reaches it through the owner only, and its disk is not among that node's disks."""
    states = unlike.run("hv1", "Get-ClusterSharedVolumeState")
    half = {str(s["Node"]): str(s["StateInfo"]) for s in states if "Half" in str(s["VolumeFriendlyName"])}
    assert half == {"hv1": "Direct", "hv2": "BlockRedirected"}
    first = {str(d["UniqueId"]) for d in unlike.run("hv1", "Get-Disk")}
    second = {str(d["UniqueId"]) for d in unlike.run("hv2", "Get-Disk")}
    assert len(first - second) == 3  # the system's, the golden image's, and this one


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('nodes = ["hv1"]\n\n[[inv', 'nodes = ["hv9"]\n\n[[inv', "hv9"),
        ('nodes = ["hv1"]\n\n[[inv', 'nodes = ["hv2"]\n\n[[inv', "its host too"),
    ],
)
def test_nodes_that_cannot_be(tmp_path_factory: pytest.TempPathFactory, old: str, new: str, says: str) -> None:
    """An unknown node, and a disk whose own host does not see it, are refused by name."""
    path = tmp_path_factory.mktemp("wrong") / "wrong.toml"
    path.write_text((BASE + GIVEN).replace(old, new), "utf-8")
    with pytest.raises(TopologyError, match=says):
        topology.load(str(path))
