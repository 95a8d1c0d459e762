"""The advisor over both real wires: what it finds on a site, and that looking changes nothing."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

import smhvlab.site
from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.cli import main as cli
from smhvlab.protection.settings import Settings, Smtp
from smhvlab.site import Site


@pytest.mark.tr("R-5.2-08")
@pytest.mark.tr("R-5.4-15")
def test_a_site_is_advised_and_mended(site: Site) -> None:
    """A new site's VMs are in no dataset; once they are, the rule is silent."""
    first = site.advise()
    assert list(first.columns) == ["id", "section", "severity", "era", "object", "message", "fix"]
    unprotected = first[first["id"] == "unprotected"]
    assert set(unprotected["object"]) == {"app01", "golden", "sql01", "web01"}
    assert set(unprotected["section"]) == {"5.2"}
    assert "report-set" in set(first["id"])
    assert "error" not in set(first["severity"])

    settings = Settings(reports="C:\\Reports", smtp=Smtp(server="mail.example.org"), to=("a@example.org",))
    site.add_host(snapinfo="S:\\SnapInfo", settings=settings)
    site.create_dataset("everything", list(unprotected["object"]))
    then = site.advise()
    assert {"unprotected", "report-set", "notification-set"} & set(then["id"]) == set()
    assert list(then[then["id"] == "no-backup-yet"]["object"]) == ["everything"]


@pytest.mark.tr("R-6.1-06")
def test_an_export_beside_the_product_is_found(site: Site) -> None:
    """A configuration in the folder of the installation is told; the product's own files are not."""
    host = site.tools().host
    folder = "C:\\Program Files\\NetApp\\SnapManager for Hyper-V"
    host.run("New-Item", {"Path": folder, "ItemType": "Directory", "Force": True})
    for name in ("configuration.toml", "SnapManager.dll-Help.xml", "readme.txt"):
        host.run("Set-Content", {"LiteralPath": f"{folder}\\{name}", "Value": "x"})
    found = site.advise()
    assert list(found[found["id"] == "export-kept-apart"]["object"]) == [f"hv1 {folder}\\configuration.toml"]


def test_advice_only_reads(lab: Lab) -> None:
    """It works on a site that was opened read-only, and none of its requests could change anything."""
    with smhvlab.site.connect(lab.profile, read_only=True) as site:
        assert len(site.advise()) > 0
        assert [entry.title for entry in site.log.entries if not entry.reads] == []


def test_every_part_of_a_host_is_read(site: Site) -> None:
    """Nothing of a lab's host stays unknown, and what is read is what the topology installed."""
    facts = site.facts()
    (host,) = facts.hosts
    assert host.unknown == {}
    assert host.era == "2012"
    assert host.program("SnapDrive") is not None
    assert {808, 4094, 4095} <= {port.number for port in host.ports}
    assert set(host.paths.values()) == {2}
    assert {vm.name: len(facts.luns(vm)) for vm in facts.vms} == {"app01": 1, "golden": 1, "sql01": 1, "web01": 1}
    assert {disk.type for vm in facts.vms for disk in vm.disks} == {"Fixed"}
    assert facts.array.version == (9, 15, 1)
    systems = {vm.name: vm.guest_os for vm in facts.vms}
    assert systems == {name: "" if name == "golden" else "Windows Server 2008 R2 SP1" for name in systems}


def test_what_is_refused_is_said_and_the_rest_is_looked_at(lab: Lab, site: Site) -> None:
    """A user who may not see licences, or a host without a cmdlet, costs the rules that need them and no others."""
    lab.faults.set("ontap.request", "error", match={"path": "*licensing*"}, status=403, code="6", times=1)
    lab.faults.set("windows.cmdlet", "error", match={"cmdlet": "Get-HotFix"}, code="Denied", times=1)
    found = site.advise()
    assert {tuple(row) for row in found[found["id"] == "not-readable"][["object", "severity"]].to_numpy()} == {
        ("cluster1", "note"),
        ("hv1", "note"),
    }
    assert "unprotected" in set(found["id"])


@pytest.mark.tr("R-11.1-01")
@pytest.mark.tr("R-11.1-03")
@pytest.mark.tr("R-5.1-01")
def test_versions_against_the_tables(site: Site) -> None:
    """The resolver holds the host's and the array's versions against the TR's tables."""
    table = site.compatibility().set_index("item")
    assert bool(table["ok"].all())
    assert table.loc["SnapDrive", "have"].startswith("6.5")
    assert table.loc["DSM", "wanted"] == "MSDSM"


def test_advise_in_a_terminal(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints one list of findings, and its exit code is 0 as long as there is no error among them."""
    assert cli.main(["advise", "--site", str(lab.profile), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"id", "section", "severity", "era", "object", "message", "fix"} == set(told[0])
    assert {finding["object"] for finding in told if finding["id"] == "unprotected"} >= {"sql01", "web01"}


@pytest.mark.tr("R-3.4-05", "R-6.3-04")
def test_the_dashboard_of_a_site(site: Site) -> None:
    """What it shows is what the site holds: a backup and its age, the next run, Snapshot copies beside the limit."""
    site.create_dataset("SQL", ["sql01"])
    site.set_policy(
        'name = "nightly"\ndataset = "SQL"\n[schedule]\nrepeat = "daily"\nat = "22:00"\n[retention]\nkeep = 7\n'
    )
    site.backup("SQL", consistency="crash").run_sync()
    panel = site.dashboard()
    assert panel.overview is not None
    table = panel.overview.protection().set_index("vm")
    assert table.loc["sql01", "state"] == "protected"
    assert table.loc["sql01", "consistency"] == "crash"
    assert table.loc["web01", "state"] == "unprotected"
    held = len(site.snapshots("vm_sql01"))
    assert {b.volume: (b.used, b.limit) for b in panel.overview.budgets}["vm_sql01"] == (held, 255)
    assert [job.what for job in panel.overview.jobs] == ["due", "backup"]
    assert panel.overview.jobs[0].when is not None
    assert panel.overview.jobs[0].when.hour == 22

    site.sleep(2 * 24 * 3600)
    panel.look()
    panel.wait(60)
    assert panel.error is None
    assert panel.overview.protection().set_index("vm").loc["sql01", "state"] == "late"
    assert "! late" in panel.render()


@pytest.mark.long
@pytest.mark.parametrize("era", ["2008r2", "2012", "2022"])
def test_a_new_cluster_of_each_era_has_no_errors(era: str, tmp_path: Path) -> None:
    """Every part of every node is read, the rules of the era hold, and what is found is no error."""
    text = (files("labenv") / "topologies" / "two-node-cluster.toml").read_text("utf-8")
    file = tmp_path / "cluster.toml"
    file.write_text(text.replace('era = "2012"', f'era = "{era}"'), "utf-8")
    with labs.start(str(file)) as lab, smhvlab.site.connect(lab.profile, read_only=True) as site:
        facts = site.facts()
        assert {host.name: dict(host.unknown) for host in facts.hosts} == {"hv1": {}, "hv2": {}}
        assert facts.era == era
        (cluster,) = facts.clusters
        assert cluster.quorum
        assert [csv.path for csv in cluster.csvs] == ["C:\\ClusterStorage\\Volume1"]
        assert all(facts.luns(vm) for vm in facts.vms)
        assert [f for f in site.findings(facts) if f.rule.severity == "error"] == []
        assert ("csv-owners" in {f.rule.id for f in site.findings(facts)}) is (era == "2008r2")
