"""A small HTTPS server with canned answers, and a certificate authority, for tests of the wires."""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from smhvlab.profile import StorageEndpoint


@dataclass
class Seen:
    """A request that reached the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Answer:
    """What the server does with a request: answer, or hang up before or in the middle of the answer."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: str = ""  # "before" any byte, or in the "middle" of the body
    content_type: str = "application/hal+json"


Route = Callable[[Seen], Answer]


@dataclass
class Canned:
    """The server: what it was asked, and how it answers."""

    host: str
    port: int
    ca_file: str
    route: Route
    seen: list[Seen]

    def endpoint(self, **changes: Any) -> StorageEndpoint:
        """The endpoint of a profile that points here."""
        settings = {"name": "cluster1", "host": self.host, "port": self.port, "ca_file": self.ca_file} | changes
        return StorageEndpoint(**settings)

    def asked(self) -> list[str]:
        """Method and path of each request, in order."""
        return [f"{one.method} {one.path}" for one in self.seen]


@dataclass(frozen=True)
class Authority:
    """Files of a certificate authority and of a server certificate for 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    now = datetime.datetime.now(datetime.UTC)

    def build(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, ca: bool
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        usage = x509.KeyUsage(True, False, False, False, False, ca, ca, False, False)
        builder = builder.add_extension(usage, critical=True)
        if not ca:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = build("test authority", ca_key, "test authority", ca_key, True)
    certificate = build("127.0.0.1", key, "test authority", ca_key, False)
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
