"""What the network cards of a host's virtual machines lead to: the portals of the storage systems."""

from __future__ import annotations

from labenv.devices import BlockDevice
from labenv.fabric import Fabric, FabricError
from labenv.guest.errors import GuestError


class GuestNetwork:
    """The way of a guest's own initiator to an array, past its host."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def disks(self, initiator: str, portal: str) -> list[BlockDevice]:
        """The LUNs that are mapped to an initiator, online, behind a portal; raises ``GuestError``."""
        try:
            targets = self._fabric.discover(portal)
        except FabricError as error:
            raise GuestError(str(error)) from error
        units = [u for target in targets for u in self._fabric.logical_units(initiator, target.name)]
        if not units:
            raise GuestError(f"{portal} shows no LUN to {initiator}: map one to an igroup with this initiator")
        return [unit.device for unit in units if unit.online]
