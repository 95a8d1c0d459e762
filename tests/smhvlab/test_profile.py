"""Profiles: from a lab's endpoints, saved and loaded without passwords; and where passwords come from."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smhvlab import profile as profiles
from smhvlab import secrets
from smhvlab.errors import NotFound, ProfileError, SecretMissing
from smhvlab.profile import HostEndpoint, Profile, StorageEndpoint, SvmEndpoint
from smhvlab.secrets import Secret, Secrets, variable_name

ENDPOINTS: dict[str, Any] = {
    "topology": "dr-pair",
    "control": {"url": "https://127.0.0.1:9000", "token": "t0k3n"},
    "storage": [
        {
            "name": "cluster1",
            "host": "127.0.0.1",
            "port": 8443,
            "user": "admin",
            "password": "array pw",
            "ca_file": "/lab/ca.pem",
            "svms": [{"name": "svm1", "user": "vsadmin", "password": "svm pw"}],
            "site": "a",
        },
        {"name": "cluster2", "host": "127.0.0.1", "port": 8444, "user": "admin", "password": "other pw", "site": "b"},
    ],
    "hyperv": [
        {
            "name": "hv1",
            "cluster": "hvc1",
            "host": "127.0.0.1",
            "port": 15986,
            "user": "LAB\\Admin",
            "password": "p1",
            "site": "a",
        },
        {
            "name": "hv2",
            "cluster": "hvc1",
            "host": "127.0.0.1",
            "port": 15987,
            "user": "LAB\\Admin",
            "password": "p2",
            "site": "a",
        },
        {"name": "dr1", "host": "127.0.0.1", "port": 15988, "user": "LAB\\Admin", "password": "p3", "site": "b"},
    ],
}


def site() -> Profile:
    """A profile of a real site."""
    return Profile(
        name="site-a",
        storage=StorageEndpoint(name="c1", host="10.0.0.1", ca_file="/ca.pem", svms=(SvmEndpoint("svm1"),)),
        hyperv=(HostEndpoint(name="hv1", host="hv1.corp", user="CORP\\op", cluster="hvc", authentication="kerberos"),),
        proxy="http://proxy:3128",
        read_only=True,
    )


def test_from_the_endpoints_of_a_lab(tmp_path: Path) -> None:
    """The file and the same as a mapping give the same profile, with the passwords at hand and out of sight."""
    file = tmp_path / "endpoints.json"
    file.write_text(json.dumps(ENDPOINTS))
    made = profiles.from_endpoints(file)
    assert made == profiles.from_endpoints(ENDPOINTS)
    assert (made.name, made.storage.name, made.storage.port) == ("dr-pair", "cluster1", 8443)
    assert [host.name for host in made.hyperv] == ["hv1", "hv2"]
    assert made.host("HV2").port == 15987
    assert made.host("hv1").configuration_name == "SmhvLab"
    assert Secrets(made, keyring=False).of(made.storage.as_svm("svm1")).reveal() == "svm pw"
    assert made.storage.as_svm("svm1").user == "vsadmin"
    for text in (repr(made), str(made)):
        assert not any(secret in text for secret in ("array pw", "svm pw", "p1"))


def test_a_lab_with_several_sites() -> None:
    """Storage and hosts can be chosen by name; hosts follow the storage's site by default."""
    assert [host.name for host in profiles.from_endpoints(ENDPOINTS, storage="cluster2").hyperv] == ["dr1"]
    assert [host.name for host in profiles.from_endpoints(ENDPOINTS, hyperv=["hvc1"]).hyperv] == ["hv1", "hv2"]
    with pytest.raises(ProfileError, match="not the nodes of one"):
        profiles.from_endpoints(ENDPOINTS, hyperv=["hvc1", "dr1"])
    for wrong in ({"storage": "nope"}, {"hyperv": ["nope"]}):
        with pytest.raises(NotFound):
            profiles.from_endpoints(ENDPOINTS, **wrong)  # type: ignore[arg-type]  # one keyword of two types


@pytest.mark.parametrize("text", ["", "[]", "{", '{"storage": 3}', '{"storage": [{"name": "x"}]}'])
def test_endpoints_that_cannot_be_understood(text: str, tmp_path: Path) -> None:
    """A file that is no endpoints file is a ProfileError or NotFound, never a traceback of ours."""
    file = tmp_path / "endpoints.json"
    file.write_text(text)
    with pytest.raises((ProfileError, NotFound)):
        profiles.from_endpoints(file)


def test_save_and_load_without_passwords(tmp_path: Path) -> None:
    """A profile comes back as it was saved; a lab's passwords are not in the file."""
    profiles.save(site(), folder=tmp_path)
    assert profiles.load("site-a", folder=tmp_path) == site()
    lab = profiles.from_endpoints(ENDPOINTS)
    file = profiles.save(lab, folder=tmp_path)
    assert profiles.load("dr-pair", folder=tmp_path) == lab
    assert not any(secret in file.read_text() for secret in ("array pw", "svm pw", "password"))
    assert profiles.names(folder=tmp_path) == ["dr-pair", "site-a"]
    assert list(tmp_path.glob("*.new")) == []


def test_profiles_that_cannot_be_loaded(tmp_path: Path) -> None:
    """Missing, broken and incomplete files are told apart by their text and are all ProfileErrors."""
    (tmp_path / "broken.toml").write_text("= 3")
    (tmp_path / "empty.toml").write_text("")
    for name, word in (
        ("nope", "no profile"),
        ("broken", "cannot be read"),
        ("empty", "incomplete"),
        ("../x", "no name"),
    ):
        with pytest.raises(ProfileError, match=word):
            profiles.load(name, folder=tmp_path)


def test_profiles_that_cannot_be_made() -> None:
    """Names that are no file names and unknown authentications are refused."""
    with pytest.raises(ProfileError):
        Profile(name="a/b", storage=site().storage, hyperv=())
    with pytest.raises(ProfileError):
        Profile(
            name="x",
            storage=site().storage,
            hyperv=(HostEndpoint(name="h", host="h", user="u", authentication="magic"),),
        )


def test_several_hosts_are_the_nodes_of_one_cluster() -> None:
    """Two stand-alone hosts are two sites: the refusal says so instead of leaving one of them out."""
    hosts = tuple(HostEndpoint(name=name, host=name, user="u") for name in ("h1", "h2"))
    for wrong in (hosts, (replace(hosts[0], cluster="c1"), hosts[1]), (hosts[0], replace(hosts[1], cluster="c1"))):
        with pytest.raises(ProfileError, match="not the nodes of one failover cluster"):
            Profile(name="x", storage=site().storage, hyperv=wrong)
    Profile(name="x", storage=site().storage, hyperv=tuple(replace(host, cluster="c1") for host in hosts))


def test_where_passwords_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment comes before the keyring, the keyring before the prompt; a typed one is remembered."""
    kept: dict[tuple[str, str], str] = {}
    monkeypatch.setattr("keyring.get_password", lambda service, name: kept.get((service, name)))
    monkeypatch.setattr("keyring.set_password", lambda service, name, text: kept.update({(service, name): text}))
    asked: list[str] = []

    def prompt(question: str) -> str:
        asked.append(question)
        return "typed"

    made = site()
    environment: Mapping[str, str] = {variable_name("site-a", "c1"): "from environment"}
    assert variable_name("site-a", "c1/svm1") == "SMHVLAB_SITE_A_C1_SVM1_PASSWORD"
    find = Secrets(made, environment=environment, prompt=prompt)
    assert find.of(made.storage).reveal() == "from environment"
    secrets.remember("site-a", "c1/svm1", Secret("from keyring"))
    assert find.of(made.storage.as_svm("svm1")).reveal() == "from keyring"
    assert find.of(made.hyperv[0]).reveal() == "typed"
    assert find.of(made.hyperv[0]).reveal() == "typed"
    assert asked == ["Password of CORP\\op on hv1: "]
    with pytest.raises(SecretMissing, match="SMHVLAB_SITE_A_HV1_PASSWORD"):
        Secrets(made, environment={}, prompt=None).of(made.hyperv[0])


def test_nobody_to_ask_and_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without keyring and terminal ends in SecretMissing, not in an error of those."""
    import keyring.errors

    def none(*_: object) -> None:
        raise keyring.errors.NoKeyringError("no backend")

    def closed(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("keyring.get_password", none)
    monkeypatch.setattr("keyring.set_password", none)
    with pytest.raises(SecretMissing):
        Secrets(site(), environment={}, prompt=closed).of(site().storage)
    with pytest.raises(SecretMissing):
        secrets.remember("site-a", "c1", Secret("x"))


def test_a_secret_does_not_show() -> None:
    """No way of turning a secret into text or bytes shows it, except reveal()."""
    secret = Secret("hunter2!")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", f"{secret!r}", repr([secret]), "%s" % secret]  # noqa: UP031  # one more way
    assert not any("hunter2" in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert copy.deepcopy(secret).reveal() == "hunter2!"
    assert secret == Secret("hunter2!")
    assert secret != Secret("other")
    assert len({secret, Secret("hunter2!")}) == 1
    assert not hasattr(secret, "__dict__")
