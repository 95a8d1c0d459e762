"""Storage from nothing to a formatted disk: array, initiator group, sessions, LUN, cluster (TR 2.2 and appendix)."""

from __future__ import annotations

from typing import Any

import pytest
from netapp_ontap.resources.license_package import LicensePackage

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import NameTaken, NotAllowed, NotFound, SmhvLabError
from smhvlab.mount.clusterdisk import ClusterDisks
from smhvlab.provisioning.array import ArraySetup, NewVolume
from smhvlab.site import Site
from tests.flows.checks import Picture, blocks_sound, picture

pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's

BARE: dict[str, Any] = {
    "size": "60GB",
    "aggregate": "aggr3",
    "disks": 60,
    "svm": "infraserver",
    "addresses": ["10.10.2.21", "10.10.2.22"],
    "management": "10.10.0.25",
}
"""Storage of which nothing is there yet."""


def ground(site: Site) -> tuple[Picture, tuple[object, ...]]:
    """The site, and what is below its volumes: aggregates, Vservers, LIFs, initiator groups, sessions, cluster."""
    tools = site.tools()
    setup = ArraySetup(tools.storage)
    svms = setup.svms()
    sessions = [
        (node.name, sorted(str(r["TargetNodeAddress"]) for r in node.host.run("Get-IscsiSession")))
        for node in tools.nodes.up()
    ]
    portals = [sorted(str(r["TargetPortalAddress"]) for r in tools.host.run("Get-IscsiTargetPortal"))]
    cluster: list[object] = []
    if tools.nodes.cluster is not None:
        disks = ClusterDisks(tools.host)
        resources = sorted(str(r["Name"]) for r in tools.host.run("Get-ClusterResource", select=("Name",)))
        cluster = [disks.groups(), disks.witness(), resources, tools.nodes.shared_volumes()]
    return picture(site), (
        [aggregate.name for aggregate in setup.aggregates()],
        [(svm, setup.target(svm), setup.portals(svm), tools.storage.igroups(svm)) for svm in svms],
        sessions,
        portals,
        cluster,
    )


@pytest.mark.tr("R-2.2-03", "R-2.2-04", "R-2.2-05", "R-2.2-06", "R-AC-01")
def test_from_an_array_without_a_vserver_to_a_formatted_disk(site: Site, lab: Lab) -> None:
    """Aggregate, Vserver, iSCSI service, LIFs, volume, initiator group, sessions, then LUN and disk; files stay."""
    with pytest.raises(NotFound):
        site.create_disk("golden2", size="30GB", at="M:").plan()
    record = site.prepare_storage("golden2", **BARE).run_sync()
    assert [step.status.value for step in record.steps] == ["done"] * 7
    setup = ArraySetup(site.tools().storage)
    (volume,) = setup.volumes_named("golden2")
    details = site.tools().storage.volume_details(
        volume, "guarantee.type,snapshot_policy.name,space.snapshot.reserve_percent,aggregates.name"
    )
    assert details["guarantee"]["type"] == "none"
    assert details["snapshot_policy"]["name"] == "none"
    assert details["space"]["snapshot"]["reserve_percent"] == 0
    assert details["aggregates"][0]["name"] == "aggr3"
    made = site.create_disk("golden2", size="30GB", at="M:").run_sync().result
    assert made.lun == "/vol/golden2/golden2"
    host = site.tools().host
    host.run("Set-Content", {"LiteralPath": "M:\\a.txt", "Value": "kept", "Encoding": "UTF8", "NoNewline": True})
    host.run("Write-VolumeCache", {"DriveLetter": "M"})
    lab.checkpoint("stored")
    lab.restore("stored")  # a power cut of the host: its sessions come back by themselves
    with smhvlab.site.connect(lab.profile) as again:
        read = {"LiteralPath": "M:\\a.txt", "Raw": True, "Encoding": "UTF8"}
        assert again.tools().host.run("Get-Content", read) == ["kept"]
    blocks_sound(lab)


@pytest.mark.tr("R-2.2-05")
def test_a_lun_is_connected_only_over_a_session(site: Site) -> None:
    """Without an iSCSI session to the Vserver the disk is refused, and a session is what is asked for."""
    setup = ArraySetup(site.tools().storage)
    setup.ensure_svm("other", aggregate="aggr1", mark="")
    setup.ensure_service("other", again=False)
    site.prepare_storage("first", size="10GB").run_sync()
    setup.ensure_volume(NewVolume("second", "other", "aggr1", 10 << 30, True, "test"))
    site.create_disk("first", size="5GB", at="M:").plan()
    with pytest.raises(NotAllowed) as caught:
        site.create_disk("second", size="5GB", at="M:").plan()
    assert "no iSCSI session" in str(caught.value)


@pytest.mark.tr("R-AC-02", "R-T2-01")
def test_a_vserver_is_shown_as_the_tr_shows_it(site: Site) -> None:
    """Root volume, aggregates, Snapshot policy, protocols and state come from the array, in the TR's words."""
    fields = site.vserver("svm1").set_index("field")["value"]
    assert fields["Root Volume"] == "svm1_root"
    assert fields["Aggregate"] == "aggr1"
    assert fields["List of Aggregates Assigned"] == "aggr1, aggr2"
    assert fields["Snapshot Policy"] == "default"
    assert fields["Vserver Admin State"] == "running"
    assert fields["Allowed Protocols"] == "iscsi"
    assert fields["iSCSI Target"].startswith("iqn.")
    with pytest.raises(NotFound):
        site.vserver("nobody")
    assert list(site.aggregates()["name"]) == ["aggr1", "aggr2"]
    lifs = site.lifs().set_index("name")
    assert lifs.loc["svm1_iscsi_2", "node"] == "cluster1-02"
    assert set(fields["LIFs"].split(", ")) == set(lifs[lifs["svm"] == "svm1"].index)


@pytest.mark.tr("R-T3-01", "R-T3-02", "R-T3-03", "R-2.2-07")
def test_the_container_of_a_disk_is_weighed_by_its_use(site: Site) -> None:
    """Backup and checkpoints rule out pass-through, room the fixed VHD, 2040 GB every VHD, an image all but fixed."""

    def fitting(size: str, **use: bool) -> list[str]:
        found = site.containers(size, at="V:", **use)
        return list(found[found["fits"]]["container"])

    fixed, dynamic, differencing = "fixed VHD", "dynamically expanding VHD", "differencing VHD"
    assert fitting("20GB") == [fixed, dynamic, differencing]
    assert fitting("20GB", golden=True) == [fixed]
    assert fitting("500GB") == [dynamic, differencing]
    assert fitting("3TB", backup=False) == ["pass-through disk"]
    assert fitting("20GB", backup=False) == ["pass-through disk", fixed, dynamic, differencing]
    assert fitting("20GB", backup=False, checkpoints=True) == [fixed, dynamic, differencing]
    grown = site.containers("500GB", at="V:").set_index("container")["against"]
    assert "pauses" in grown[dynamic]
    with pytest.raises(NotAllowed):
        site.containers("a lot", at="V:")


def test_what_exists_is_used_and_told(site: Site) -> None:
    """On a Vserver that serves the host already only the volume is made, on the aggregate with the most room."""
    plan = site.prepare_storage("vmstore", size="60GB").plan()
    made = [row.title for row in plan.steps if not row.skipped]
    assert made == ["Create the volume"]
    assert plan.state.aggregate == "aggr2"


@pytest.mark.parametrize(
    ("cmdlet_or_path", "kind"),
    [
        ("Connect-IscsiTarget", "cmdlet"),
        pytest.param("/storage/volumes", "POST", marks=pytest.mark.long),
        pytest.param("/network/ip/interfaces", "POST", marks=pytest.mark.long),
    ],
)
def test_a_failure_leaves_the_array_as_it_was(site: Site, lab: Lab, cmdlet_or_path: str, kind: str) -> None:
    """Whichever step fails, aggregate, Vserver, LIFs, volume, initiator group and sessions are taken back."""
    before = ground(site)
    if kind == "cmdlet":
        lab.faults.set("windows.cmdlet", "error", match={"cmdlet": cmdlet_or_path}, code="OperationFailed", times=1)
    else:
        lab.faults.set("ontap.request", "error", match={"method": kind, "path": f"*{cmdlet_or_path}"}, times=1)
    with pytest.raises(SmhvLabError):
        site.prepare_storage("golden2", **BARE).run_sync()
    assert ground(site) == before


@pytest.mark.parametrize(
    ("volume", "changes", "error", "said"),
    [
        ("vm_shared", {"size": "10GB"}, NameTaken, "vm_shared"),
        ("1st", {"size": "10GB"}, NotAllowed, "'1st'"),
        ("v", {"size": "many"}, NotAllowed, "'many'"),
        ("v", {"size": "-4GB"}, NotAllowed, "'-4GB'"),
        ("v", {"size": "900GB", "thin": False}, NotAllowed, "too small"),
        ("v", {"size": "9GB", "aggregate": "aggr9"}, NotFound, "aggr9"),
        ("v", {"size": "9GB", "aggregate": "aggr1", "disks": 4}, NameTaken, "aggr1"),
        ("v", {"size": "9GB", "disks": 4}, NotAllowed, "needs a name"),
        ("v", {"size": "9GB", "aggregate": "aggr9", "disks": 4, "node": "nobody"}, NotFound, "nobody"),
        ("v", {"size": "9GB", "svm": "nobody"}, NotFound, "nobody"),
        ("v", {"size": "9GB", "svm": "new", "addresses": ["10.10.1.21"]}, NameTaken, "svm1_iscsi_1"),
        ("v", {"size": "9GB", "svm": "new", "addresses": "10.10.1.900"}, NotAllowed, "10.10.1.900"),
        ("v", {"size": "9GB", "svm": "new", "addresses": "10.10.9.1, 10.10.9.1"}, NameTaken, "10.10.9.1"),
        ("v", {"size": "9GB", "management": "10.10.9.9"}, NameTaken, "svm1_mgmt"),
    ],
)
def test_impossible_storage_is_refused_by_name(
    site: Site, volume: str, changes: dict[str, Any], error: type[SmhvLabError], said: str
) -> None:
    """One error that names what does not fit and what to do; nothing is changed."""
    with pytest.raises(error) as caught:
        site.prepare_storage(volume, **changes).run_sync()
    assert said in str(caught.value)
    assert caught.value.next_action
    assert volume == "vm_shared" or volume not in set(site.volumes()["name"])


def test_a_missing_licence_is_refused_and_what_is_a_risk_is_asked(site: Site, lab: Lab) -> None:
    """No licence for iSCSI is a refusal; an aggregate that can become full, and a host without MPIO, are questions."""
    lab.faults.set("windows.cmdlet", "error", match={"cmdlet": "Get-CimInstance"}, code="InvalidClass", times=1)
    plan = site.prepare_storage("v", size="9GB").plan()
    assert [question.key for question in plan.confirmations] == ["no-mpio"]
    plan = site.prepare_storage("big", size="900GB").plan()
    assert [question.key for question in plan.confirmations] == ["overcommit"]
    wire = site.tools().rest
    wire.wait([wire.remove(LicensePackage.from_dict({"name": "iscsi"}))])
    with pytest.raises(NotAllowed) as caught:
        site.prepare_storage("small", size="9GB").plan()
    assert "iSCSI" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"at": "V:"}, NameTaken, "V:\\"),
        ({"at": "Z:\\a"}, NotFound, "Z:"),
        ({"at": "nowhere"}, NotAllowed, "'nowhere'"),
        ({}, NotAllowed, "drive letter"),
        ({"at": "M:", "size": "200GB"}, NotAllowed, "too small"),
        ({"at": "M:", "lun": "shared"}, NameTaken, "/vol/vm_shared/shared"),
        ({"at": "M:", "lun": "a/b"}, NotAllowed, "'a/b'"),
        ({"csv": "Volume2"}, NotAllowed, "failover cluster"),
        ({"quorum": True}, NotAllowed, "failover cluster"),
        ({"at": "M:", "volume": "nothing"}, NotFound, "nothing"),
    ],
)
def test_an_impossible_disk_is_refused_by_name(
    site: Site, changes: dict[str, Any], error: type[SmhvLabError], said: str
) -> None:
    """One error that names what does not fit and what to do; nothing is changed."""
    before = set(site.luns()["name"])
    given = {"volume": "vm_shared", "size": "9GB", **changes}
    with pytest.raises(error) as caught:
        site.create_disk(given.pop("volume"), **given).run_sync()
    assert said in str(caught.value)
    assert caught.value.next_action
    assert set(site.luns()["name"]) == before


@pytest.mark.tr("R-11.2-01", "R-11.2-02", "R-11.2-03", "R-AH-01", "R-AH-06")
def test_the_disks_of_a_cluster(cluster_site: Site, cluster_lab: Lab) -> None:
    """A thin LUN becomes a shared volume with another GUID than before, one the witness, one a group's disk."""
    site, tools = cluster_site, cluster_site.tools()
    site.prepare_storage("vmstore", size="90GB").run_sync()
    owner = ClusterDisks(tools.host).groups()["Available Storage"]
    other = next(name for name in tools.nodes if name != owner)
    with pytest.raises(NotAllowed) as caught:
        site.create_disk("vmstore", size="30GB", csv="Volume2", host=other).plan()
    assert f"owned by {owner}" in str(caught.value)
    with pytest.raises(NotAllowed):
        site.create_disk("vmstore", size="1GB", lun="witness", quorum=True, at="W:").plan()
    shared = site.create_disk("vmstore", size="30GB", csv="Volume2").run_sync().result
    assert shared.host == owner
    assert shared.volume_guid.startswith("\\\\?\\Volume{")
    assert shared.shared_guid.startswith("\\\\?\\Volume{")
    assert shared.volume_guid != shared.shared_guid
    for node in tools.nodes.up():
        assert node.host.run("Test-Path", {"LiteralPath": "C:\\ClusterStorage\\Volume2\\"})[0]
    site.create_disk("vmstore", size="5GB", lun="info", group="info", new_group=True, at="M:").run_sync()
    assert ClusterDisks(tools.host).groups()["info"]
    flow = site.create_disk("vmstore", size="1GB", lun="witness", quorum=True)
    assert [question.key for question in flow.plan().confirmations] == ["witness"]
    made = flow.run_sync(accept={"witness"}).result
    assert ClusterDisks(tools.host).witness() == made.resource
    assert not ArraySetup(tools.storage).reserved(ArraySetup(tools.storage).volumes_named("vmstore")[0])
    assert cluster_lab.status()["failures"] == []


@pytest.mark.parametrize(
    ("what", "cmdlet"),
    [
        pytest.param({"csv": "Volume2"}, "Get-ClusterSharedVolumeState", marks=pytest.mark.long),
        ({"quorum": True}, "Set-ClusterQuorum"),
    ],
)
def test_a_disk_that_fails_late_leaves_the_cluster_as_it_was(
    cluster_site: Site, cluster_lab: Lab, what: dict[str, Any], cmdlet: str
) -> None:
    """Shared volume, resource, witness and LUN are taken back, and the witness is the one that it was before."""
    before = ground(cluster_site)
    cluster_lab.faults.set("windows.cmdlet", "error", match={"cmdlet": cmdlet}, code="OperationFailed", times=1)
    with pytest.raises(SmhvLabError):
        cluster_site.create_disk("quorum", size="500MB", lun="w2", **what).run_sync(accept={"witness"})
    assert ground(cluster_site) == before
