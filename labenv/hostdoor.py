"""What can be done to one host of a lab from outside: its power, and its paths to the storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class HostDoor:
    """The power button and the cables of a host."""

    def __init__(self, request: Callable[..., dict[str, Any]], host: str) -> None:
        self._request = request
        self._host = host

    def _do(self, action: str, **arguments: object) -> dict[str, Any]:
        return self._request("host", host=self._host, action=action, arguments=arguments)

    def power_off(self) -> None:
        """Cut the host's power: every cache is lost, nothing answers. A cluster's other nodes take over in lab time."""
        self._do("power_off")

    def power_on(self) -> None:
        """Switch the host on again."""
        self._do("power_on")

    def cut_path(self, portal: str) -> None:
        """Cut the host off one portal (address of an iSCSI LIF)."""
        self._do("cut_path", portal=portal)

    def mend_path(self, portal: str) -> None:
        """Connect the host to a portal again."""
        self._do("mend_path", portal=portal)

    def paths(self) -> dict[str, bool]:
        """The portals that the host has sessions to, and whether each answers it now."""
        found: dict[str, bool] = self._do("paths")["paths"]
        return found
