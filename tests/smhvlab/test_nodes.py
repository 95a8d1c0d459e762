"""A site whose hosts are the nodes of a failover cluster."""

from __future__ import annotations

import msgspec
import pytest

import smhvlab.site
from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.site import Site
from smhvlab.snapinfo import Backup
from smhvlab.wires.control import Wire


def test_tables_tell_of_every_node(cluster_site: Site) -> None:
    """VMs are told with the node that has them, disks with the node that has them online, VHDs down to their LUN."""
    vms = cluster_site.vms().set_index("name")
    assert dict(vms["host"]) == {"app01": "hv1", "file01": "hv2", "golden": "hv1", "sql01": "hv1", "web01": "hv2"}
    found = cluster_site.storage_map().drop_duplicates("vm").set_index("vm")
    assert dict(found["lun"]) == {
        "app01": "/vol/csv1/csv1",
        "file01": "/vol/vm_file01/file01",
        "golden": "/vol/golden/golden",
        "sql01": "/vol/csv1/csv1",
        "web01": "/vol/csv1/csv1",
    }
    disks = cluster_site.disks()
    online = disks[~disks["offline"]].groupby("unique_id")["host"].nunique()
    assert set(online) == {1}
    assert list(cluster_site.check()["ok"].unique()) == [True]


def test_a_node_is_opened_when_it_is_used(cluster_site: Site) -> None:
    """The host requests of a table depend on the nodes, and a table of the array asks no host."""
    cluster_site.volumes()
    assert not [entry for entry in cluster_site.log.entries if entry.wire is Wire.POWERSHELL]
    cluster_site.vms()
    before = len(cluster_site.log.entries)
    cluster_site.vms()
    assert len(cluster_site.log.entries) - before == 5


def test_a_dataset_holds_vms_of_several_nodes(cluster_site: Site) -> None:
    """VMs are found on whichever node they are, and one that is nowhere is named."""
    made = cluster_site.create_dataset("Both", ["sql01", "web01"])
    assert [member.name for member in made.members] == ["sql01", "web01"]
    with pytest.raises(NotFound, match="nobody"):
        cluster_site.create_dataset("None", ["nobody"])
    nodes = cluster_site.tools().nodes
    owner = nodes.of_vm(made.members[1].id)
    assert owner is not None
    assert owner.name == "hv2"
    assert nodes.of_vm("00000000-0000-0000-0000-000000000000") is None
    with pytest.raises(NotFound, match="hv9"):
        nodes["hv9"]


def test_snapinfo_is_found_where_its_disk_is(cluster_site: Site) -> None:
    """The group of the SnapInfo disk moves to the other node; datasets are still read, and written there."""
    cluster_site.create_dataset("Before", ["sql01"])
    tools = cluster_site.tools()
    assert tools.nodes.own().name == "hv1"
    tools.host.run("Move-ClusterGroup", {"Name": "smhv_snapinfo", "Node": "hv2"})
    assert list(cluster_site.datasets()["name"]) == ["Before"]
    assert tools.nodes.own().name == "hv2"
    cluster_site.create_dataset("After", ["web01"])
    assert list(cluster_site.datasets()["name"]) == ["After", "Before"]


@pytest.mark.tr("R-5.4-13")
def test_another_snapinfo_folder_begins_empty(cluster_site: Site) -> None:
    """Files of the earlier folder are not moved: the list of datasets is empty, on whichever node one looks."""
    cluster_site.create_dataset("Before", ["sql01"])
    cluster_site.set_snapinfo("S:\\Other")
    assert len(cluster_site.datasets()) == 0


def test_a_node_that_is_down_is_left_out(cluster_site: Site, cluster_lab: Lab) -> None:
    """The cluster says that a node is Down: its VMs are found on the others, and the site goes on."""
    cluster_site.create_dataset("Both", ["sql01", "web01"])
    cluster_lab.host("hv1").power_off()
    cluster_lab.clock.advance(300)
    vms = cluster_site.vms().set_index("name")
    assert set(vms["host"]) == {"hv2"}
    assert {"sql01", "web01"} <= set(vms.index)
    assert list(cluster_site.datasets()["name"]) == ["Both"]


def test_shared_volumes_are_told_with_their_owner(cluster_site: Site) -> None:
    """Resource, path, owner and access of a shared volume; a stand-alone host has none."""
    (volume,) = cluster_site.tools().nodes.shared_volumes()
    assert (volume.path, volume.owner, volume.state) == ("C:\\ClusterStorage\\Volume1\\", "hv1", "Online")
    assert not volume.redirected
    host = cluster_site.tools().host
    host.run("Suspend-ClusterResource", {"Name": volume.resource, "RedirectedAccess": True, "Force": True})
    assert cluster_site.tools().nodes.shared_volumes()[0].redirected


def test_one_of_two_sites_is_connected_by_its_name() -> None:
    """Each site of a pair has its own storage cluster and host, and journals of its own name."""
    with labs.start("dr-pair") as lab:
        for name, cluster, vms in (("A", "cluster1", 4), ("B", "cluster2", 0)):
            with smhvlab.site.connect(lab.profile, site=name) as site:
                assert site.profile.storage.name == cluster
                assert site.name == f"dr-pair-{name}"
                assert len(site.vms()) == vms
        with pytest.raises(NotFound, match="on a site C"):
            smhvlab.site.connect(lab.profile, site="C")


OLD = """{"name": "Apps_03-04-2013_08.00.00", "dataset": "Apps", "time": "2013-03-04T08:00:00+00:00",
 "consistency": "crash", "common_point": true, "host": "hv1",
 "vms": [{"id": "i", "name": "app01", "state": "Running", "generation": 1, "configuration": "V:\\\\app01",
          "configuration_file": "V:\\\\app01\\\\Virtual Machines\\\\i.xml", "disks": []}],
 "luns": [{"svm": "svm1", "volume": "vm_shared", "volume_uuid": "u", "snapshot": "Apps_03-04-2013_08.00.00",
           "path": "/shared", "lun_uuid": "l", "serial_number": "s", "unique_id": "d", "disk_guid": "g",
           "access_path": "V:\\\\"}], "evidence": ["Crash-consistent."]}"""


def test_records_of_an_earlier_format_are_read() -> None:
    """A record that knows nothing of engines, sets and hosts has none, and is still a backup."""
    backup = msgspec.json.decode(OLD, type=Backup)
    assert (backup.engine, backup.sets, backup.vms[0].evidence, backup.luns[0].shared) == ("", (), None, False)
    assert backup.lun_of("V:\\app01\\x.vhd") == backup.luns[0]


def test_a_dataset_needs_a_vm(cluster_site: Site) -> None:
    """On a cluster, too, a dataset of nothing is refused."""
    with pytest.raises(NotAllowed):
        cluster_site.create_dataset("None", [])
