"""/cluster/nodes: controllers, and takeover and giveback in their HA pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from labenv.ontap import ha
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.cluster import VERSION_FIELDS
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    Access,
    Body,
    Codes,
    Field,
    Later,
    Parameters,
)
from labenv.ontap.rest.values import Kind, show_time

ACTIONS = ("shutdown", "reboot", "giveback")
"""What a PATCH can ask of a node; ``/private/cli/storage/failover/takeover`` is the other way to a takeover."""


def _partners(core: Core, node: r.Node) -> list[dict[str, Any]]:
    partner = core.partner(node)
    return [] if partner is None else [{"name": partner.name, "uuid": partner.uuid}]


def _takeover_state(core: Core, node: r.Node) -> str:
    """How far the takeover of its partner by this node has come."""
    partner = core.partner(node)
    if partner is None:
        return "not_possible"
    if partner.state == "taken_over":
        return "in_takeover"
    return "in_progress" if core.locked(f"takeover:{partner.uuid}") else "not_attempted"


def _giveback_state(core: Core, node: r.Node) -> str:
    """How far the giveback to its partner by this node has come."""
    partner = core.partner(node)
    if partner is not None and core.locked(f"giveback:{partner.uuid}"):
        return "in_progress"
    return "nothing_to_giveback" if partner is None or partner.state == "up" else "not_attempted"


class Nodes(Collection):
    """Controllers."""

    path = "/cluster/nodes"
    access = Access.CLUSTER
    methods = ("GET", "PATCH")
    codes: ClassVar[Codes] = {"GET": ("4", "262197"), "PATCH": ("4", "852046", "262179", "262197")}
    parameters: ClassVar[Parameters] = {
        "PATCH": (
            Field("action", choices=ACTIONS),
            Field("shutdown_reboot_reason"),
            Field("allow_data_outage", Kind.BOOLEAN),
        )
    }
    fields = (
        Field("uuid", read=lambda core, n: n.uuid),
        Field("name", read=lambda core, n: n.name),
        Field("serial_number", read=lambda core, n: n.serial_number),
        Field("model", read=lambda core, n: "SIMBOX"),
        Field("state", read=lambda core, n: n.state),
        Field("membership", read=lambda core, n: "member"),
        Field("date", Kind.TIME, read=lambda core, n: show_time(core.now)),
        *VERSION_FIELDS,
        Field("ha.enabled", Kind.BOOLEAN, read=lambda core, n: core.partner(n) is not None),
        Field(
            "ha.partners",
            Kind.OBJECTS,
            read=_partners,
            items=(Field("name"), Field("uuid")),
        ),
        Field("ha.takeover.state", read=_takeover_state),
        Field("ha.giveback.state", read=_giveback_state),
        Field(
            "management_interfaces",
            Kind.OBJECTS,
            read=lambda core, n: [
                {"name": lif.name, "uuid": lif.uuid, "ip.address": lif.address}
                for lif in core.lifs.values()
                if lif.svm is None and lif.home_node == n.name
            ],
            items=(Field("name"), Field("uuid"), Field("ip.address")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.Node]:
        return self.core.nodes.values()

    def modify(self, call: Call, record: r.Node, body: Body) -> Later | None:
        match body.get("action"):
            case None:
                return None
            case "giveback":
                return giveback(self.core, record)
            case action:
                return takeover(self.core, record, reboots=action == "reboot")


def giveback(core: Core, node: r.Node) -> Later:
    """The job that lets a node serve its aggregates again."""
    partner = core.partner(node) or node
    return Later("node.giveback", {"node": node.uuid}, node=partner.name, locks=(f"giveback:{node.uuid}",))


def takeover(core: Core, node: r.Node, *, reboots: bool = False) -> Later:
    """The job in which a node's partner takes over; raises 852046."""
    partner = ha.require_partner(core, node)
    arguments = {"node": node.uuid, "reboots": reboots}
    return Later("node.takeover", arguments, node=partner.name, locks=(f"takeover:{node.uuid}",))
