"""The pictures of a cluster's backups: lanes and budgets of each node, in every era; two copies of a clustered VM."""

from __future__ import annotations

import pytest

import smhvlab.site
from smhvlab.backup.shadowsigns import Lane, Verdict
from smhvlab.panels.vsstimeline import VssTimeline
from smhvlab.site import Site
from tests.flows.conftest import Start

ARRAY = ("cluster1", Lane.ARRAY)


def rows(panel: VssTimeline) -> set[tuple[str, Lane]]:
    """The swim lanes."""
    return {(sign.node, sign.lane) for sign in panel.signs}


def bars(panel: VssTimeline) -> list[tuple[str, str, float]]:
    """The budgets, all of which have to be kept: node, what is limited, to how many seconds."""
    assert {budget.verdict for budget in panel.budgets} <= {Verdict.WITHIN}
    return [(budget.node, budget.title, budget.limit) for budget in panel.budgets]


def backed_up(site: Site) -> str:
    """An application-consistent backup of VMs on both nodes."""
    site.create_dataset("Set", ["sql01", "app01", "web01"])
    name: str = site.backup("Set").run_sync().result.backup.name
    return name


@pytest.mark.tr("R-9-02", "R-12-01")
@pytest.mark.parametrize(
    ("era", "sets"),
    [("2008r2", ("hv1", "hv2")), ("2012", ("hv1",)), pytest.param("2022", (), marks=pytest.mark.long)],
)
def test_each_node_has_its_lanes_and_its_budgets(start: Start, era: str, sets: tuple[str, ...]) -> None:
    """One set on each node, one distributed set whose writers are on both, or none: bars only for what was limited."""
    with smhvlab.site.connect(start(f"two-node-cluster-{era}").profile) as site:
        name = backed_up(site)
        panel = site.vss_timeline(name)
        nodes = ("hv1", "hv2") if sets else ()
        assert {row for row in rows(panel) if row[1] is Lane.WRITERS} == {(node, Lane.WRITERS) for node in nodes}
        assert {row for row in rows(panel) if row[1] is Lane.PROVIDER} == {(node, Lane.PROVIDER) for node in sets}
        assert ARRAY in rows(panel)
        assert sorted(bars(panel)) == sorted(
            [(node, "CommitSnapshots", 10.0) for node in sets] + [(node, "Freeze to Thaw", 60.0) for node in nodes]
        )
        picture = panel.render()
        for node in nodes:
            assert f">{node}: writers</text>" in picture
            assert f">{node}: Freeze to Thaw</text>" in picture
        assert picture.count("1.0 s of 10 s") == len(sets)
        panel.node.value = "hv2"
        assert {row[0] for row in rows(panel)} == {"hv2", "cluster1"}
        assert {budget.node for budget in panel.budgets} == ({"hv2"} if sets else set())


@pytest.mark.tr("R-9-08")
def test_the_writers_of_the_other_node_have_a_measured_freeze(start: Start) -> None:
    """A trace on both nodes: the distributed set's freeze is told of each, and is below a minute."""
    with smhvlab.site.connect(start("two-node-cluster-2012").profile) as site:
        panel = site.vss_timeline(backed_up(site), trace=True)
        frozen = {b.node: b for b in panel.budgets if b.title == "Freeze to Thaw"}
        assert set(frozen) == {"hv1", "hv2"}
        assert all(budget.exact and 1 < (budget.spent or 0) < 10 for budget in frozen.values())
        assert {("hv1", Lane.GUEST), ("hv2", Lane.GUEST)} <= rows(panel)
        allowed, spent = panel.figure().data[-2:]
        assert list(allowed.x) == [10.0, 60.0, 60.0]
        assert len(spent.x) == 3


@pytest.mark.tr("R-10-02")
@pytest.mark.parametrize(
    ("era", "image"),
    [
        ("2012", ".rws"),
        pytest.param("2008r2", ".rws", marks=pytest.mark.long),
        pytest.param("2022", "/csv1", marks=pytest.mark.long),
    ],
)
def test_two_copies_of_a_vm_on_a_shared_volume_are_compared(start: Start, era: str, image: str) -> None:
    """A recovered image and one as after a loss of power, of a VM of the other node: each told for what it is."""
    lab = start(f"two-node-cluster-{era}")
    with smhvlab.site.connect(lab.profile) as site:
        application = backed_up(site)
        lab.guest("web01").write_file("E:\\notes.txt", "later", flush=True)
        crash = site.backup("Set", consistency="crash").run_sync().result.backup.name
        for name in (application, crash):
            flow = site.mount(name, lun="web01", guests=True)
            flow.run_sync(accept={question.key for question in flow.plan().confirmations})
        left, right = site.mounts()["name"]
        panel = site.side_by_side(left, right, "web01")
        found = panel.comparison
        assert (found.left.recovered, found.right.recovered) == (True, False)
        assert found.left.image.endswith(image)
        assert [pair.path for pair in panel.pairs if "shadow" not in pair.path] == ["\\notes.txt"]
        assert "not recovered: as after a loss of power" in panel.render()
        for name in site.mounts()["name"]:
            site.unmount(name).run_sync()
