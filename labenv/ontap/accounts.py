"""Who logs in: passwords, and client certificates under the authorities that the cluster has been told to trust."""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError

CLUSTER_ROLES = ("admin", "readonly", "none")
SVM_ROLES = ("vsadmin", "vsadmin-readonly")
READ_ONLY = ("readonly", "vsadmin-readonly")
"""Roles that can look at everything in their scope and change nothing."""


def role_of(user: r.User) -> str:
    """The user's role; those that come with the lab administer what they belong to."""
    return user.role or ("admin" if user.svm is None else "vsadmin")


def digest(salt: str, password: str) -> str:
    """What is kept of a password that was set over the API."""
    return f"{salt}${hashlib.sha512((salt + password).encode('utf-8', 'surrogatepass')).hexdigest()}"


def by_password(core: Core, name: str, password: str, *, svm: str | None = None) -> Iterator[r.User]:
    """The accounts of a name and password.

    Args:
        svm: the owner of the address at which the login arrives, "" for the cluster; None: it is not known.
    """
    for user in _unlocked(core, name, "password", svm):
        if user.digest:
            known, given = user.digest, digest(user.digest.partition("$")[0], password)
        else:
            known, given = user.password, password
        if known and hmac.compare_digest(known.encode("utf-8"), given.encode("utf-8", "surrogatepass")):
            yield user


def by_certificate(core: Core, certificate: bytes, *, svm: str | None = None) -> Iterator[r.User]:
    """The accounts of a client certificate (DER): its common name is that of an account of the authority's owner."""
    try:
        presented = x509.load_der_x509_certificate(certificate)
        name = common_name(presented)
    except ValueError:
        return
    for authority in core.authorities.values():
        if _issued(presented, x509.load_pem_x509_certificate(authority.pem.encode("ascii"))):
            for user in _unlocked(core, name, "certificate", svm):
                if user.svm == authority.svm:
                    yield user


def the_one(core: Core, users: Sequence[r.User], svm: str) -> r.User:
    """Which of the accounts that a login fits is meant.

    At an address of the cluster's or an SVM's own there is one at most. Programs outside the lab reach all of them at
    one socket: there the cluster's account comes first, as at the cluster's address, and of several SVMs' accounts the
    one of the SVM that the request names (``svm``, by name or uuid).

    Raises:
        ApiError: 6691623, if there is none or no one of several is meant.
    """
    found = {user.svm: user for user in users}
    if None in found:
        return found[None]
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise ApiError("6691623", reason="")
    names = {core.svms[key].name: user for key, user in found.items() if key is not None}
    meant = names.get(svm) or found.get(svm)
    if meant is None:
        several = ", ".join(sorted(names))
        raise ApiError("6691623", reason=f": SVMs {several} have such an account; name one with X-Dot-SVM-Name")
    return meant


def common_name(certificate: x509.Certificate) -> str:
    """The common name of a certificate's subject; raises ValueError if it has none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not found or not found[0].value:
        raise ValueError("the certificate has no common name")
    return str(found[0].value)


def in_force(certificate: x509.Certificate) -> bool:
    """Whether a certificate is valid now, in real time: TLS checks them by it, too."""
    now = datetime.datetime.now(datetime.UTC)
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _issued(presented: x509.Certificate, authority: x509.Certificate) -> bool:
    if not (in_force(presented) and in_force(authority)):
        return False
    if presented == authority:
        return True  # a certificate that signs itself is installed as its own authority
    try:
        presented.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _unlocked(core: Core, name: str, method: str, svm: str | None) -> Iterator[r.User]:
    for user in core.users.values():
        if user.name != name or user.locked or svm not in (None, user.svm or ""):
            continue
        if any(login.application == "http" and method in login.methods for login in user.logins):
            yield user
