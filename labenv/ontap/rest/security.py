"""/security/accounts and /security/certificates: who may log in, and under which authorities with a certificate."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from cryptography import x509

from labenv.ontap import records as r
from labenv.ontap.accounts import CLUSTER_ROLES, SVM_ROLES, common_name, digest, in_force, role_of
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Access, Body, Codes, Field, Now, svm_fields
from labenv.ontap.rest.values import Kind

APPLICATIONS = ("amqp", "console", "http", "ontapi", "service_processor", "ssh")
METHODS = ("password", "certificate")
SHORTEST = 8
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")


def _owner(core: Core, user: r.User) -> tuple[str, str]:
    """uuid and name of the SVM or the cluster that an account belongs to."""
    if user.svm is None:
        return core.identity["uuid"], core.identity["name"]
    return user.svm, core.svms[user.svm].name


def _logins(_: Core, user: r.User) -> list[dict[str, Any]]:
    return [
        {
            "application": login.application,
            "authentication_methods": list(login.methods),
            "second_authentication_method": "none",
        }
        for login in user.logins
    ]


class Accounts(Collection):
    """Accounts of the cluster and of its SVMs. Those that come with the lab stay as they are."""

    path = "/security/accounts"
    keys = ("owner.uuid", "name")
    default = ("owner.uuid", "owner.name", "name")
    svm_field = "owner.uuid"
    access = Access.READ
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": (
            "1", "1261215", "2621706", "5636178", "5636176", "7077897", "7077918", "7077919", "7077920", "7078900",
        ),
        "PATCH": (
            "1261215", "5636125", "5636176", "5636178", "7077911", "7077918", "7077919", "7077920", "7077929",
        ),
        "DELETE": ("5636125",),
    }  # fmt: skip
    links: ClassVar[Mapping[str, str]] = {"owner": "/api/svm/svms/{owner.uuid}"}
    fields = (
        Field("owner.uuid", read=lambda core, u: _owner(core, u)[0], create=True),
        Field("owner.name", read=lambda core, u: _owner(core, u)[1], create=True),
        Field("name", read=lambda core, u: u.name, create=True),
        Field("role.name", read=lambda core, u: role_of(u), create=True, modify=True),
        Field("scope", read=lambda core, u: "cluster" if u.svm is None else "svm"),
        Field("locked", Kind.BOOLEAN, read=lambda core, u: u.locked, create=True, modify=True),
        Field("comment", read=lambda core, u: u.comment or None, create=True, modify=True),
        Field("password", create=True, modify=True),
        Field("password_hash_algorithm", read=lambda core, u: "sha512" if u.digest or u.password else None),
        Field(
            "applications",
            Kind.OBJECTS,
            read=_logins,
            create=True,
            modify=True,
            items=(
                Field("application", choices=APPLICATIONS),
                Field("authentication_methods", Kind.TEXTS),
                Field("second_authentication_method", choices=("none",)),
            ),
        ),
    )

    def records(self, call: Call) -> Iterable[r.User]:
        return self.core.users.values()

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        svm = self._svm(body)
        name = body.get("name") or ""
        if not _NAME.fullmatch(name):
            raise ApiError("7077897", name=name, target="name")
        key = f"{svm or 'cluster'}:{name}"
        if key in core.users:
            raise ApiError("1", target="name")
        if not body.get("applications"):
            raise ApiError("2", reason="applications are needed", target="applications")
        logins = self._applications(body)
        role = self._role(body, svm) or ("admin" if svm is None else "vsadmin")
        if any("password" in login.methods for login in logins) and not body.get("password"):
            raise ApiError("7078900", target="password")
        user = r.User(name, "", svm, role, logins, bool(body.get("locked")), body.get("comment") or "", own=True)

        def apply() -> r.User:
            made = self._with_password(user, body)
            core.users[key] = made
            return made

        self._with_password(user, body)
        return Now("account.create", apply)

    def _svm(self, body: Body) -> str | None:
        """The SVM that is to own the account; None: the cluster."""
        core = self.core
        name, uuid = body.get("owner.name"), body.get("owner.uuid")
        if uuid in (None, "", core.identity["uuid"]) and name in (None, "", core.identity["name"]):
            return None
        return core.svm(name=name, uuid=uuid).uuid

    @staticmethod
    def _role(body: Body, svm: str | None) -> str:
        role: str = body.get("role.name") or ""
        if role and role not in (CLUSTER_ROLES if svm is None else SVM_ROLES):
            raise ApiError("1261215", role=role, target="role.name")
        return role

    @staticmethod
    def _applications(body: Body) -> tuple[r.AccountLogin, ...]:
        logins = []
        for element in body.get("applications") or ():
            if element.get("application") is None:
                raise ApiError("5636178", target="applications.application")
            methods = tuple(element.get("authentication_methods") or ())
            allowed = METHODS if element["application"] in ("http", "ontapi") else ("password",)
            if not methods or not set(methods) <= set(allowed):
                raise ApiError("5636176", application=element["application"], methods=", ".join(methods))
            logins.append(r.AccountLogin(element["application"], methods))
        return tuple(logins)

    def _with_password(self, user: r.User, body: Body) -> r.User:
        password = body.get("password")
        if not password:
            return user
        if user.name in password:
            raise ApiError("7077918", target="password")
        if len(password) < SHORTEST:
            raise ApiError("7077919", least=SHORTEST, target="password")
        if not (re.search(r"[A-Za-z]", password) and re.search(r"\d", password)):
            raise ApiError("7077920", target="password")
        salt = self.core.ids.text("ontap.salt", self.core.spec.name, user.name, length=16, alphabet="0123456789abcdef")
        return dataclasses.replace(user, digest=digest(salt, password))

    def modify(self, call: Call, record: r.User, body: Body) -> Now | None:
        if not body:
            return None
        if not record.own:
            raise ApiError("5636125", name=record.name)
        logins = self._applications(body) if body.get("applications") else record.logins
        takes_password = any("password" in login.methods for login in logins)
        if body.get("password") and not takes_password:
            raise ApiError("7077911", name=record.name, target="password")
        if body.get("locked") and not (takes_password and record.digest):
            raise ApiError("7077929", target="locked")
        changed = dataclasses.replace(
            record,
            role=self._role(body, record.svm) or record.role,
            logins=logins,
            locked=record.locked if body.get("locked") is None else body["locked"],
            comment=record.comment if body.get("comment") is None else body["comment"],
        )
        self._with_password(changed, body)

        def apply() -> None:
            self.core.users[self._key(record)] = self._with_password(changed, body)

        return Now("account.modify", apply)

    @staticmethod
    def _key(user: r.User) -> str:
        return f"{user.svm or 'cluster'}:{user.name}"

    def remove(self, call: Call, record: r.User) -> Now:
        if not record.own:
            raise ApiError("5636125", name=record.name)

        def apply() -> None:
            del self.core.users[self._key(record)]

        return Now("account.delete", apply)


class Certificates(Collection):
    """Certificate authorities (``client_ca``) whose client certificates are a login; there are no others."""

    path = "/security/certificates"
    access = Access.CLUSTER
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("1", "3735558", "3735622", "52559972", "52559973", "52559975"),
        "DELETE": ("4",),
    }
    fields = (
        Field("uuid", read=lambda core, a: a.uuid),
        Field("name", read=lambda core, a: a.name, create=True),
        *svm_fields(),
        Field("scope", read=lambda core, a: "cluster" if a.svm is None else "svm"),
        Field("type", read=lambda core, a: "client_ca", create=True),
        Field("common_name", read=lambda core, a: common_name(_read(a.pem)), create=True),
        Field("ca", read=lambda core, a: _read(a.pem).issuer.rfc4514_string()),
        Field("serial_number", read=lambda core, a: f"{_read(a.pem).serial_number:X}"),
        Field("expiry_time", Kind.TIME, read=lambda core, a: _read(a.pem).not_valid_after_utc.isoformat()),
        Field("public_certificate", read=lambda core, a: a.pem, create=True),
    )

    def records(self, call: Call) -> Iterable[r.Authority]:
        return self.core.authorities.values()

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        if body.get("type") != "client_ca":
            raise ApiError("3735622", type=body.get("type") or "", target="type")
        try:
            certificate = _read(body.get("public_certificate") or "")
        except ValueError:
            raise ApiError("52559975", target="public_certificate") from None
        try:
            common = common_name(certificate)
        except ValueError:
            raise ApiError("3735558", target="public_certificate") from None
        if body.get("common_name") not in (None, "", common):
            raise invalid_value(body["common_name"], "common_name", common)
        if not in_force(certificate):
            late = certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC)
            raise ApiError("52559973" if late else "52559972", target="public_certificate")
        svm = None
        if body.get("svm.name") or body.get("svm.uuid"):
            svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid")).uuid
        name = body.get("name") or f"{common}_{certificate.serial_number:X}"
        if any(a.name == name and a.svm == svm for a in core.authorities.values()):
            raise ApiError("1", target="name")

        def apply() -> r.Authority:
            uuid = core.new_uuid("authority", name)
            made = core.authorities[uuid] = r.Authority(uuid, name, svm, body["public_certificate"])
            core.trusts(made.pem)
            return made

        return Now("certificate.install", apply)

    def remove(self, call: Call, record: r.Authority) -> Now:
        def apply() -> None:
            del self.core.authorities[record.uuid]

        return Now("certificate.delete", apply)


def _read(pem: str) -> x509.Certificate:
    """A certificate; raises ValueError."""
    return x509.load_pem_x509_certificate(pem.encode("ascii"))
