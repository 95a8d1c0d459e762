"""Accounts and logins: passwords, client certificates over mutual TLS, roles, addresses of SVMs, tunnelling."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from netapp_ontap import HostConnection, NetAppRestError, config
from netapp_ontap.resources import Cluster, SecurityCertificate, Volume

from labenv import lab as labs

from .ontap_bench import Answer, Bench
from .test_ontap_users import as_svm1, bench

__all__ = ["bench"]  # the fixture with two SVMs

pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")

ACCOUNTS = "/security/accounts"
CERTIFICATES = "/security/certificates"
HTTP = [{"application": "http", "authentication_methods": ["password"]}]
BY_CERTIFICATE = [{"application": "http", "authentication_methods": ["certificate"]}]


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a site, and what it issues."""

    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, common_name: str, folder: Path, *, days: int = 1) -> tuple[str, str]:
        """Files of a client certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(common_name, self.name, key.public_key(), self.key, days=days, ca=False)
        files = folder / f"{self.name}-{common_name}.pem", folder / f"{self.name}-{common_name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(files[0]), str(files[1])


def _sign(subject: str, issuer: str, public: Any, key: ec.EllipticCurvePrivateKey, *, days: int, ca: bool) -> Any:
    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=min(0, days) - 1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def authority(name: str = "Site CA", *, days: int = 1) -> Authority:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(name, key, _sign(name, name, key.public_key(), key, days=days, ca=True))


def account(bench: Bench, name: str, **more: Any) -> dict[str, Any]:
    """Make an account and show it."""
    body = {"name": name, "applications": HTTP, "password": "right-pass1", **more}
    bench.do("POST", ACCOUNTS, body)
    return dict(bench.one(ACCOUNTS, name=name))


def login(bench: Bench, name: str, word: str = "right-pass1", path: str = "/api/cluster") -> Answer:
    """A request of an account."""
    return bench.http("GET", path, user=name, password=word)


def at_address(bench: Bench, address: str, word: str, path: str = "/api/cluster") -> int:
    """The status of a request that arrives at a management interface of the lab's own network."""
    app = bench.array.management(address)
    assert app is not None
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    token = base64.b64encode(word.encode())
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b""}

    async def work() -> None:
        with bench.clock.request():
            await app({**scope, "headers": [(b"authorization", b"Basic " + token)]}, receive, send)

    bench.run(work())
    return int(sent[0]["status"])


# accounts -------------------------------------------------------------------------------------------------------------


def test_an_account_logs_in_until_it_is_locked_or_gone(bench: Bench) -> None:
    """Made with a password, changed, locked, unlocked, deleted: each login is answered accordingly, 401 with code."""
    shown = account(bench, "operator")
    assert shown["role"]["name"] == "admin"
    assert "password" not in shown
    path = f"{ACCOUNTS}/{shown['owner']['uuid']}/operator"
    assert login(bench, "operator").status == 200
    refused = login(bench, "operator", "wrong-pass1")
    assert (refused.status, refused.code) == (401, "6691623")
    assert refused.headers["www-authenticate"].startswith("Basic")
    bench.do("PATCH", path, {"password": "other-pass2"})
    assert (login(bench, "operator").status, login(bench, "operator", "other-pass2").status) == (401, 200)
    bench.do("PATCH", path, {"locked": True})
    assert login(bench, "operator", "other-pass2").status == 401
    bench.do("PATCH", path, {"locked": False})
    assert login(bench, "operator", "other-pass2").status == 200
    bench.do("DELETE", path)
    assert login(bench, "operator", "other-pass2").status == 401


def test_an_accounts_password_is_not_kept_in_clear(bench: Bench) -> None:
    """Neither the state's database nor an answer holds a password that was set over the API."""
    account(bench, "operator", password="very-secret-7")
    bench.state.commit()
    stored = b"".join(path.read_bytes() for path in bench.folder.glob("state.db*"))
    assert b"operator" in stored
    assert b"very-secret-7" not in stored
    assert login(bench, "operator", "very-secret-7").status == 200
    bench.kill()
    assert login(bench, "operator", "very-secret-7").status == 200


def test_roles_decide_what_an_account_may_do(bench: Bench) -> None:
    """A reader reads everything and changes nothing; the role none gets 403 for everything."""
    account(bench, "reader", **{"role.name": "readonly"})
    account(bench, "nobody", **{"role.name": "none"})
    assert login(bench, "reader", path="/api/storage/aggregates").status == 200
    denied = bench.http("POST", "/api/storage/volumes", {"name": "v"}, user="reader", password="right-pass1")
    assert (denied.status, denied.code) == (403, "6")
    assert (login(bench, "nobody").status, login(bench, "nobody").code) == (403, "6")


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("1", {"name": "admin"}),
        ("1261215", {"role.name": "emperor"}),
        ("1261215", {"role.name": "admin", "owner.name": "svm1"}),
        ("2621462", {"owner.name": "nowhere"}),
        ("5636176", {"applications": [{"application": "http", "authentication_methods": ["nsswitch"]}]}),
        ("5636176", {"applications": [{"application": "ssh", "authentication_methods": ["certificate"]}]}),
        ("5636178", {"applications": [{"authentication_methods": ["password"]}]}),
        ("7077897", {"name": "no spaces"}),
        ("7077918", {"password": "operator1"}),
        ("7077919", {"password": "short1"}),
        ("7077920", {"password": "only-letters"}),
        ("7078900", {"password": ""}),
    ],
)
def test_what_an_account_cannot_be(bench: Bench, code: str, body: dict[str, Any]) -> None:
    """Names, roles, applications and passwords that ONTAP refuses get its codes."""
    whole = {"name": "operator", "applications": HTTP, "password": "right-pass1", **body}
    assert bench.call("POST", ACCOUNTS, whole)[1]["error"]["code"] == code
    assert login(bench, "operator").status == 401


def test_accounts_of_the_lab_stay(bench: Bench) -> None:
    """Those that the lab's endpoints name can be neither changed nor deleted."""
    shown = bench.one(ACCOUNTS, name="admin")
    path = f"{ACCOUNTS}/{shown['owner']['uuid']}/admin"
    for method in ("PATCH", "DELETE"):
        assert bench.call(method, path, {"comment": "x"})[1]["error"]["code"] == "5636125"


def test_administrators_of_the_same_name_have_an_svm_each(bench: Bench) -> None:
    """The password says which vsadmin it is; each sees the volumes, and the account, of its own SVM only."""
    for password, svm in (("vs-secret", "svm1"), ("other-secret", "svm2")):
        volumes = login(bench, "vsadmin", password, "/api/storage/volumes?fields=svm.name").json["records"]
        assert {volume["svm"]["name"] for volume in volumes} == {svm}
        accounts = login(bench, "vsadmin", password, f"/api{ACCOUNTS}").json["records"]
        assert [(found["owner"]["name"], found["name"]) for found in accounts] == [(svm, "vsadmin")]
    denied = as_svm1(bench, "POST", f"/api{ACCOUNTS}", {"name": "friend", "applications": HTTP})
    assert (denied.status, denied.code) == (403, "6")
    assert as_svm1(bench, "GET", f"/api{CERTIFICATES}").status == 403


def test_accounts_of_one_name_and_password_are_told_apart_by_their_svm(bench: Bench) -> None:
    """At the socket that all share nobody is taken for somebody else: the SVM is named, or the login is refused."""
    for owner in ("svm1", "svm2"):
        bench.do(
            "POST", ACCOUNTS, {"name": "twin", "applications": HTTP, "password": "right-pass1", "owner.name": owner}
        )
    refused = login(bench, "twin")
    assert (refused.status, refused.code) == (401, "6691623")
    assert "svm1, svm2" in refused.json["error"]["message"]
    for svm in ("svm1", "svm2"):
        uuid = bench.one("/svm/svms", name=svm)["uuid"]
        for headers in ({"X_Dot_SVM_Name": svm}, {"X_Dot_SVM_UUID": uuid}):
            answer = bench.http("GET", "/api/svm/svms", user="twin", password="right-pass1", **headers)
            assert [found["name"] for found in answer.json["records"]] == [svm]
    assert bench.http("GET", "/api/cluster", user="twin", password="right-pass1", X_Dot_SVM_Name="svm3").status == 401
    assert at_address(bench, "10.0.0.20", "twin:right-pass1") == 200
    assert at_address(bench, "10.0.0.10", "twin:right-pass1") == 401
    bench.do("POST", ACCOUNTS, {"name": "twin", "applications": HTTP, "password": "right-pass1"})
    assert login(bench, "twin", path="/api/cluster/nodes").status == 200


def test_an_svms_address_knows_the_svms_accounts_only(bench: Bench) -> None:
    """At the management interface of svm1 neither the cluster's administrator nor one of svm2 can log in."""
    account(bench, "vsadmin2", **{"owner.name": "svm2"})
    asked = {}
    for place, address in (("svm", "10.0.0.20"), ("cluster", "10.0.0.10")):
        for name, password in (("admin", "admin-secret"), ("vsadmin", "vs-secret"), ("vsadmin2", "right-pass1")):
            asked[place, name] = at_address(bench, address, f"{name}:{password}")
    assert [key for key, status in sorted(asked.items()) if status == 200] == [("cluster", "admin"), ("svm", "vsadmin")]


@pytest.mark.tr("R-8-16")
def test_replication_needs_credentials_of_the_cluster_and_of_the_vserver(bench: Bench) -> None:
    """Either account alone sees half of what a failover needs: the peers, or the LUNs at the Vserver."""
    shown = {}
    for place, address in (("cluster", "10.0.0.10"), ("Vserver", "10.0.0.20")):
        for word in ("admin:admin-secret", "vsadmin:vs-secret"):
            for path in ("/cluster/peers", "/cluster/nodes", "/storage/luns", "/snapmirror/relationships"):
                status = at_address(bench, address, word, f"/api{path}")
                shown.setdefault((place, word.partition(":")[0]), {})[path] = status
    assert set(shown["cluster", "admin"].values()) == {200}
    assert set(shown["cluster", "vsadmin"].values()) == {401}
    assert set(shown["Vserver", "admin"].values()) == {401}
    assert shown["Vserver", "vsadmin"] == {
        "/cluster/peers": 403, "/cluster/nodes": 403, "/storage/luns": 200, "/snapmirror/relationships": 200,
    }  # fmt: skip


def test_tunnelling_is_the_clusters(bench: Bench) -> None:
    """By name or uuid a request goes to one SVM and sees and makes things there; an SVM's administrator cannot."""
    svm2 = bench.one("/svm/svms", name="svm2")["uuid"]
    for headers in ({"X_Dot_SVM_Name": "svm2"}, {"X_Dot_SVM_UUID": svm2}):
        volumes = bench.http("GET", "/api/storage/volumes?fields=svm.name", **headers).json["records"]
        assert {volume["svm"]["name"] for volume in volumes} == {"svm2"}
        assert bench.http("GET", "/api/cluster/jobs", **headers).status == 200
        assert bench.http("GET", "/api/storage/aggregates", **headers).code == "6"
    body = {"name": "tunnelled", "os_type": "hyper_v"}
    assert bench.http("POST", "/api/protocols/san/igroups", body, X_Dot_SVM_Name="svm2").status == 201
    assert bench.one("/protocols/san/igroups", name="tunnelled")["svm"]["name"] == "svm2"
    other = {**body, "name": "wrong", "svm": {"name": "svm1"}}
    assert bench.http("POST", "/api/protocols/san/igroups", other, X_Dot_SVM_Name="svm2").code == "2621462"
    both = {"X_Dot_SVM_Name": "svm1", "X_Dot_SVM_UUID": svm2}
    assert bench.http("GET", "/api/storage/volumes", **both).code == "2621706"
    assert bench.http("GET", "/api/storage/volumes", X_Dot_SVM_Name="nowhere").code == "2621462"
    for svm in ("svm1", "svm2"):
        assert as_svm1(bench, "GET", "/api/storage/volumes", X_Dot_SVM_Name=svm).status == 403


# certificates ---------------------------------------------------------------------------------------------------------


@dataclass
class Presented:
    """A connection whose client has shown a certificate in the handshake."""

    certificate: bytes

    def peer_certificate(self) -> bytes:
        return self.certificate

    def abort(self) -> None:
        pass


def show(bench: Bench, files: tuple[str, str]) -> Answer:
    """A request with a client certificate and no password."""
    loaded = x509.load_pem_x509_certificate(Path(files[0]).read_bytes())
    bench.connection = Presented(loaded.public_bytes(serialization.Encoding.DER))
    answer = bench.http("GET", "/api/storage/volumes?fields=svm.name", Authorization="")
    bench.connection = None
    return answer


def test_a_certificate_is_the_account_of_its_authoritys_owner(bench: Bench, tmp_path: Path) -> None:
    """The common name finds the account; whose it is, the cluster's or which SVM's, the authority decides."""
    authorities = {}
    for owner in ("cluster1", "svm1", "svm2"):
        made = authorities[owner] = authority(f"CA of {owner}")
        body = {"type": "client_ca", "public_certificate": made.pem, "name": owner}
        bench.do("POST", CERTIFICATES, body if owner == "cluster1" else {**body, "svm.name": owner})
        bench.do("POST", ACCOUNTS, {"name": "robot", "owner.name": owner, "applications": BY_CERTIFICATE})
    seen = {}
    for owner, made in authorities.items():
        answer = show(bench, made.issue("robot", tmp_path))
        assert answer.status == 200, answer.content
        seen[owner] = {volume["svm"]["name"] for volume in answer.json["records"]}
    assert seen == {"cluster1": {"svm1", "svm2"}, "svm1": {"svm1"}, "svm2": {"svm2"}}


def test_certificates_that_are_no_login(bench: Bench, tmp_path: Path) -> None:
    """Of another authority, expired, of an unknown name, of an account with a password only, after the end of trust."""
    ours, theirs = authority("ours"), authority("theirs")
    bench.do("POST", CERTIFICATES, {"type": "client_ca", "public_certificate": ours.pem})
    bench.do("POST", ACCOUNTS, {"name": "robot", "applications": BY_CERTIFICATE})
    account(bench, "human")
    good = ours.issue("robot", tmp_path)
    assert show(bench, good).status == 200
    fake = Authority("ours", theirs.key, theirs.certificate)
    for files in (
        theirs.issue("robot", tmp_path),
        fake.issue("robot2", tmp_path),
        ours.issue("stranger", tmp_path),
        ours.issue("human", tmp_path),
        ours.issue("", tmp_path),
    ):
        assert (show(bench, files).status, show(bench, files).code) == (401, "6691623")
    assert show(bench, ours.issue("robot", tmp_path, days=-1)).status == 401
    assert login(bench, "robot", "").status == 401
    shown = bench.one(CERTIFICATES)
    assert shown["common_name"] == "ours"
    bench.do("DELETE", f"{CERTIFICATES}/{shown['uuid']}")
    assert show(bench, good).status == 401


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("3735622", {"type": "server"}),
        ("52559975", {"public_certificate": "nonsense"}),
        ("52559975", {"public_certificate": "ä"}),
        ("52559973", {"public_certificate": authority(days=-1).pem}),
        ("3735558", {"public_certificate": authority("").pem}),
        ("262197", {"common_name": "another"}),
        ("1", {"name": "first"}),
    ],
)
def test_what_is_no_authority(bench: Bench, code: str, body: dict[str, Any]) -> None:
    """Other types, unreadable, expired or nameless certificates and taken names are refused with ONTAP's codes."""
    whole = {"type": "client_ca", "public_certificate": authority().pem, "name": "second"}
    bench.do("POST", CERTIFICATES, {**whole, "name": "first"})
    assert bench.call("POST", CERTIFICATES, {**whole, **body})[1]["error"]["code"] == code


# over TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Iterator[labs.Lab]:
    """A lab of its own, whose arrays come to trust authorities."""
    with labs.start("standalone") as lab:
        yield lab


def test_netapp_ontap_logs_in_with_a_certificate(lab: labs.Lab, tmp_path: Path) -> None:
    """Mutual TLS by the client itself: install the authority and the account, then work without a password."""
    told = json.loads(lab.profile.read_text("utf-8"))["storage"][0]

    def connection(**by: str) -> HostConnection:
        made = HostConnection(told["host"], port=told["port"], verify=told["ca_file"], **by)
        made.session.trust_env = False
        return made

    by_password = connection(username=told["user"], password=told["password"])
    made = authority()
    cert, key = made.issue("robot", tmp_path)
    with by_password:
        SecurityCertificate.from_dict({"type": "client_ca", "public_certificate": made.pem}).post()
        body = {"name": "robot", "applications": BY_CERTIFICATE, "owner": {"name": "cluster1"}}
        answer = by_password.session.post(f"{by_password.origin}/api{ACCOUNTS}", json=body)
        assert answer.status_code == 201, answer.text
    with connection(cert=cert, key=key):
        cluster = Cluster()
        cluster.get(fields="version")
        assert cluster.version.generation == 9
        assert [volume.name for volume in Volume.get_collection(name="svm1_root")] == ["svm1_root"]
    cert, key = made.issue("stranger", tmp_path)
    with connection(cert=cert, key=key), pytest.raises(NetAppRestError) as refused:
        Cluster().get()
    assert refused.value.status_code == 401
    assert refused.value.response_body["error"]["code"] == "6691623"
    cert, key = authority("another").issue("robot", tmp_path)
    with requests.Session() as session:
        session.trust_env = False
        session.verify, session.cert = told["ca_file"], (cert, key)
        with pytest.raises(requests.exceptions.ConnectionError):  # the handshake itself fails, as on a cluster
            session.get(f"https://{told['host']}:{told['port']}/api/cluster")
    assert config.CONNECTION is None
