"""What can be done to one storage cluster of a lab from outside: its power, and its links to other clusters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StorageDoor:
    """The power switch of a storage cluster, and the lines to its peers."""

    def __init__(self, request: Callable[..., dict[str, Any]], cluster: str) -> None:
        self._request = request
        self._cluster = cluster

    def _do(self, action: str, **arguments: object) -> dict[str, Any]:
        return self._request("storage", cluster=self._cluster, action=action, arguments=arguments)

    def power_off(self) -> None:
        """Switch the cluster off: no API, no iSCSI, no replication. What it has acknowledged it keeps."""
        self._do("power_off")

    def power_on(self) -> None:
        """Switch the cluster on again."""
        self._do("power_on")

    def cut_link(self, peer: str) -> None:
        """Cut the line between this cluster and another one; both go on serving their hosts."""
        self._do("cut_link", peer=peer)

    def mend_link(self, peer: str) -> None:
        """Mend the line between this cluster and another one."""
        self._do("mend_link", peer=peer)

    def links(self) -> dict[str, bool]:
        """The other clusters, and whether this one reaches them now."""
        found: dict[str, bool] = self._do("links")["links"]
        return found
