"""Mounting backups on the nodes of a failover cluster, in three eras and at every kind of place (TR 6.8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.errors import NameTaken, NotAllowed, NotFound
from smhvlab.leftovers import leftovers
from smhvlab.mount.clusterdisk import ClusterDisks
from smhvlab.mount.image import Placement
from smhvlab.mount.mounts import Mounts
from smhvlab.site import Site
from tests.flows.checks import Picture, blocks_sound, picture
from tests.flows.conftest import Start

LETTER = "E:\\Docs\\letter.txt"
ERAS = ("2008r2", "2012", "2022")


@dataclass(frozen=True)
class Backed:
    """A cluster with an application-consistent backup of sql01 (on a shared volume) and one of file01 (on a disk)."""

    lab: labs.Lab
    shared: str
    dedicated: str


@pytest.fixture(scope="module")
def _backed() -> dict[str, Backed]:
    return {}


@pytest.fixture
def backed(start: Start, _backed: dict[str, Backed]) -> Callable[[str], Backed]:
    """Gives the cluster of an era as it was after its backups."""

    def begin(era: str) -> Backed:
        lab = start(f"two-node-cluster-{era}")
        if era in _backed:
            lab.restore("mounts")
            return _backed[era]
        names = {}
        with smhvlab.site.connect(lab.profile) as site:
            for vm in ("sql01", "file01"):
                lab.guest(vm).write_file(LETTER, "as it was", flush=True)
                site.create_dataset(f"Set_{vm}", [vm])
                names[vm] = site.backup(f"Set_{vm}").run_sync().result.backup.name
        lab.checkpoint("mounts")
        _backed[era] = Backed(lab, names["sql01"], names["file01"])
        return _backed[era]

    return begin


def clustered(site: Site) -> tuple[Picture, list[tuple[str, str]], list[str], list[str]]:
    """What a mount could leave behind on a cluster."""
    host = site.tools().host
    resources = sorted(
        (str(r["Name"]), str(r["State"])) for r in host.run("Get-ClusterResource", select=("Name", "State"))
    )
    groups = sorted(str(r["Name"]) for r in host.run("Get-ClusterGroup", select=("Name",)))
    states = host.run("Get-ClusterSharedVolumeState", select=("Name", "Node", "StateInfo"))
    shared = sorted(f"{r['Name']} {r['Node']} {r['StateInfo']}" for r in states)
    return picture(site), resources, groups, shared


PLACES: dict[str, tuple[dict[str, object], str, str]] = {
    "dedicated on the other node": ({"host": "hv2"}, "C:\\smhvlab\\", ""),
    "dedicated at a letter": ({"host": "hv2", "at": "M:"}, "M:\\", ""),
    "shared volume": ({"csv": True}, "C:\\ClusterStorage\\", ""),
    "new group at a letter": ({"group": "extra", "new_group": True, "at": "M:"}, "M:\\", "extra"),
    "new group at a folder": ({"group": "extra", "new_group": True}, "C:\\smhvlab\\", "extra"),
    "group of the disk below": ({"at": "S:\\inside"}, "S:\\inside\\", "smhv_snapinfo"),
}
DEFAULT = {("2008r2", "shared volume"), ("2008r2", "new group at a letter")}
CASES = [
    pytest.param(era, place, marks=() if (era, place) in DEFAULT else pytest.mark.long)
    for era in ERAS
    for place in PLACES
]


@pytest.mark.tr("R-6.8-03", "R-6.8-04", "R-6.8-05", "R-6.8-10")
@pytest.mark.parametrize(("era", "place"), CASES)
def test_a_cluster_s_node_takes_the_disk_as_asked(backed: Callable[[str], Backed], era: str, place: str) -> None:
    """The guest's file of then is read at that place; who should see the disk does; then nothing is left."""
    one = backed(era)
    arguments, path, group = PLACES[place]
    with smhvlab.site.connect(one.lab.profile) as site:
        before = clustered(site)
        nodes = site.tools().nodes
        for backup, vm in ((one.shared, "sql01"), (one.dedicated, "file01")):
            flow = site.mount(backup, guests=True, **arguments)  # type: ignore[arg-type]
            plan = flow.plan()
            assert plan.confirmations == ()  # the image was recovered, or a checkpoint made it consistent
            mounted = flow.run_sync(plan=plan).state
            image, host = mounted.image, nodes[mounted.host].host
            assert (image.access_path.startswith(path), image.group) == (True, group)
            lun = site.tools().storage.lun(image.lun, svm="svm1")
            seen = [disk.host for disk in nodes.disks() if disk.unique_id == lun.unique_id]
            assert sorted(seen) == (["hv2"] if image.placement is Placement.DEDICATED else ["hv1", "hv2"])
            if image.placement is Placement.SHARED:
                for node in nodes.up():
                    assert node.host.run("Test-Path", {"LiteralPath": image.access_path})[0]
            files = nodes[mounted.host].snapdrive.files(image.access_path)
            assert [file for file in files if file.rpartition("\\")[2].startswith(f"{vm}_vhd0.")]
            (letter,) = site.browse(backup, vm, path="E:\\Docs").itertuples()
            assert (letter.name, letter.size) == ("letter.txt", len("as it was"))
            with pytest.raises(NameTaken):
                site.mount(backup, host=host.endpoint.name, at=image.access_path).plan()
            site.unmount(mounted.name).run_sync()
            assert clustered(site) == before
        assert leftovers(site.tools(), pending=False) == []
    blocks_sound(one.lab)


@pytest.mark.tr("R-6.8-08", "R-4.2-01")
@pytest.mark.parametrize("era", [pytest.param(era, marks=pytest.mark.long) for era in ERAS])
def test_single_files_come_back_on_a_cluster(backed: Callable[[str], Backed], era: str) -> None:
    """Out of a guest's disk on a shared volume and out of one on a role's disk; the cluster is not touched."""
    one = backed(era)
    with smhvlab.site.connect(one.lab.profile) as site:
        for backup, vm in ((one.shared, "sql01"), (one.dedicated, "file01")):
            one.lab.guest(vm).write_file(LETTER, "overwritten", flush=True)
            before = clustered(site)
            done = site.restore_file(backup, vm, guest_path=LETTER, to="C:\\letter.txt").run_sync().result
            assert done.size == len("as it was")
            host = site.tools().host
            assert host.run("Get-Content", {"LiteralPath": ["C:\\letter.txt"], "Raw": True}) == ["as it was"]
            host.run("Remove-Item", {"LiteralPath": "C:\\letter.txt"})
            assert clustered(site) == before
        assert leftovers(site.tools(), pending=False) == []


@pytest.mark.tr("R-6.8-04")
@pytest.mark.parametrize("era", [pytest.param(era, marks=pytest.mark.long) for era in ERAS])
def test_groups_that_do_not_go_with_a_place_are_refused(backed: Callable[[str], Backed], era: str) -> None:
    """A group of another node, one that is not there, and another than the one that owns the disk below the folder."""
    one = backed(era)
    with smhvlab.site.connect(one.lab.profile) as site:
        with pytest.raises(NotAllowed, match="hv2"):
            site.mount(one.shared, group="file01", at="M:").plan()
        with pytest.raises(NotFound, match="nothing"):
            site.mount(one.shared, group="nothing", at="M:").plan()
        with pytest.raises(NotAllowed, match="smhv_snapinfo"):
            site.mount(one.shared, group="sql01", at="S:\\inside").plan()


@pytest.mark.tr("R-6.8-04")
def test_a_group_that_a_mount_has_made_goes_with_the_last_disk_in_it(backed: Callable[[str], Backed]) -> None:
    """Another mount's disk stays in it; one that exists, such as a VM's role, is never taken for a new one."""
    one = backed("2008r2")
    with smhvlab.site.connect(one.lab.profile) as site:
        before = clustered(site)
        for place in ({"group": "file01", "at": "M:"}, {"at": "S:\\inside"}, {"at": "M:"}):
            with pytest.raises(NameTaken) as caught:
                site.mount(one.dedicated, new_group=True, **place).plan()
            assert "leave new_group out" in caught.value.next_action
        first = site.mount(one.dedicated, group="extra", new_group=True, at="M:").run_sync().result
        second = site.mount(one.shared, group="extra", at="N:").run_sync().result
        between = site.tools().snapdrive.files("N:\\")
        site.unmount(first.name).run_sync()
        (guid,) = [mount.image.disk_guid for mount in Mounts(site.tools().snapinfo).all()]
        assert ClusterDisks(site.tools().host).group_of(guid) == "extra"
        assert site.tools().snapdrive.files("N:\\") == between
        site.unmount(second.name).run_sync()
        assert clustered(site) == before


@pytest.mark.tr("R-6.8-08", "R-6.8-09")
def test_a_shared_volume_s_image_is_only_that_of_the_vms_whose_node_made_it(backed: Callable[[str], Backed]) -> None:
    """A VM's disk is hot-added and copied out of its own image; for a file of no VM the choice is asked."""
    one = backed("2008r2")
    with smhvlab.site.connect(one.lab.profile) as site:
        site.create_dataset("Both", ["sql01", "web01"])
        backup = site.backup("Both", distributed=False).run_sync().result.backup
        web, sql = (backup.named(vm, tr="6.8") for vm in ("web01", "sql01"))
        (home,), (other,) = backup.luns_of(web.id), backup.luns_of(sql.id)
        assert (home.access_path, home.snapshot != other.snapshot) == (other.access_path, True)
        mount = site.mount(backup.name, lun="sql01", csv=True).run_sync().result
        with pytest.raises(NotAllowed, match="does not show the image for web01") as caught:
            site.hot_add(mount.name, "web01", to="app01").plan()
        assert f'site.mount("{backup.name}", lun="web01")' in caught.value.next_action
        assert site.hot_add(mount.name, "sql01", to="app01").plan().state.disk.path == sql.disks[0].path
        first = site.mount(backup.name, lun="web01", csv=True, copy="first").run_sync(accept={"not-recovered"}).result
        assert site.hot_add(first.name, "web01", to="app01").plan().state.disk.path == web.disks[0].path
        for path in (web.disks[0].path, web.configuration_file.upper()):
            plan = site.restore_file(backup.name, host_path=path, to="C:\\web").plan()
            assert ([image.snapshot for image in plan.state.images], plan.confirmations) == ([home.snapshot], ())
        stray = site.restore_file(backup.name, host_path=f"{home.access_path}stray.txt", to="C:\\web").plan()
        assert [(asked.key, "2 images" in asked.text) for asked in stray.confirmations] == [("not-recovered", True)]
