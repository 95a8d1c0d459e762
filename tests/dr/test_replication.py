"""Replication between the clusters of two sites and inside one cluster (TR 8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from netapp_ontap.resources.cluster_peer import ClusterPeer
from netapp_ontap.resources.volume import Volume

from labenv.lab import Lab
from smhvlab.brake import Brake
from smhvlab.dr.landing import Landing
from smhvlab.dr.peering import ensure_cluster_peers
from smhvlab.dr.protect import ProtectReplication
from smhvlab.dr.replication import Replication, common_copy, seconds, update_after_backup
from smhvlab.dr.sites import SitePair, couple
from smhvlab.errors import Cancelled, NotAllowed, OntapError
from smhvlab.mount.image import Placement
from smhvlab.record import PlannedStep
from smhvlab.site import Site, connect
from smhvlab.storage import VolumeRef


def volumes(site: Site, *names: str) -> list[VolumeRef]:
    """Volumes by name."""
    found = [site.tools().storage.volume(name, svm="svm1") for name in names]
    return [volume for volume in found if volume is not None]


def test_sites_that_were_looked_at_before_are_coupled_too(lab: Lab) -> None:
    """Connections from before do not outlive the coupling: they would miss the pair's log and its cancel."""
    with connect(lab.profile, site="A") as first, connect(lab.profile, site="B") as second:
        first.vms()
        second.vms()
        with first.control.busy, pytest.raises(NotAllowed, match="under way on dr-pair-A"):
            couple(second, first)
        couple(first, second)
        before, brake = len(first.log.entries), Brake()
        second.vms()
        assert len(first.log.entries) > before
        brake.pull()
        with first.control.obeying(brake), pytest.raises(Cancelled):
            second.vms()


@pytest.mark.tr("R-8-05", "R-8-17", "R-3.4-03", "R-6.2-09")
def test_data_and_snapinfo_are_replicated_and_updated_after_a_backup(pair: SitePair, lab: Lab) -> None:
    """Clusters and SVMs are peered, volumes mirrored; an update after a backup carries its copies, SnapInfo's too."""
    site, there = pair.primary, Replication(pair.secondary.tools().storage)
    site.create_dataset("All", ["sql01", "app01"])
    done = site.dr.protect().run_sync().result
    assert {str(m) for m in done.mirrors} == {
        "svm1:snapinfo -> svm2:snapinfo",
        "svm1:vm_shared -> svm2:vm_shared",
        "svm1:vm_sql01 -> svm2:vm_sql01",
    }
    assert {m.state for m in done.mirrors} == {"snapmirrored"}
    backup = site.backup("All", consistency="crash").run_sync().result.backup
    lab.guest("sql01").insert("aa1", 50)
    lab.guest("sql01").flush()
    sent = update_after_backup([lambda: there], volumes(site, "vm_sql01", "vm_shared", "snapinfo"))
    assert len(sent) == 3
    copies = pair.secondary.snapshots()
    assert sorted(copies[copies["snapshot"] == backup.name]["volume"]) == ["snapinfo", "vm_shared", "vm_sql01"]
    assert (pair.secondary.mirrors()["lag"] >= 0).all()
    mirror = there.of_source("vm_sql01")
    assert mirror.transferred % 4096 == 0
    assert 0 < mirror.transferred < mirror.total
    assert list(site.mirrors()["direction"]) == ["out", "out", "out"]
    near, far = volumes(site, "vm_sql01")[0], there.storage.volume("vm_sql01", svm="svm2")
    assert far is not None
    here = Replication(site.tools().storage)
    assert common_copy(here.copies(near), there.copies(far)).startswith("snapmirror.")


def test_replication_again_changes_nothing_and_inside_a_cluster_needs_no_partner(pair: SitePair) -> None:
    """A second run finds everything there; with ``inside`` the destinations are other volumes of the same SVM."""
    site = pair.primary
    site.create_dataset("One", ["sql01"])
    site.dr.protect().run_sync()
    again = site.dr.protect().plan()
    assert [s.skipped != "" for s in again.steps] == [True, True, False, True, False]
    assert all(link.existed for link in again.state.links)
    site.partner = None
    done = site.dr.protect(inside=True).run_sync().result
    assert {str(m) for m in done.mirrors} == {
        "svm1:snapinfo -> svm1:snapinfo_dr",
        "svm1:vm_sql01 -> svm1:vm_sql01_dr",
    }


@pytest.mark.tr("R-8-16", "R-8-17")
def test_what_replication_lacks_is_told_before_anything_is_made(pair: SitePair, lab: Lab) -> None:
    """No dataset, a Vserver without credentials, no partner, an unknown volume: one clear error each, no peer made."""
    site = pair.primary
    with pytest.raises(NotAllowed, match="nothing to replicate"):
        site.dr.protect().plan()
    with pytest.raises(NotAllowed, match="no volume nonsense"):
        site.dr.protect(volumes=["nonsense"]).plan()
    site.create_dataset("One", ["sql01"])
    profile = site.profile
    bare = dataclasses.replace(profile, storage=dataclasses.replace(profile.storage, svms=()))
    with connect(bare) as poor:
        poor.partner = pair.secondary
        with pytest.raises(NotAllowed) as caught:
            ProtectReplication(poor).plan()
    assert "Vserver svm1" in (caught.value.why or "")
    site.partner = None
    with pytest.raises(NotAllowed, match="no partner"):
        site.dr.protect().plan()
    assert len(pair.secondary.mirrors()) == 0


def test_an_undo_leaves_what_somebody_else_has_made(pair: SitePair) -> None:
    """A volume that took the chosen name since, or the place of ours, stays; the run's own volume goes."""
    flow = pair.primary.dr.protect(["golden"])
    there = Replication(pair.secondary.tools().storage)

    def foreign(name: str) -> None:
        body = {"name": name, "svm": {"name": "svm2"}, "aggregates": [{"name": "aggr1"}], "size": "10GB"}
        there.wire.wait([there.wire.create(Volume, body)])

    def instead(name: str) -> None:
        (mirror,) = there.mirrors()
        there.discard_mirror(mirror.source, mirror.destination)
        there.storage.discard_volume(name, svm="svm2")
        foreign(name)

    def attempt(stop: str, then: Callable[[str], None], *, goes_on: bool) -> str:
        name = str(flow.plan().state.links[0].destination.volume)

        def gate(step: PlannedStep) -> bool:
            if step.name == stop:
                then(name)
            return goes_on or step.name != stop

        flow.gate = gate
        with pytest.raises(NotAllowed if goes_on else Cancelled):
            flow.run_sync()
        return name

    def types() -> dict[str, str]:
        records = there.wire.collect(Volume, fields="name,type", name="golden*")
        return {record["name"]: record["type"] for record in records}

    assert attempt("create", foreign, goes_on=True) == "golden"
    assert attempt("initialise", instead, goes_on=False) == "golden_dr"
    assert attempt("initialise", lambda _: None, goes_on=False) == "golden_dr2"
    assert types() == {"golden": "rw", "golden_dr": "rw"}
    assert there.mirrors() == []


@pytest.mark.tr("R-8-16")
def test_a_peer_that_only_some_nodes_reach_is_no_unfinished_offer(
    pair: SitePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left as it is on both clusters, and the link is what has to be mended."""
    near, far = pair.primary.tools().rest, pair.secondary.tools().rest
    ensure_cluster_peers(near, far)
    before = [wire.collect(ClusterPeer, fields="uuid") for wire in (near, far)]
    collect = near.collect

    def partly(kind: type[Any], *keys: Any, **query: Any) -> list[dict[str, Any]]:
        records = collect(kind, *keys, **query)
        return [{**r, "status": {"state": "partial"}} for r in records] if kind is ClusterPeer else records

    monkeypatch.setattr(near, "collect", partly)
    with pytest.raises(NotAllowed, match="peered but do not reach each other") as caught:
        ensure_cluster_peers(near, far)
    assert caught.value.why == "the peer is partial"
    monkeypatch.undo()
    assert [wire.collect(ClusterPeer, fields="uuid") for wire in (near, far)] == before
    assert len(before[0]) == 1


def test_an_update_that_cannot_be_made_is_told_and_fails(pair: SitePair, lab: Lab) -> None:
    """With the link cut an update raises what the cluster says; the function for backups tells it in a sentence."""
    site, there = pair.primary, Replication(pair.secondary.tools().storage)
    site.create_dataset("One", ["sql01"])
    site.dr.protect().run_sync()
    lab.storage("cluster1").cut_link("cluster2")
    with pytest.raises(OntapError) as caught:
        there.update(there.mirrors())
    assert caught.value.code == "13303844"
    (told,) = update_after_backup([lambda: there], volumes(site, "vm_sql01"))
    assert told.startswith("not updated: ")


def test_durations_are_read() -> None:
    """ONTAP's lag is an ISO 8601 duration; anything else is refused."""
    assert [seconds(text) for text in ("PT0S", "PT8H35M42S", "P1DT1S", None)] == [0, 30942, 86401, None]
    with pytest.raises(ValueError, match="no duration"):
        seconds("8 hours")


@pytest.mark.tr("R-8-06")
def test_the_type_of_a_disk_has_to_be_the_same() -> None:
    """What was a cluster shared volume cannot arrive on a stand-alone host; on a cluster each disk is its own."""
    alone, cluster = Landing("hv2", "", "hv2", "svm2"), Landing("hv3", "hvc2", "hvc2", "svm2")
    with pytest.raises(NotAllowed, match="was a cluster shared volume, and hv2 is a stand-alone host"):
        alone.placement("C:\\ClusterStorage\\Volume1\\", shared=True)
    assert alone.placement("V:\\", shared=False) is Placement.DEDICATED
    assert cluster.placement("V:\\", shared=False) is Placement.GROUP
    assert cluster.placement("C:\\ClusterStorage\\Volume1\\", shared=True) is Placement.SHARED
