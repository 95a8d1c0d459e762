"""The planner's datasets and schedules keep the rules that the advisor checks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import healthy as h
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smhvlab.advisor import facts as f
from smhvlab.advisor import plans as p
from smhvlab.advisor.catalogue import rule_named
from smhvlab.advisor.gather import planned
from smhvlab.advisor.planner import Layout, plan_layout
from smhvlab.advisor.site_facts import Facts
from smhvlab.protection.policy import from_toml

KEPT = ("fifteen-csvs", "dataset-holds-lun", "one-dataset-per-volume", "dedicated-and-shared", "unprotected")
NEVER = ("same-vm-same-time", "one-backup-per-volume", "one-backup-per-host")


def farm(places: list[tuple[int, int]], *, era: str = "2012") -> Facts:
    """A cluster with a VM for each (node, shared volume), both counted from 1."""
    count = max(volume for _, volume in places)
    nodes = sorted({f"hv{node}" for node, _ in places})
    disks = tuple(h.disk(n, f"csv{n}", f"C:\\ClusterStorage\\Volume{n}\\", clustered=True) for n in range(1, count + 1))
    csvs = tuple(
        f.Csv(name=f"Disk {n}", path=f"C:\\ClusterStorage\\Volume{n}", owner=nodes[0], guid=f"csv{n}")
        for n in range(1, count + 1)
    )
    return replace(
        h.cluster(era),
        hosts=tuple(h.host(name, disks, cluster="hvc1", era=era) for name in nodes),
        clusters=(f.Cluster(name="hvc1", nodes=dict.fromkeys(nodes, "Up"), csvs=csvs),),
        vms=tuple(
            h.vm(f"vm{at:03}", f"hv{node}", f"C:\\ClusterStorage\\Volume{volume}\\vm{at:03}", clustered=True)
            for at, (node, volume) in enumerate(places)
        ),
        array=h.array(tuple(h.lun(f"csv{n}", ("hvc1",)) for n in range(1, count + 1)), ()),
        datasets=(),
        backups=(),
    )


def carried_out(facts: Facts, layout: Layout) -> Facts:
    """The site with the plan's datasets and policies, read as a site's own are."""
    ids = {vm.name: vm.id for vm in facts.vms}
    policies = [planned(from_toml(text), h.NOW) for text in layout.policies()]
    return replace(
        facts,
        datasets=tuple(
            p.Dataset(name=d.name, members=tuple(ids[name] for name in d.vms), policies=(policy,))
            for d, policy in zip(layout.datasets, policies, strict=True)
        ),
    )


@pytest.mark.tr("R-12-11", "R-6.2-17")
def test_twenty_shared_volumes_become_two_even_datasets() -> None:
    """The TR's own example: 20 CSVFS LUNs of one array are spread over two datasets."""
    facts = farm([(1 + n % 2, n) for n in range(1, 21)])
    layout = plan_layout(facts)
    assert [d.csvs for d in layout.datasets] == [10, 10]
    assert [d.at for d in layout.datasets] == ["22:00", "22:15"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 24)), min_size=1, max_size=60),
    st.sampled_from(["2008r2", "2012"]),
)
def test_a_plan_that_is_carried_out_keeps_the_rules(places: list[tuple[int, int]], era: str) -> None:
    """Whatever lies where: afterwards every VM is protected, and no rule on datasets or overlaps finds anything."""
    facts = farm(places, era=era)
    layout = plan_layout(facts)
    assert sorted(name for d in layout.datasets for name in d.vms) == [vm.name for vm in facts.vms]
    after = carried_out(facts, layout)
    for name in (*KEPT, *NEVER):
        assert [hit.message for hit in rule_named(name).findings(after)] == [], name


def test_dedicated_vms_are_kept_apart_from_shared_ones() -> None:
    """A VM that is no role of the cluster gets a dataset of its own (TR 6.1)."""
    facts = farm([(1, 1), (1, 2)])
    facts = replace(facts, vms=(facts.vms[0], replace(facts.vms[1], clustered=False)))
    assert [(d.shared, d.vms) for d in plan_layout(facts).datasets] == [(False, ("vm001",)), (True, ("vm000",))]


@pytest.mark.tr("R-AR-02")
@pytest.mark.tr("R-6.4-01")
def test_vms_that_are_off_do_not_keep_the_others_from_their_backup() -> None:
    """They get a dataset whose policy allows the saved state; one beside running VMs on a volume is remarked upon."""
    facts = farm([(1, 1), (1, 2)])
    apart = plan_layout(replace(facts, vms=(facts.vms[0], replace(facts.vms[1], state="Off"))))
    assert [(d.vms, d.off) for d in apart.datasets] == [(("vm000",), False), (("vm001",), True)]
    allowed = [from_toml(text).options.allow_saved_state for text in apart.policies()]
    assert allowed == [False, True]
    facts = farm([(1, 1), (1, 1)])
    (mixed,) = plan_layout(replace(facts, vms=(facts.vms[0], replace(facts.vms[1], state="Off")))).datasets
    assert not mixed.off
    assert mixed.remarks[0].startswith("vm001 does not run and shares a volume")


def test_on_2008_r2_vms_are_brought_to_one_node_for_each_volume() -> None:
    """Every further node of a shared volume costs a pair of Snapshot copies: the plan says who moves where."""
    layout = plan_layout(farm([(1, 1), (1, 1), (2, 1), (2, 2)], era="2008r2"))
    assert layout.moves == ("Move vm002 to hv1, which runs most VMs of C:\\ClusterStorage\\Volume1.",)
    assert plan_layout(farm([(1, 1), (2, 1)])).moves == ()


def test_a_group_that_is_too_wide_is_said() -> None:
    """VMs that hang together over more volumes than a dataset may have stay together, with a remark."""
    facts = farm([(1, n) for n in range(1, 18)])
    wide = replace(
        facts.vms[0],
        disks=tuple(f.Vhd(path=f"C:\\ClusterStorage\\Volume{n}\\wide.vhdx") for n in range(1, 18)),
    )
    layout = plan_layout(replace(facts, vms=(wide, *facts.vms[1:])))
    (only,) = layout.datasets
    assert only.csvs == 17
    assert only.remarks


def test_a_day_has_an_end() -> None:
    """More datasets than fit into a day are said, not silently overlapped."""
    facts = farm([(1, n) for n in range(1, 4)])
    layout = plan_layout(facts, most=1, minutes=600)
    assert [bool(d.remarks) for d in layout.datasets] == [False, False, True]


def test_overlaps_are_found_to_the_minute() -> None:
    """Two policies overlap if one starts while the other runs, as a look at every minute tells."""
    hourly = h.policy(starts=tuple(range(0, 600, 60)), minutes=15)
    for shift in range(60):
        other = h.policy(starts=tuple(start + shift for start in hourly.starts), minutes=10)
        busy = {minute for start in hourly.starts for minute in range(start, start + 15)}
        expected = any(minute in busy for start in other.starts for minute in range(start, start + 10))
        assert hourly.overlaps(other) is other.overlaps(hourly) is expected, shift
    assert planned(from_toml(plan_layout(farm([(1, 1)])).policies()[0]), h.NOW - timedelta(hours=1)).per_day == 1.0
