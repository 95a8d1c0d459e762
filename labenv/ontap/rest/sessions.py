"""/protocols/san/iscsi/sessions: who is logged in at which target portal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap.core import Core, Login
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import SVM_LINK, Codes, Field, Links
from labenv.ontap.rest.network import lif_up
from labenv.ontap.rest.values import Kind


@dataclass(frozen=True)
class Session:
    """A login at one of our portals."""

    svm: str
    lif: r.Lif
    tsih: int
    login: Login


def sessions(core: Core, logins: Iterable[Login]) -> list[Session]:
    """Logins at portals of this cluster that are up, numbered in order."""
    targets = {svm.target: svm for svm in core.svms.values() if svm.target and svm.iscsi_enabled}
    found: list[Session] = []
    for login in logins:
        svm = targets.get(login.target)
        for lif in core.lifs.values():
            if svm is not None and lif.svm == svm.uuid and lif.address == login.portal and lif_up(core, lif):
                found.append(Session(svm.uuid, lif, len(found) + 1, login))
    return found


def _igroups(core: Core, session: Session) -> list[dict[str, Any]] | None:
    name = session.login.initiator.lower()
    return [
        {"uuid": group.uuid, "name": group.name}
        for group in core.igroups.values()
        if group.svm == session.svm and any(member.name.lower() == name for member in group.initiators)
    ] or None


def _connections(session: Session) -> list[dict[str, Any]]:
    return [
        {
            "cid": 1,
            "authentication_type": "none",
            "interface.ip.address": session.lif.address,
            "interface.ip.port": 3260,
            "interface.name": session.lif.name,
            "interface.uuid": session.lif.uuid,
            "initiator_address.address": session.login.address or None,
        }
    ]


def _isid(identifier: str) -> str:
    """Six bytes with colons, from what an initiator shows as ``ffff...-4000013700000000``."""
    digits = (identifier.rpartition("-")[2] + 12 * "0")[:12]
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


class IscsiSessions(Collection):
    """iSCSI sessions of the lab's hosts."""

    path = "/protocols/san/iscsi/sessions"
    keys = ("svm.uuid", "tpgroup", "tsih")
    default = ("svm.uuid", "svm.name", "target_portal_group", "tsih")
    codes: ClassVar[Codes] = {"GET": ("4", "262197")}
    links: ClassVar[Links] = {**SVM_LINK, "igroups": "/api/protocols/san/igroups/{uuid}"}
    fields = (
        Field("svm.uuid", read=lambda core, s: s.svm),
        Field("svm.name", read=lambda core, s: core.svms[s.svm].name),
        Field("target_portal_group", read=lambda core, s: s.lif.name),
        Field("target_portal_group_tag", Kind.INTEGER, read=lambda core, s: 1028),
        Field("tpgroup"),
        Field("tsih", Kind.INTEGER, read=lambda core, s: s.tsih),
        Field("isid", read=lambda core, s: _isid(s.login.identifier)),
        Field("initiator.name", read=lambda core, s: s.login.initiator),
        Field("initiator.alias", read=lambda core, s: s.login.initiator.rpartition(":")[2]),
        Field("igroups", Kind.OBJECTS, read=_igroups, items=(Field("uuid"), Field("name"))),
        Field(
            "connections",
            Kind.OBJECTS,
            read=lambda core, s: _connections(s),
            items=(
                Field("cid", Kind.INTEGER),
                Field("authentication_type"),
                Field("interface.ip.address"),
                Field("interface.ip.port", Kind.INTEGER),
                Field("interface.name"),
                Field("interface.uuid"),
                Field("initiator_address.address"),
            ),
        ),
    )

    def records(self, call: Call) -> Iterable[Session]:
        return sessions(self.core, self.core.logins() if self.core.logins is not None else ())

    def value(self, record: Any, name: str) -> Any:
        """As any collection; the path calls the portal group ``tpgroup``, the record ``target_portal_group``."""
        return super().value(record, "target_portal_group" if name == "tpgroup" else name)
