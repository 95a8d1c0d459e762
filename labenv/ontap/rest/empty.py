"""Collections of what the lab does not have: qtrees and Fibre Channel. They can be read, and are empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Codes, Field
from labenv.ontap.rest.values import Kind


class _Empty(Collection):
    """A collection without records."""

    codes: ClassVar[Codes] = {"GET": ("4", "262197")}
    svm_field = ""

    def records(self, call: Call) -> Iterable[Any]:
        return ()


class Qtrees(_Empty):
    """Qtrees: none, LUNs and files lie directly in their volumes."""

    path = "/storage/qtrees"
    keys = ("volume.uuid", "id")
    default = ("volume.uuid", "id", "name")
    codes: ClassVar[Codes] = {"GET": ("4", "5242956", "262197")}
    fields = (
        Field("svm.uuid"),
        Field("svm.name"),
        Field("volume.uuid"),
        Field("volume.name"),
        Field("id", Kind.INTEGER),
        Field("name"),
        Field("path"),
        Field("security_style"),
        Field("unix_permissions", Kind.INTEGER),
        Field("export_policy.name"),
        Field("qos_policy.name"),
    )

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("5242956", id=values[-1], target="id")


class FcInterfaces(_Empty):
    """Fibre Channel interfaces: none."""

    path = "/network/fc/interfaces"
    fields = (
        Field("uuid"),
        Field("name"),
        Field("svm.uuid"),
        Field("svm.name"),
        Field("data_protocol"),
        Field("enabled", Kind.BOOLEAN),
        Field("state"),
        Field("wwnn"),
        Field("wwpn"),
        Field("port_address"),
        Field("comment"),
        Field("location.home_node.name"),
        Field("location.home_port.name"),
        Field("location.node.name"),
        Field("location.port.name"),
    )


class FcPorts(_Empty):
    """Fibre Channel ports: none."""

    path = "/network/fc/ports"
    fields = (
        Field("uuid"),
        Field("name"),
        Field("node.uuid"),
        Field("node.name"),
        Field("enabled", Kind.BOOLEAN),
        Field("state"),
        Field("description"),
        Field("physical_protocol"),
        Field("supported_protocols"),
        Field("wwnn"),
        Field("wwpn"),
        Field("speed.configured"),
        Field("speed.maximum"),
    )


class FcLogins(_Empty):
    """Fibre Channel logins: none."""

    path = "/network/fc/logins"
    keys = ("interface.uuid", "initiator.wwpn")
    default = ("interface.uuid", "interface.name", "initiator.wwpn")
    fields = (
        Field("interface.uuid"),
        Field("interface.name"),
        Field("interface.wwpn"),
        Field("initiator.wwpn"),
        Field("initiator.wwnn"),
        Field("initiator.port_address"),
        Field("protocol"),
        Field("svm.uuid"),
        Field("svm.name"),
    )


class FcpServices(_Empty):
    """Fibre Channel Protocol services: none."""

    path = "/protocols/san/fcp/services"
    keys = ("svm.uuid",)
    default = ("svm.uuid", "svm.name")
    codes: ClassVar[Codes] = {"GET": ("5374083", "262197")}
    fields = (
        Field("svm.uuid"),
        Field("svm.name"),
        Field("enabled", Kind.BOOLEAN),
        Field("target.name"),
    )

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("5374083", target="svm.uuid")
