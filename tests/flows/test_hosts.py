"""Hosts and clusters under management: their settings, rules, export and import (TR 5.4, 6.1)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from netapp_ontap.resources.license_package import LicensePackage

import smhvlab
from smhvlab.errors import NameTaken, NotAllowed
from smhvlab.protection.settings import Settings, Smtp, from_toml
from smhvlab.site import Site

POLICY = """
name = "hourly"
dataset = "Apps"
consistency = "crash"
[schedule]
repeat = "hourly"
[retention]
keep = 2
"""


@pytest.mark.tr("R-6.1-01", "R-6.1-02", "R-5.4-11", "R-5.4-14", "R-5.4-15")
def test_a_host_is_added_with_folders_that_fit(site: Site) -> None:
    """SnapInfo on its own LUN and a report folder are accepted and kept; a cluster is not a host."""
    settings = Settings(reports="C:\\Reports", to=("storage@example.org",), smtp=Smtp(server="mail.example.org"))
    assert set(site.host_check(snapinfo="S:\\SnapInfo", reports="C:\\Reports")["level"]) == {"ok"}
    saved = site.add_host(snapinfo="S:\\SnapInfo", settings=settings)
    assert (saved.version, site.settings()) == (1, settings)
    assert from_toml(saved.toml()) == settings
    with pytest.raises(NotAllowed, match="is a host"):
        site.add_host(snapinfo="S:\\SnapInfo", settings=replace(settings, manages="cluster"))
    with pytest.raises(NameTaken, match="another console"):
        site.set_settings(settings)


@pytest.mark.tr("R-5.4-12")
@pytest.mark.parametrize(
    ("snapinfo", "reports", "rule"),
    [
        ("C:\\SnapInfo", "C:\\Reports", "dedicated LUN"),
        ("C:\\ClusterStorage\\Volume1\\SnapInfo", "C:\\Reports", "SnapInfo folder is not on a cluster shared volume"),
        ("S:\\SnapInfo", "C:\\ClusterStorage\\Volume1", "report folder is not on a cluster shared volume"),
        ("S:\\SnapInfo", "", "a report folder is set"),
    ],
)
def test_folders_that_do_not_fit_are_refused(site: Site, snapinfo: str, reports: str, rule: str) -> None:
    """Each rule is named, and nothing is changed."""
    with pytest.raises(NotAllowed) as caught:
        site.add_host(snapinfo=snapinfo, settings=Settings(reports=reports))
    assert rule in f"{caught.value.message} {caught.value.why}"
    assert site.settings().version == 0
    assert site.tools().snapinfo.folder() == "S:\\SnapInfo"


@pytest.mark.tr("R-5.4-02")
def test_a_missing_licence_is_refused(site: Site) -> None:
    """An array without the licences of SMHV's work is named before anything is set up."""
    rest = site.tools().rest
    rest.wait([rest.remove(LicensePackage, {"name": "flexclone"})])
    with pytest.raises(NotAllowed, match="flexclone") as refused:
        site.add_host(snapinfo="S:\\SnapInfo", settings=Settings(reports="C:\\Reports"))
    assert "licence" in refused.value.next_action
    assert site.settings().version == 0


@pytest.mark.tr("R-5.4-15")
def test_a_report_goes_to_the_hosts_folder(site: Site) -> None:
    """Without a folder of the station it is written where the host's settings say, and nowhere if they do not."""
    with pytest.raises(NotAllowed, match="no place for reports"):
        site.report()
    site.add_host(snapinfo="S:\\SnapInfo", settings=Settings(reports="C:\\Reports"))
    report = site.report(days=7)
    assert report.host == "hv1"
    assert str(report.html).startswith("C:\\Reports\\")
    files = site.tools().host.run("Get-ChildItem", {"LiteralPath": "C:\\Reports", "Recurse": True, "File": True})
    assert {str(f["FullName"]) for f in files} == {str(report.html), *map(str, report.tables)}
    page = site.tools().host.run("Get-Content", {"LiteralPath": str(report.html), "Raw": True, "Encoding": "UTF8"})
    assert "<h2>Snapshot budget</h2>" in page[0]
    site.set_settings(replace(site.settings(), reports="C:\\ClusterStorage\\Volume1"))
    with pytest.raises(NotAllowed, match="cluster shared volume"):
        site.report()


def test_snapinfo_beside_vms_is_advised_against(site: Site) -> None:
    """A folder on the LUN of VMs works, with a warning that names them."""
    table = site.host_check(snapinfo="V:\\SnapInfo", reports="C:\\Reports").set_index("rule")
    row = table.loc["the SnapInfo LUN has a volume of its own"]
    assert (row["level"], "app01" in row["finding"], "web01" in row["finding"]) == ("warning", True, True)
    assert table.loc["SnapInfo is on a dedicated LUN of the array", "level"] == "ok"


@pytest.mark.tr("R-5.2-08")
def test_vms_in_no_dataset_are_unprotected(site: Site) -> None:
    """A VM leaves the list when a dataset takes it."""
    assert set(site.unprotected()["name"]) >= {"app01", "web01"}
    site.create_dataset("Apps", ["app01"])
    assert "app01" not in set(site.unprotected()["name"])
    assert "web01" in set(site.unprotected()["name"])


@pytest.mark.tr("R-6.1-04", "R-6.1-06")
def test_a_configuration_is_carried_in_a_file(site: Site, tmp_path: Path) -> None:
    """What was exported comes back as new versions after changes; importing it twice changes nothing more."""
    site.create_dataset("Apps", ["app01"])
    site.set_policy(POLICY)
    site.add_host(snapinfo="S:\\SnapInfo", settings=Settings(reports="C:\\Reports"))
    file = site.export_configuration(tmp_path / "site.toml")
    site.change_dataset("Apps", ["web01"])
    site.remove_policy("hourly")
    site.set_settings(replace(site.settings(), reports="C:\\Other"))
    done = site.import_configuration(file)
    assert (done.settings, done.datasets, done.policies, done.missing) == (True, ("Apps",), ("hourly",), ())
    assert list(site.datasets()["vms"]) == ["app01"]
    assert site.policy("hourly").version == 3
    assert "nothing" in str(site.import_configuration(file))
    with pytest.raises(NotAllowed, match="installed"):
        site.export_configuration(Path(smhvlab.__file__).parent / "site.toml")
    file.write_text("format = 99\n", "utf-8")
    with pytest.raises(NotAllowed, match="no export that this version knows"):
        site.import_configuration(file)


@pytest.mark.tr("R-6.1-05")
def test_nodes_that_say_something_else_are_found(cluster_site: Site) -> None:
    """A value that only one node of a cluster has shows as drift."""
    assert bool(cluster_site.drift()["same"].all())
    node = cluster_site.tools().nodes["hv2"]
    key = "HKLM:\\SOFTWARE\\NetApp\\SnapManager for Hyper-V\\Server"
    value = {"LiteralPath": key, "Name": "snapinfo_snaps_count", "Value": 12, "Type": "DWord"}
    node.host.run("Set-ItemProperty", value)
    table = cluster_site.drift().query("value == 'snapinfo_snaps_count'")
    assert dict(zip(table["node"], table["says"], strict=True)) == {"hv1": "not set", "hv2": "12"}
    assert not bool(table["same"].any())
