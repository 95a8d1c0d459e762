"""The lab's own certificate authority: one CA per state folder, one server certificate for every address in use."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labenv.private import write_private

_DAY = datetime.timedelta(days=1)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def ensure_certificates(
    folder: Path, addresses: list[str], *, now: datetime.datetime | None = None
) -> tuple[Path, Path, Path]:
    """The CA file, the server's certificate chain and its key; made when they are missing, end, or lack an address.

    Certificates are made in real time (``now``), not lab time: real TLS clients check them.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    folder.mkdir(parents=True, exist_ok=True)
    ca_file, chain, key_file, names = (folder / n for n in ("ca.pem", "server.pem", "server.key", "addresses"))
    wanted = "\n".join(sorted(set(addresses)))
    if all(p.exists() for p in (ca_file, chain, key_file, names)) and names.read_text("utf-8") == wanted:
        certificate = x509.load_pem_x509_certificate(chain.read_bytes())  # it ends before its CA does
        if certificate.not_valid_after_utc > now + _DAY:
            return ca_file, chain, key_file
    names.unlink(missing_ok=True)  # written last: a process killed on the way leaves files that do not count
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = (
        x509.CertificateBuilder()
        .subject_name(_name("smhvlab lab CA"))
        .issuer_name(_name("smhvlab lab CA"))
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 3650 * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(_usage(sign=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names_of: list[x509.GeneralName] = [x509.DNSName("localhost")]
    names_of += [x509.IPAddress(ipaddress.ip_address(a)) for a in sorted(set(addresses))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("smhvlab lab"))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 820 * _DAY)
        .add_extension(x509.SubjectAlternativeName(names_of), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write_private(key_file, _pem(key))
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    names.write_text(wanted, "utf-8")
    return ca_file, chain, key_file


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )
