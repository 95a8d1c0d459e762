"""iSCSI sessions between a host and a Vserver, established before a LUN can be connected (TR 2.2, "To connect")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smhvlab.errors import PowerShellError
from smhvlab.nodes import Node


@dataclass(frozen=True)
class Logins:
    """What one host still needs to reach a Vserver's target.

    Attributes:
        discover: portals that the host does not know yet.
        connect: portals without a session.
        before: identifiers of the sessions that it had; these are not touched.
    """

    host: str
    discover: tuple[str, ...]
    connect: tuple[str, ...]
    before: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.host} to {', '.join(self.connect)}"


class Sessions:
    """The sessions of one host."""

    def __init__(self, node: Node) -> None:
        self.name = node.name
        self.host = node.host

    def multipath(self) -> bool:
        """Whether a device-specific module of MPIO is registered: several sessions then are one disk."""
        query = {"Namespace": "root/WMI", "ClassName": "MPIO_REGISTERED_DSM"}
        try:
            return bool(self.host.run("Get-CimInstance", query, select=("DsmParameters",)))
        except PowerShellError:
            return False  # the class comes with MPIO

    def missing(self, portals: Sequence[str]) -> Logins:
        """What is missing for a session to each of these portals."""
        known = {str(r["TargetPortalAddress"]) for r in self._portals()}
        before = tuple(str(r["SessionIdentifier"]) for r in self._sessions())
        connected = self._connected()
        return Logins(
            host=self.name,
            discover=tuple(portal for portal in portals if portal not in known),
            connect=tuple(portal for portal in portals if portal not in connected),
            before=before,
        )

    def connected_to(self, target: str) -> bool:
        """Whether the host has a session to a target."""
        return any(str(r["TargetNodeAddress"]) == target and r["IsConnected"] for r in self._sessions())

    def ensure(self, logins: Logins, target: str, *, multipath: bool) -> None:
        """The host has the sessions, and has them again after a restart; without MPIO only one in all."""
        known = {str(r["TargetPortalAddress"]) for r in self._portals()}
        for portal in logins.discover:
            if portal not in known:
                self.host.run("New-IscsiTargetPortal", {"TargetPortalAddress": portal})
        connected = self._connected()
        wanted = [portal for portal in logins.connect if portal not in connected]
        if not multipath:
            wanted = [] if self.connected_to(target) else wanted[:1]
        for portal in wanted:
            login: dict[str, object] = {"NodeAddress": target, "TargetPortalAddress": portal, "IsPersistent": True}
            self.host.run("Connect-IscsiTarget", login | ({"IsMultipathEnabled": True} if multipath else {}))

    def discard(self, logins: Logins, target: str) -> None:
        """The host has only the sessions and knows only the portals that it had before; the target may be gone."""
        for session in self._sessions():
            name = str(session["SessionIdentifier"])
            if name not in logins.before and str(session["TargetNodeAddress"]) == target:
                self.host.run("Disconnect-IscsiTarget", {"SessionIdentifier": name})
        known = {str(r["TargetPortalAddress"]) for r in self._portals()}
        for portal in logins.discover:
            if portal in known:
                self.host.run("Remove-IscsiTargetPortal", {"TargetPortalAddress": portal})

    def _portals(self) -> list[Any]:
        return list(self.host.run("Get-IscsiTargetPortal", select=("TargetPortalAddress",)))

    def _sessions(self) -> list[Any]:
        select = ("SessionIdentifier", "TargetNodeAddress", "IsConnected")
        return list(self.host.run("Get-IscsiSession", select=select))

    def _connected(self) -> set[str]:
        return {str(r["TargetAddress"]) for r in self.host.run("Get-IscsiConnection", select=("TargetAddress",))}
