"""Disaster recovery between two failover clusters (TR 8: the steps for a cluster)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.dr.reverse import Way, drop_connection, find_connections
from smhvlab.dr.roles import Role, ensure_set, read_roles, recorded
from smhvlab.dr.sites import connect_pair, snapinfo_lun
from smhvlab.errors import NotAllowed
from smhvlab.site import Site
from tests.dr.scene import BACK, CLUSTERED, DOWN, backup, destroy_volumes, each, load, power, rows
from tests.flows.checks import picture

SET: dict[str, dict[str, Any]] = {
    "sql01": {"priority": 3000, "preferred": ("hv2", "hv1"), "failback": 1},
    "file01": {"possible": ("hv2",), "threshold": 3},
}
"""What an administrator has set of the first cluster's roles."""

VOLUME = "C:\\ClusterStorage\\Volume1\\"


@pytest.fixture(scope="module")
def _clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two clusters: ten rows replicated in a backup, twenty more lost with the first site."""
    with labs.start("dr-pair-cluster", state=tmp_path_factory.mktemp("clusters") / "lab") as lab:
        with connect_pair(lab.profile) as pair:
            pair.primary.create_dataset("All", CLUSTERED[:2])
            pair.primary.create_dataset("Files", CLUSTERED[2:])
            ensure_set(pair.primary, [replace(role, **SET.get(role.name, {})) for role in settings(pair.primary)])
            pair.primary.dr.protect().run_sync()
            load(pair, 10, vms=CLUSTERED)
            backup(pair, update=False)
            backup(pair, dataset="Files")
            lab.checkpoint("replicated")
            load(pair, 20, vms=CLUSTERED)
            power(lab, "A", on=False)
            lab.checkpoint("disaster")
        yield lab


@pytest.fixture
def clusters(_clusters: Lab) -> Iterator[Lab]:
    """That lab right after the disaster."""
    _clusters.restore("disaster")
    yield _clusters
    assert _clusters.status()["failures"] == [], "the lab itself failed during this test"


@pytest.fixture
def replicated(_clusters: Lab) -> Iterator[Lab]:
    """That lab before the disaster."""
    _clusters.restore("replicated")
    yield _clusters
    assert _clusters.status()["failures"] == [], "the lab itself failed during this test"


def settings(site: Site) -> tuple[Role, ...]:
    """What the roles of a site's VMs are set to."""
    return read_roles(site, [vm.id for vm in site.tools().nodes.vms() if vm.name in CLUSTERED])


@pytest.mark.tr("R-8-06", "R-8-09", "R-8-10")
def test_vms_become_roles_on_the_node_that_owns_the_cluster_group(clusters: Lab) -> None:
    """Disks arrive as the type that they were, at their mount points; another node than the owner is refused."""
    with connect_pair(clusters.profile) as pair:
        there = pair.secondary
        with pytest.raises(NotAllowed, match="hv4 does not own the cluster group: hv3 does") as caught:
            there.dr.connect_snapinfo(node="hv4").plan()
        assert "Move-ClusterGroup" in caught.value.next_action
        assert there.dr.connect_snapinfo().run_sync(accept=DOWN).result.merged
        with pytest.raises(NotAllowed, match="hv4 does not own"):
            there.dr.failover(node="hv4").plan()
        flow = there.dr.failover(node="hv3")
        (step,) = [row for row in flow.plan().steps if row.name == "add_roles"]
        assert "role sql01 of hvc2: priority 3000, preferred owners hv2, hv1 are no nodes here, failback" in step.items
        done = flow.run_sync(accept=DOWN).result
        assert done.sound
        assert rows(clusters, vms=CLUSTERED) == each(10, vms=CLUSTERED)
        assert roles(there) == dict.fromkeys(CLUSTERED, "hv3")
        made = {role.name: role for role in settings(there)}
        assert (made["sql01"].priority, made["sql01"].failback, made["app01"].priority) == (3000, 1, 2000)
        assert {made[vm].preferred + made[vm].possible for vm in CLUSTERED} == {()}  # those are no nodes here
        assert made["file01"].threshold == 3
        assert [volume.path for volume in there.tools().nodes.shared_volumes()] == [VOLUME]
        there.tools().host.run("Move-ClusterGroup", {"Name": "file01", "Node": "hv4"})
        assert roles(there)["file01"] == "hv4"
        assert rows(clusters, vms=CLUSTERED) == each(10, vms=CLUSTERED)
        assert {disk.host for disk in there.tools().nodes.disks() if "V:\\" in disk.access_paths} == {"hv4"}


def test_roles_are_rehearsed_as_copies_beside_them(clusters: Lab) -> None:
    """VMs of a shared volume and of a disk of their own are copied with new ids; roles, disks and rows stay."""
    with connect_pair(clusters.profile) as pair:
        there = pair.secondary
        there.dr.connect_snapinfo().run_sync(accept=DOWN)
        there.dr.failover().run_sync(accept=DOWN)
        load(pair, 3, at="secondary", vms=CLUSTERED)
        before = picture(there), roles(there), there.tools().nodes.shared_volumes()
        with pytest.raises(NotAllowed, match="hv4 does not have SnapInfo's disk"):
            there.dr.rehearse(copies=True, node="hv4").plan()
        done = there.dr.rehearse(copies=True, vms=["app01", "file01"]).run_sync().result
        assert (sorted(done.vms), done.sound, {f.rows for f in done.databases}) == (["app01", "file01"], True, {10})
        assert (picture(there), roles(there), there.tools().nodes.shared_volumes()) == before
        assert rows(clusters, vms=CLUSTERED) == each(13, vms=CLUSTERED)
        assert clusters.inspect.check() == []


def test_what_a_disaster_would_cost_clusters(replicated: Lab) -> None:
    """Each VM of each dataset has its newest backup that arrived, whatever node and type of disk it is on."""
    with connect_pair(replicated.profile) as pair:
        table = pair.primary.dr.what_if().set_index("vm")
        assert list(table.index) == list(CLUSTERED)
        assert [name.partition("_")[0] for name in table["backup"]] == ["All", "All", "Files"]
        assert (table["rpo"] > 0).all()
        assert set(table["finding"]) == {""}


@pytest.mark.long
def test_a_refused_setting_stops_no_failover(clusters: Lab) -> None:
    """A host that lets nobody set a role's properties still gets its VMs, and the result says what is left to do."""
    clusters.faults.set("windows.cmdlet", "error", match={"cmdlet": "Set-CimInstance"}, code="Denied")
    with connect_pair(clusters.profile) as pair:
        there = pair.secondary
        there.dr.connect_snapinfo().run_sync(accept=DOWN)
        done = there.dr.failover().run_sync(accept=DOWN).result
        assert done.sound
        assert "what the roles were set to is left to do" in str(done)
        assert roles(there) == dict.fromkeys(CLUSTERED, "hv3")


def test_a_damaged_record_of_roles_costs_the_record_only(replicated: Lab) -> None:
    """What cannot be read is passed over for what was recorded before; a failover does not need it."""
    with connect_pair(replicated.profile) as pair:
        snapinfo = pair.primary.tools().snapinfo
        good = recorded(snapinfo)
        assert {role.name for role in good["hvc1"]} == set(CLUSTERED)
        for name in ("hvc1\\9999.json", "hvc1\\notes.txt", "stray.json"):
            path = f"{snapinfo.folder()}\\Roles\\{name}"
            snapinfo.host.run("Set-Content", {"LiteralPath": path, "Value": "[{}]"})
        assert recorded(snapinfo) == good


@pytest.mark.long
@pytest.mark.tr("R-8-10", "R-8-14", "R-8-15")
@pytest.mark.parametrize("own_snapinfo", [True, False])
def test_clusters_fail_back_and_return_to_normal(clusters: Lab, own_snapinfo: bool) -> None:
    """Every row of the second site comes home to roles of the first; the second is left without role, VM or disk."""
    with connect_pair(clusters.profile) as pair:
        first, second = pair.primary, pair.secondary
        if not own_snapinfo:
            snapinfo, _ = snapinfo_lun(second)
            (connection,) = find_connections(second, {(snapinfo.svm, snapinfo.volume.name)})
            drop_connection(second, connection)
        info = second.dr.connect_snapinfo().run_sync(accept=DOWN).result
        assert info.merged is own_snapinfo
        second.dr.failover().run_sync(accept=DOWN)
        load(pair, 5, at="secondary", vms=CLUSTERED)
        ensure_set(second, [replace(role, priority=1000) for role in settings(second) if role.name == "app01"])
        power(clusters, "A", on=True)
        back = second.dr.reverse().run_sync(accept=BACK).result
        assert {r.way for r in back.returns if r.holds == "VMs"} == {Way.RESYNC}
        assert roles(first) == {}
        backup(pair, at="secondary")
        home = first.dr.failback().run_sync(accept={"downtime"}).result
        assert home.sound
        assert rows(clusters, vms=CLUSTERED) == each(15, vms=CLUSTERED)
        assert set(roles(first)) == set(CLUSTERED)
        found = {role.name: replace(role, vm="", name="") for role in settings(first)}
        assert found == {name: Role("", "", **SET.get(name, {"priority": 1000})) for name in CLUSTERED}
        assert len(first.backups()) == 3
        normal = second.dr.return_to_normal().run_sync(accept={"give-up"}).result
        assert {m.state for m in normal.mirrors} == {"snapmirrored"}
        assert (len(second.vms()), roles(second), second.tools().nodes.shared_volumes()) == (0, {}, [])
        assert first.backup("All").run_sync().result.backup.vms
    assert clusters.inspect.check() == []


@pytest.mark.long
@pytest.mark.tr("R-8-12")
@pytest.mark.parametrize("stayed", [False, True])
def test_a_destroyed_cluster_gets_everything_on_new_storage(clusters: Lab, stayed: bool) -> None:
    """The cluster still has disks by the GUIDs of LUNs that are gone: those that come home take their place."""
    with connect_pair(clusters.profile) as pair:
        pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
        pair.secondary.dr.failover().run_sync(accept=DOWN)
        load(pair, 5, at="secondary", vms=CLUSTERED)
    power(clusters, "A", on=True, parts="both" if stayed else "storage")
    with connect_pair(clusters.profile) as pair:
        destroy_volumes(pair.primary, ("csv1", "vm_file01", "snapinfo"))
    if not stayed:
        power(clusters, "A", on=True, parts="hosts")
    clusters.clock.advance(60)
    with connect_pair(clusters.profile) as pair:
        done = pair.secondary.dr.reverse().run_sync(accept={"stop-primary"} if stayed else ()).result
        assert {entry.way for entry in done.returns} == {Way.INITIALISE}
        assert pair.primary.dr.failback().run_sync(accept={"downtime"}).result.sound
        assert rows(clusters, vms=CLUSTERED) == each(15, vms=CLUSTERED)
        assert [volume.state for volume in pair.primary.tools().nodes.shared_volumes()] == ["Online"]


@pytest.mark.long
def test_a_cluster_is_rehearsed_and_left_on_purpose(replicated: Lab) -> None:
    """Clones are shared volumes and cluster disks for the time of a rehearsal; then the VMs move with nothing lost."""
    with connect_pair(replicated.profile) as pair:
        first, second = pair.primary, pair.secondary
        before = picture(second)
        done = second.dr.rehearse().run_sync().result
        assert {f"{f.vm}/{f.database}": f.rows for f in done.databases} == each(10, vms=CLUSTERED)
        after = picture(second)
        assert (after.vms, after.volumes, after.luns, after.disks) == (
            before.vms,
            before.volumes,
            before.luns,
            before.disks,
        )
        assert second.tools().nodes.shared_volumes() == []
        load(pair, 7, vms=CLUSTERED)
        for dataset in ("All", "Files"):
            first.dr.migrate(dataset).run_sync()
        accept = {"primary-up"}
        second.dr.connect_snapinfo().run_sync(accept=accept)
        assert second.dr.failover().run_sync(accept=accept).result.sound
        assert rows(replicated, vms=CLUSTERED) == each(17, vms=CLUSTERED)
        second.dr.reverse().run_sync(accept=BACK)
        assert first.dr.failback().run_sync(accept={"downtime"}).result.sound
        assert set(roles(first)) == set(CLUSTERED)


@pytest.mark.long
def test_half_a_cluster_that_is_dead_is_fenced(replicated: Lab) -> None:
    """Nodes whose storage is gone have their VMs switched off, and the cluster leaves them so."""
    power(replicated, "A", on=False, parts="storage")
    with connect_pair(replicated.profile) as pair:
        accept = {"primary-storage-down"}
        pair.secondary.dr.connect_snapinfo().run_sync(accept=accept)
        assert pair.secondary.dr.failover().run_sync(accept=accept).result.sound
        replicated.clock.advance(600)
        states = pair.primary.vms().set_index("name")["state"]
        assert set(states[list(CLUSTERED)]) == {"OffCritical"}


def roles(site: Site) -> dict[str, str]:
    """The VM roles of a site's cluster, and their nodes."""
    records = site.tools().host.run("Get-ClusterGroup", select=("Name", "GroupType", "OwnerNode"))
    return {
        str(r["Name"]): str(r["OwnerNode"] if isinstance(r["OwnerNode"], str) else r["OwnerNode"]["Name"])
        for r in records
        if str(r["GroupType"]) == "VirtualMachine"
    }
