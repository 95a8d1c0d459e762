"""An HA pair: takeover and giveback (TR 7).

Aggregates and management interfaces follow to the partner. iSCSI interfaces do not: their paths go down, and the
hosts' multipathing goes on over those of the partner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.events import emit

MOVING = ("default-management",)
"""Service policies whose interfaces follow to the partner."""


def require_partner(core: Core, node: r.Node) -> r.Node:
    """The partner that can take a node over; raises 852046."""
    partner = core.partner(node)
    if partner is None or partner.state != "up":
        raise ApiError("852046", node=node.name)
    return partner


def take_over(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of ``action=takeover``, ``shutdown`` and ``reboot`` of a node: its partner serves for both."""
    node = core.nodes[args["node"]]
    if node.state != "up":
        return
    partner = require_partner(core, node)
    core.nodes[node.uuid] = dataclasses.replace(node, state="taken_over", since=core.now, reboots=args["reboots"])
    for key, lif in list(core.lifs.items()):
        if lif.node == node.name and lif.service_policy in MOVING:
            core.lifs[key] = dataclasses.replace(lif, node=partner.name)
    core.topology += 1
    emit(
        core,
        "cf.fsm.takeoverComplete",
        severity="alert",
        text=f"{partner.name} has taken over {node.name}",
        node=partner.name,
        partner=node.name,
    )


def give_back(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of ``action=giveback``: the node serves its aggregates again, and its interfaces come home."""
    node = core.nodes[args["node"]]
    if node.state == "up":
        return
    core.nodes[node.uuid] = dataclasses.replace(node, state="up", since=core.now, reboots=False)
    for key, lif in list(core.lifs.items()):
        if lif.home_node == node.name and lif.node != node.name:
            core.lifs[key] = dataclasses.replace(lif, node=node.name)
    core.topology += 1
    emit(
        core,
        "cf.fsm.givebackComplete",
        severity="notice",
        text=f"{node.name} serves its aggregates again",
        node=node.name,
    )


class Giveback:
    """Gives a node that only rebooted its work back when it has booted."""

    name = "giveback"

    def due(self, core: Core) -> int | None:
        """When the next node has booted."""
        span = round(core.costs["ontap.node.boot"] * 1_000_000)
        return min((node.since + span for node in core.nodes.values() if node.reboots), default=None)

    def act(self, core: Core) -> None:
        """Give back what is due."""
        span = round(core.costs["ontap.node.boot"] * 1_000_000)
        for node in list(core.nodes.values()):
            if node.reboots and node.since + span <= core.now:
                give_back(core, {"node": node.uuid})
