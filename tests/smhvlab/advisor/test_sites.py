"""What is compared between two sites, beyond one example of each rule (TR 8)."""

from __future__ import annotations

from dataclasses import replace

import healthy as h
import pytest
from breaks_sites import of_sites, second

from smhvlab.advisor import facts as f
from smhvlab.advisor.catalogue import findings, rule_named
from smhvlab.advisor.site_facts import Facts


def messages(name: str, facts: Facts) -> list[str]:
    """What a rule says of a site."""
    return [finding.message for finding in rule_named(name).findings(facts)]


@pytest.fixture
def good() -> Facts:
    """A stand-alone site whose volumes are all mirrored to another one."""
    return of_sites()["sites-compared"][1]


def test_a_pair_in_good_order_is_left_alone(good: Facts) -> None:
    """Neither from the primary nor from the secondary anything is found but readings of the TR."""
    assert good.partner is not None
    backward = replace(good.partner, partner=replace(good, partner=None), datasets=(), backups=())
    for facts in (good, backward):
        assert {one.rule.id for one in findings(facts) if not one.rule.id.startswith("reading-")} <= {
            "unprotected",
            "snapinfo-mirrored",
        }
    assert messages("failover-mount-point", backward) == []


@pytest.mark.tr("R-8-06")
def test_the_same_lun_may_have_the_mount_point(good: Facts) -> None:
    """After a failover the mirror's own LUN is at the VMs' mount point: that is as it should be."""
    assert good.partner is not None
    there = good.partner
    lun = h.lun("vm", ("hv2",), svm="svm2")
    array = replace(there.array, luns=(*there.array.luns, lun))
    host = replace(there.hosts[0], disks=(*there.hosts[0].disks, h.disk(3, "vm", "V:\\")))
    assert messages("failover-mount-point", replace(good, partner=replace(there, array=array, hosts=(host,)))) == []


@pytest.mark.tr("R-8-06")
def test_snapinfo_needs_its_mount_point_where_there_is_none_to_merge_into(good: Facts) -> None:
    """A second site with SnapInfo of its own reads the other one elsewhere; without it the letter must be free."""
    assert good.partner is not None
    host = replace(good.partner.hosts[0], registry={})
    (text,) = messages("failover-mount-point", replace(good, partner=replace(good.partner, hosts=(host,))))
    assert text == "SnapInfo of A needs it, and disk 1 of hv2 (/vol/own/own) has it at B."


@pytest.mark.tr("R-8-06")
def test_a_shared_volume_needs_a_cluster_and_its_own_path() -> None:
    """A stand-alone host cannot have it; a cluster that has another volume at that path cannot either."""
    sole, pair = of_sites()["failover-alike"]
    (text,) = messages("failover-mount-point", sole)
    assert "hv2 is in no failover cluster" in text
    assert pair.partner is not None
    csv = f.Csv(name="Disk 7", path=h.CSV, owner="hv2", guid="own")
    taken = replace(pair.partner, clusters=(replace(pair.partner.clusters[0], csvs=(csv,)),))
    (text,) = messages("failover-mount-point", replace(pair, partner=taken))
    assert "the shared volume Disk 7 of hvc2 has it at B" in text


@pytest.mark.tr("R-8-05", "R-8-16", "R-8-17")
def test_interfaces_and_mirrors_are_those_of_both_sites(good: Facts) -> None:
    """An interface that is down at the other site, a mirror that is missing or broken there: told at this one."""
    assert good.partner is not None
    array = good.partner.array
    lifs = tuple(lif for lif in array.lifs if lif.name not in ("ic0", "iscsi0", "iscsi1"))
    dark = replace(good, partner=replace(good.partner, array=replace(array, lifs=lifs)))
    assert messages("intercluster-lifs", dark) == ["No intercluster interface on cluster1-01."]
    assert messages("failover-path", dark) == ["No interface for LUNs is up on cluster2."]
    data, _ = array.mirrors
    alone = replace(good, partner=second(volumes=("vm",)))
    assert messages("snapinfo-mirrored", alone) == ["VMs are mirrored, SnapInfo is not."]
    broken = replace(array, mirrors=(replace(data, state="broken_off"),))
    assert messages("mirror-healthy", replace(good, partner=replace(good.partner, array=broken))) == [
        "Mirror of svm1:vm: broken_off."
    ]


def test_without_the_other_site_its_mirrors_are_known_by_the_list_of_the_source(good: Facts) -> None:
    """A mirror whose state nobody here knows is neither healthy nor late nor missing; that it was not seen is told."""
    assert good.partner is not None
    listed = tuple(replace(mirror, state="") for mirror in good.partner.array.mirrors)
    alone = replace(good, partner=None, array=replace(good.array, outgoing=listed[:1]))
    assert messages("snapinfo-mirrored", alone) == ["VMs are mirrored, SnapInfo is not."]
    assert messages("mirror-healthy", alone) == []
    (text,) = messages("sites-compared", replace(alone, apart="B does not answer: no route"))
    assert text.startswith("Not looked at (B does not answer: no route)")
