"""The advisor over both wires against a cluster that breaks as many rules as one site can, and against it mended."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.advisor.catalogue import findings
from smhvlab.cli import main as cli
from smhvlab.errors import Cancelled, NotAllowed, NotFound
from smhvlab.protection.settings import Settings
from smhvlab.site import Site

FOUND = {
    "array-snapshot-policy",
    "checkpoint-folder-moved",
    "clone-retries",
    "csv-mix",
    "deduplicate",
    "differencing-disk",
    "dotnet-35",
    "dsm",
    "dynamic-disk",
    "dynamic-needs-room",
    "host-utilities",
    "hotfix-passthrough",
    "integration-services",
    "licences",
    "lif-on-each-node",
    "lun-mapped-once",
    "lun-reservation",
    "lun-type",
    "luns-exceed-volume",
    "mirror-healthy",
    "native-unmap-off",
    "no-odx",
    "notification-set",
    "old-checkpoints",
    "other-integration-services",
    "passthrough",
    "ports-open",
    "provider-clones",
    "quorum-witness",
    "redirected",
    "report-not-on-csv",
    "report-set",
    "same-port",
    "same-versions",
    "services-run",
    "settings-alike",
    "several-paths",
    "snapdrive-version",
    "snapinfo-count",
    "snapinfo-not-on-csv",
    "snapinfo-on-array",
    "snapinfo-own-volume",
    "unprotected",
    "vhd-name",
    "vm-files-on-array",
    "vm-highly-available",
    "vm-name-unique",
}
"""What the topology breaks, beside the readings of the TR that concern it."""


@pytest.fixture(scope="module")
def messy_lab() -> Iterator[labs.Lab]:
    with labs.start("messy") as lab:
        yield lab


@pytest.fixture
def messy(messy_lab: labs.Lab) -> Iterator[Site]:
    """A site of the topology ``messy`` as it was when it was first started."""
    messy_lab.restore("fresh")
    with smhvlab.site.connect(messy_lab.profile) as site:
        yield site
    assert messy_lab.status()["failures"] == []


@pytest.mark.tr("R-4.1-02", "R-5.3-01", "R-5.3-02", "R-5.4-12", "R-5.4-14", "R-5.4-15", "R-6.1-05", "R-6.2-10")
@pytest.mark.tr("R-6.2-18", "R-11.1-01", "R-11.1-02", "R-11.1-03", "R-12-10", "R-2.2-12", "R-2.2-17", "R-AX-02")
def test_a_messy_site_is_seen_through_and_mended(messy: Site) -> None:
    """Each fault of the topology is found; what one setting mends is gone after the flow, and nothing new appears."""
    before = messy.advise()
    assert {name for name in before["id"] if not name.startswith("reading-")} == FOUND
    assert len(before[before["severity"] == "error"]) > 15

    flow = messy.mend()
    mended = {f.rule.id for f in messy.findings() if f.action is not None}
    flow.run_sync()
    after = messy.advise()
    assert set(before["id"]) - set(after["id"]) == mended
    assert mended >= {"redirected", "services-run", "integration-services", "native-unmap-off", "lun-reservation"}
    assert set(after["id"]) <= set(before["id"])


@pytest.mark.tr("R-5.3-01", "R-5.3-02")
def test_a_cluster_with_a_closed_port_is_not_added(messy: Site) -> None:
    """Adding it names the port and the node, and sets nothing; the table says it beforehand."""
    settings = Settings(manages="cluster", reports="C:\\Reports")
    with pytest.raises(NotAllowed, match="Port") as refused:
        messy.add_host(snapinfo="S:\\SnapInfo", settings=settings)
    assert "hv2" in refused.value.message
    table = messy.host_check(snapinfo="S:\\SnapInfo", reports="C:\\Reports")
    assert set(table[table["rule"] == "the ports are open"]["level"]) == {"error"}
    assert messy.settings().version == 0


def test_a_host_that_is_down_is_a_finding(messy_lab: labs.Lab, messy: Site) -> None:
    """Who is called at night gets an answer: the silent host is named, and the rest of the site is looked at."""
    messy_lab.host("hv2").power_off()
    found = messy.advise()
    assert list(found[found["id"] == "host-answers"]["object"]) == ["hv2"]
    assert "ports-open" not in set(found["id"])  # it was hv2's
    assert {"dotnet-35", "snapinfo-not-on-csv"} <= set(found["id"])


def test_mending_is_undone(messy: Site) -> None:
    """A flow that is stopped puts every setting back as it was."""
    before = messy.advise()
    flow = messy.mend("integration-services", "no-odx", "lun-reservation")
    flow.on_event = lambda event: flow.cancel() if getattr(event, "done", 0) == 2 else None
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert flow.record is not None
    assert flow.record.outcome == "undone"
    assert messy.advise().equals(before)


def test_errors_are_an_exit_code(messy_lab: labs.Lab, messy: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal the same findings, as lines or as JSON, and exit code 1."""
    assert cli.main(["advise", "--site", str(messy_lab.profile), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told == messy.advise().to_dict(orient="records")
    assert list(told[0]) == ["id", "section", "severity", "era", "object", "message", "fix"]


def test_what_no_setting_mends_is_refused_with_what_does(messy: Site) -> None:
    """A rule that needs hands is not silently left out, and a name that is no rule's is told."""
    with pytest.raises(NotAllowed) as refusal:
        messy.mend("snapdrive-version").plan()
    assert "Install SnapDrive" in refusal.value.next_action
    with pytest.raises(NotFound):
        messy.mend("no-such-rule").plan()


@pytest.mark.tr("R-6.1-03", "R-6.2-17", "R-6.4-04", "R-5.2-07", "R-6.3-09")
def test_datasets_and_policies_are_held_against_the_rules(messy: Site) -> None:
    """What SnapInfo holds is read as the site's own: members, schedules, retention and options."""
    messy.set_snapinfo("S:\\SnapInfo")
    messy.create_dataset("mixed", ["sql01", "ws01", "lost01"])
    messy.create_dataset("again", ["sql01", "file01"])
    for name in ("mixed", "again"):
        messy.set_policy(
            f'name = "{name}-hourly"\ndataset = "{name}"\n[schedule]\nrepeat = "hourly"\n[retention]\ndays = 30\n'
            "[options]\nallow_saved_state = true\ndistributed = false\n"
            '[notification]\nlevel = "always"\nto = ["a@example.org"]\n',
            accept={"snapshot-limit"},
        )
    found = {(f.rule.id, f.object) for f in findings(messy.facts())}
    assert {
        ("dedicated-and-shared", "mixed"),
        ("dataset-holds-lun", "mixed /vol/csv1/csv1"),
        ("one-dataset-per-volume", "csv1"),
        ("same-vm-same-time", "again mixed"),
        ("one-backup-per-volume", "again mixed"),
        ("saved-state-allowed", "mixed mixed-hourly"),
        ("distributed-backup", "again again-hourly"),
        ("too-many-mails", "mixed mixed-hourly"),
        ("keep-by-number", "again again-hourly"),
        ("snapshot-budget", "csv1"),
        ("no-backup-yet", "again"),
    } <= found
    assert {rule for rule, _ in found} & {"snapinfo-not-on-csv", "snapinfo-on-array"} == set()
