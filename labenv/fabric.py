"""The storage network: which logical units a host's initiator sees through which portal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from labenv.devices import BlockDevice

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
"""An ASGI application."""


class FabricError(Exception):
    """A portal does not answer, or a login was refused."""


@dataclass(frozen=True)
class Target:
    """An iSCSI target node with the portals (``address``, port 3260) at which it answers now."""

    name: str
    portals: tuple[str, ...]


@dataclass(frozen=True)
class LogicalUnit:
    """A mapped LUN as an initiator sees it.

    Attributes:
        serial_number: 12 ASCII characters; a host shows NAA 600A0980 followed by their hex form.
        number: logical unit number of the LUN map.
        device: the LUN's bytes; the object stays the same while the LUN exists, whatever is restored into it.
    """

    serial_number: str
    uuid: str
    number: int
    size: int
    online: bool
    device: BlockDevice


class StorageSystem(Protocol):
    """What an array offers to the fabric."""

    def targets(self, portal: str) -> Sequence[Target]:
        """Targets that answer discovery at a portal address; empty if the address is not ours."""

    def logical_units(self, initiator: str, target: str) -> Sequence[LogicalUnit]:
        """LUNs mapped to an initiator behind a target, by logical unit number."""


@runtime_checkable
class ManagedSystem(Protocol):
    """A storage system that can be managed over the network."""

    def management(self, address: str) -> App | None:
        """What answers HTTPS at a management address; None if the address is not ours or its interface is down."""


class Fabric:
    """All storage systems of a lab, as the hosts reach them."""

    def __init__(self) -> None:
        self._systems: list[StorageSystem] = []

    def attach(self, system: StorageSystem) -> None:
        """Connect a storage system to the network."""
        self._systems.append(system)

    def discover(self, portal: str) -> list[Target]:
        """Targets behind a portal address; raises ``FabricError`` if nothing answers there."""
        found = [t for s in self._systems for t in s.targets(portal)]
        if not found:
            raise FabricError(f"no iSCSI target answers at {portal}")
        return found

    def logical_units(self, initiator: str, target: str) -> list[LogicalUnit]:
        """LUNs that an initiator sees behind a target, by logical unit number."""
        return [u for s in self._systems for u in s.logical_units(initiator, target)]

    def management(self, address: str) -> App:
        """What answers HTTPS at a management address; raises ``FabricError`` if nothing does."""
        for system in self._systems:
            app = system.management(address) if isinstance(system, ManagedSystem) else None
            if app is not None:
                return app
        raise FabricError(f"nothing answers HTTPS at {address}")
