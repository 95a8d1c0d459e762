"""A site against a lab: how it is found, what its tables are, and endpoints that cannot be talked to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smhvlab.site
from labenv import lab as labs
from labenv.certs import ensure_certificates
from labenv.lab import Lab
from smhvlab import profile as profiles
from smhvlab.demo import Demo
from smhvlab.doctor import unfinished
from smhvlab.errors import (
    ConnectionFailed,
    HostDown,
    NotAllowed,
    NotFound,
    ProfileError,
    ReadOnlyRefused,
    SecretMissing,
    SmhvLabError,
    UntrustedCertificate,
    WrongPassword,
)
from smhvlab.profile import Profile
from smhvlab.secrets import Secret, Secrets, variable_name
from smhvlab.site import Site
from tests.flows.checks import Picture, picture

ROOT = Path(__file__).resolve().parent.parent.parent
TABLES = ("vms", "volumes", "luns", "lun_traffic", "snapshots", "disks", "storage_map", "datasets", "backups")


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    """The site of a fresh lab, over both real wires."""
    with smhvlab.site.connect(lab.profile) as connected:
        yield connected


# --- endpoints that cannot be talked to


def profile_of(lab: Lab) -> Profile:
    """The lab's profile, to be spoiled."""
    return profiles.from_endpoints(lab.profile)


def wrong_password(profile: Profile, wire: str, _: Path) -> Profile:
    """Somebody has changed the password."""
    key = profile.storage.key if wire == "REST" else profile.hyperv[0].key
    return replace(profile, secrets={**profile.secrets, key: Secret("not the password")})


def other_authority(profile: Profile, wire: str, folder: Path) -> Profile:
    """The profile trusts another CA than that of the endpoint."""
    ca_file, _, _ = ensure_certificates(folder / "stranger", ["127.0.0.1"])
    return endpoint(profile, wire, ca_file=str(ca_file))


def nobody_there(profile: Profile, wire: str, _: Path) -> Profile:
    """Nothing listens on the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return endpoint(profile, wire, port=probe.getsockname()[1])


def endpoint(profile: Profile, wire: str, **changes: Any) -> Profile:
    """The profile with one endpoint changed."""
    if wire == "REST":
        return replace(profile, storage=replace(profile.storage, **changes))
    return replace(profile, hyperv=(replace(profile.hyperv[0], **changes),))


Spoil = Callable[[Profile, str, Path], Profile]


@pytest.mark.parametrize("wire", ["REST", "PowerShell"])
@pytest.mark.parametrize(
    ("spoil", "kind"),
    [(wrong_password, WrongPassword), (other_authority, UntrustedCertificate), (nobody_there, HostDown)],
)
def test_an_endpoint_that_cannot_be_talked_to_is_one_clear_error(
    site: Site, lab: Lab, tmp_path: Path, spoil: Spoil, kind: type[ConnectionFailed], wire: str
) -> None:
    """Each flow and table says which endpoint and what to do, in the class for it; the site stays as it was."""
    site.create_dataset("Apps", ["app01"])
    before = picture(site)
    profile = spoil(profile_of(lab), wire, tmp_path)
    name = profile.storage.name if wire == "REST" else profile.hyperv[0].name
    with smhvlab.site.connect(profile) as spoilt:
        attempts: list[Callable[[], object]] = [
            spoilt.luns if wire == "REST" else spoilt.vms,
            spoilt.provision("web02").run_sync,
            spoilt.backup("Apps", consistency="crash").run_sync,
        ]
        for attempt in attempts:
            with pytest.raises(kind) as caught:
                attempt()
            assert type(caught.value) is kind
            assert name in caught.value.message
            assert caught.value.next_action
            assert "not the password" not in str(caught.value)
            assert "Traceback" not in str(caught.value)
        checked = spoilt.check()
    bad = checked[~checked["ok"]]
    assert set(bad["wire"]) == {wire}
    assert set(checked[checked["ok"]]["wire"]) == {"REST", "PowerShell"} - {wire}
    assert all(bad["finding"])
    assert all(bad["next"])
    assert picture(site) == before


def test_a_lab_that_has_gone_is_one_clear_error() -> None:
    """The lab is killed in the middle of a session: tables and flows say that nobody is there."""
    with labs.start("standalone") as lab, smhvlab.site.connect(lab.profile) as site:
        assert len(site.vms()) == 4
        lab.kill()
        for attempt in (site.vms, site.luns, site.provision("web02").run_sync):
            with pytest.raises(ConnectionFailed) as caught:
                attempt()
            assert caught.value.next_action


NONSENSE = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "all_proxy": "http://127.0.0.1:9",
    "NO_PROXY": "",
    "no_proxy": "",
    "REQUESTS_CA_BUNDLE": "/nonsense/ca.pem",
    "CURL_CA_BUNDLE": "/nonsense/ca.pem",
    "SSL_CERT_FILE": "/nonsense/ca.pem",
    "SSL_CERT_DIR": "/nonsense",
}
"""Variables that a company's machine may have set, each pointing to nothing."""

VISIT = """
import sys
import smhvlab
from labenv.lab import attach, start
from pathlib import Path
lab = attach(Path(sys.argv[1]).parent)
with smhvlab.connect(sys.argv[1], read_only=True) as site:
    print(len(site.vms()), len(site.luns()), bool(site.check()["ok"].all()), lab.status()["topology"])
with start("standalone") as other:
    print(other.guest("sql01").databases())
"""


def test_proxy_and_ca_variables_do_not_disturb(lab: Lab) -> None:
    """A process with every such variable set to nonsense starts labs, steers them and reads both wires."""
    done = subprocess.run(
        [sys.executable, "-c", VISIT, str(lab.profile)],
        env={**os.environ, **NONSENSE},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["4 4 True standalone", "['aa1', 'bb1', 'bb2', 'bb3']"]


def test_a_profile_s_own_proxy_is_used(lab: Lab) -> None:
    """The counter-check: a proxy that the profile names is asked, and if it is not there the error says so."""
    with (
        smhvlab.site.connect(replace(profile_of(lab), proxy="http://127.0.0.1:9")) as site,
        pytest.raises(SmhvLabError, match="proxy"),
    ):
        site.luns()


# --- connecting


def test_a_missing_password_is_a_row_of_the_check(lab: Lab) -> None:
    """Whoever lacks one is told which variable to set; what can be reached without it is looked at all the same."""
    with smhvlab.site.connect(lab.profile) as known:
        profile = known.profile
    for lost in (profile.storage.key, profile.hyperv[0].key):
        kept = {key: secret for key, secret in profile.secrets.items() if key != lost}
        part = replace(profile, secrets=kept)
        with Site(part, secrets=Secrets(part, environment={}, keyring=False, prompt=None)) as site:
            found = site.check()
        assert not found["ok"].all()
        assert found[~found["ok"]]["finding"].str.startswith("No password for").all()
        assert found[~found["ok"]]["next"].str.contains("SMHVLAB_").all()


def test_a_path_may_have_the_sign_of_a_site_in_it(lab: Lab, tmp_path: Path) -> None:
    """The part behind the last # is a site's name only where the whole is no path."""
    folder = tmp_path / "C# work"
    folder.mkdir()
    (folder / "endpoints.json").write_bytes(lab.profile.read_bytes())
    with smhvlab.site.connect(str(folder / "endpoints.json")) as site:
        assert site.check()["ok"].all()


def test_every_way_to_name_a_site(lab: Lab) -> None:
    """A path, its text, the contents, a profile: all the same site."""
    profile = profile_of(lab)
    contents: Mapping[str, object] = json.loads(lab.profile.read_text("utf-8"))
    for target in (lab.profile, str(lab.profile), contents, profile):
        with smhvlab.site.connect(target) as site:
            assert len(site.luns()) == 4
            assert site.profile.storage == profile.storage


def test_a_saved_profile_takes_its_passwords_from_the_environment(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a real site: addresses are in the file, passwords are not; without them the error names the variable."""
    profile = replace(profile_of(lab), name="site-a", journals=None)
    monkeypatch.setattr(profiles, "profile_folder", lambda: tmp_path)
    saved = profiles.save(profile)
    passwords = {key: secret.reveal() for key, secret in profile.secrets.items()}
    assert not [word for word in passwords.values() if word in saved.read_text("utf-8")]
    for key, password in passwords.items():
        monkeypatch.setenv(variable_name("site-a", key), password)
    with smhvlab.site.connect("site-a") as site:
        assert len(site.vms()) == len(site.luns()) == 4
    monkeypatch.delenv(variable_name("site-a", "cluster1"))
    silent = Secrets(profiles.load("site-a"), keyring=False, prompt=None)
    with smhvlab.site.connect("site-a", secrets=silent) as site, pytest.raises(SecretMissing, match="SITE_A_CLUSTER1"):
        site.luns()


def test_a_fresh_lab_ends_with_its_site() -> None:
    """``lab:standalone`` starts a lab that is gone after ``close``."""
    with smhvlab.site.connect("lab:standalone") as site:
        folder = Path(str(site.profile.hyperv[0].ca_file)).parent.parent
        assert len(site.vms()) == 4
        assert folder.exists()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("lab:standalon", "did you mean 'standalone'?"),
        ("nobody", "nobody"),
        ("missing/endpoints.json", "endpoints.json"),
        ({"storage": []}, "no storage cluster"),
        ({}, "no storage cluster"),
        ({"topology": "x", "storage": [{"name": "c"}], "hyperv": []}, "cannot be understood"),
    ],
)
def test_a_site_that_cannot_be_found_is_one_clear_error(target: Any, said: str) -> None:
    """The error names what was looked for and what to do."""
    with pytest.raises((ProfileError, NotFound)) as caught:
        smhvlab.site.connect(target)
    assert said in str(caught.value)
    assert caught.value.next_action


def test_read_only_refuses_every_change(site: Site, lab: Lab) -> None:
    """Tables and plans work; datasets, flows and settings are refused before anything leaves this machine."""
    site.create_dataset("Apps", ["app01"])
    before = picture(site)
    with smhvlab.site.connect(lab.profile, read_only=True) as reader:
        for table in TABLES:
            assert isinstance(getattr(reader, table)(), pd.DataFrame)
        assert "read only" in repr(reader)
        assert reader.provision("web02").plan()
        changes: list[Callable[[], object]] = [
            lambda: reader.create_dataset("More", ["web01"]),
            lambda: reader.set_snapinfo("S:\\Other"),
            reader.provision("web02").run_sync,
            reader.backup("Apps", consistency="crash").run_sync,
        ]
        for change in changes:
            with pytest.raises(ReadOnlyRefused):
                change()
        assert all(entry.reads for entry in reader.log.entries)
        assert unfinished(reader.name, folder=reader.journals) == []
    assert picture(site) == before


# --- tables


def test_tables_have_their_columns_also_when_empty(site: Site) -> None:
    """Column names and types do not depend on what is there; the documentation of each table names its columns."""
    empty = {table: getattr(site, table)() for table in TABLES}
    assert len(empty["datasets"]) == len(empty["backups"]) == 0
    site.create_dataset("Apps", ["app01", "web01"], description="two of them")
    site.backup("Apps", consistency="crash").run_sync()
    for table in TABLES:
        full = getattr(site, table)()
        assert len(full) > 0
        assert list(full.dtypes.items()) == list(empty[table].dtypes.items())
        for column in full.columns:
            assert column in str(getattr(Site, table).__doc__) or table == "snapshots"


def test_the_tables_agree_with_each_other(site: Site) -> None:
    """Each VHD's way leads over a disk of the host and a LUN of the array to a volume and its aggregate."""
    found = site.storage_map()
    assert set(found["vm"]) == set(site.vms()["name"])
    luns, disks, volumes = site.luns().set_index("name"), site.disks(), site.volumes().set_index("name")
    for row in found.itertuples():
        assert luns.loc[row.lun, "volume"] == row.volume
        assert volumes.loc[row.volume, "aggregate"] == row.aggregate
        assert luns.loc[row.lun, "disk"] in set(disks["unique_id"])
    assert volumes.loc["vm_sql01", "parent"] == "golden"


def test_volumes_of_one_name_in_two_svms_are_told_apart(site: Site) -> None:
    """A second SVM has a volume of the same name on another aggregate: maps and Snapshot copies stay with their own."""
    before = site.storage_map()
    new = {"svm": "svm9", "addresses": ["10.10.1.91"], "aggregate": "aggr9", "disks": 8}
    flow = site.prepare_storage("vm_sql01", size="1GB", **new)
    flow.run_sync(accept={question.key for question in flow.plan().confirmations})
    storage = site.tools().storage
    for svm in ("svm1", "svm9"):
        volume = storage.volume("vm_sql01", svm=svm)
        assert volume is not None
        storage.ensure_snapshots([volume], f"of_{svm}")
    pd.testing.assert_frame_equal(site.storage_map(), before)
    copies = site.snapshots("vm_sql01").set_index("snapshot")["svm"]
    assert (copies["of_svm1"], copies["of_svm9"]) == ("svm1", "svm9")


@pytest.mark.tr("R-3-01")
def test_a_backup_moves_less_than_a_stream(site: Site) -> None:
    """A Snapshot copy costs the hosts next to nothing, a file copy of a disk reads and writes all that it holds."""

    def moved() -> int:
        return int(site.lun_traffic()[["read_bytes", "written_bytes"]].to_numpy().sum())

    host, golden = site.tools().host, site.vms().set_index("name").loc["golden", "id"]
    site.create_dataset("Web", ["web01"])
    start = moved()
    site.backup("Web").run_sync()
    backup = moved() - start
    host.run("Copy-Item", {"LiteralPath": host.run("Get-VHD", {"VMId": golden})[0]["Path"], "Destination": r"V:\s.vhd"})
    stream = moved() - start - backup
    assert 0 < backup < stream / 5


def test_waiting_is_in_lab_time(site: Site) -> None:
    """An hour of the site's time passes while no real time does; the array's and the host's clocks are one."""
    before = site.now()
    site.sleep(3600)
    assert 3600 <= (site.now() - before).total_seconds() < 3610


def test_datasets_change_by_version(site: Site) -> None:
    """A dataset that is changed keeps its name and counts its versions."""
    site.create_dataset("Apps", ["app01"])
    site.change_dataset("Apps", ["app01", "web01"])
    row = site.datasets().iloc[0]
    assert (row["name"], row["vms"], row["version"]) == ("Apps", "app01, web01", 2)
    with pytest.raises(NotFound):
        site.change_dataset("Nothing", ["app01"])
    with pytest.raises(NotAllowed):
        site.change_dataset("Apps", [])


def test_a_backup_of_a_kind_that_is_not_offered_is_refused(site: Site) -> None:
    """What the site does not do is refused when the flow is made, with what it does instead."""
    with pytest.raises(NotAllowed):
        site.backup("Apps", consistency="quantum")  # type: ignore[arg-type]


def test_the_demo_ends_as_the_tr_says(site: Site, lab: Lab) -> None:
    """The appendix's test on a site where a demo was before: each restored database holds the rows of the backup."""
    said: list[str] = []
    site.provision("demo1").run_sync()
    result = Demo(site, tell=said.append).run()
    assert result.vm == "demo2"
    assert set(result.databases.values()) == {100}
    assert all(result.checkdb.values())
    assert result.requests["REST"] > 0
    assert result.requests["PowerShell"] > 0
    assert len(result.snapshots) == 2
    assert lab.guest(result.vm).checkdb("bb1")["rows"] == 100
    assert any("DBCC CHECKDB" in line for line in said)
    assert lab.inspect.check() == []


def test_the_picture_notices_a_change(site: Site) -> None:
    """The control of this page's comparisons: a dataset's backup changes the picture."""
    before: Picture = picture(site)
    assert picture(site) == before
    site.create_dataset("Apps", ["app01"])
    site.backup("Apps", consistency="crash").run_sync()
    assert picture(site) != before
