"""The lab's certificates: made once, kept, and made anew when they no longer serve."""

from __future__ import annotations

import datetime
import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509

from labenv.certs import ensure_certificates


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Contents of every file."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def loads(folder: Path) -> bool:
    """Whether a server could use chain and key together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
    except ssl.SSLError:
        return False
    return True


def test_they_are_made_once(tmp_path: Path) -> None:
    """Clients that keep the CA file can go on with it: the same addresses give the same files, in any order."""
    ensure_certificates(tmp_path, ["127.0.0.1", "127.0.0.2"])
    before = bytes_of(tmp_path)
    ensure_certificates(tmp_path, ["127.0.0.2", "127.0.0.1", "127.0.0.1"])
    assert bytes_of(tmp_path) == before
    assert loads(tmp_path)


def test_another_address_needs_others(tmp_path: Path) -> None:
    """The new certificate names the new address."""
    ensure_certificates(tmp_path, ["127.0.0.1"])
    before = bytes_of(tmp_path)
    _, chain, _ = ensure_certificates(tmp_path, ["127.0.0.9"])
    assert bytes_of(tmp_path) != before
    names = x509.load_pem_x509_certificate(chain.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(a) for a in names.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.9"]
    assert loads(tmp_path)


def test_they_are_made_anew_before_the_server_s_ends(tmp_path: Path) -> None:
    """The server's certificate ends years before its CA: a folder that is kept so long still works."""
    _, chain, _ = ensure_certificates(tmp_path, ["127.0.0.1"])
    end = x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc
    ensure_certificates(tmp_path, ["127.0.0.1"], now=end - datetime.timedelta(days=30))
    assert x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc == end
    ensure_certificates(tmp_path, ["127.0.0.1"], now=end - datetime.timedelta(hours=1))
    assert x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc > end + datetime.timedelta(days=365)
    assert loads(tmp_path)


@pytest.mark.parametrize("missing", ["server.pem", "server.key", "ca.pem", "addresses"])
def test_a_process_killed_on_the_way_does_no_harm(tmp_path: Path, missing: str) -> None:
    """Files that are incomplete do not count."""
    ensure_certificates(tmp_path / "one", ["127.0.0.1"])
    (tmp_path / "one" / missing).unlink()
    ensure_certificates(tmp_path / "one", ["127.0.0.1"])
    assert loads(tmp_path / "one")


@pytest.mark.skipif(sys.platform == "win32", reason="modes as POSIX has them")
def test_the_key_is_its_owner_s(tmp_path: Path) -> None:
    """Nobody else reads the server's key; the CA's key is kept nowhere."""
    _, _, key = ensure_certificates(tmp_path, ["127.0.0.1"])
    assert key.stat().st_mode & 0o777 == 0o600
    assert [name for name, data in bytes_of(tmp_path).items() if b"PRIVATE KEY" in data] == [key.name]
