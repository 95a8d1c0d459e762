"""The host's iSCSI initiator: discovery portals, logins, and the LUNs that they bring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labenv.clock import Clock
from labenv.fabric import Fabric, FabricError, LogicalUnit, Target
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.records import PortalRecord, SessionRecord
from labenv.windows.spec import HostSpec


class Initiator:
    """Portals and sessions of one host. What a session shows is asked of the fabric, never kept."""

    def __init__(self, *, spec: HostSpec, clock: Clock, state: State, ids: Ids, fabric: Fabric) -> None:
        self.spec = spec
        self._clock = clock
        self._ids = ids
        self._fabric = fabric
        self.portals = state.table(f"windows.{spec.name}.portal", PortalRecord)
        self.sessions = state.table(f"windows.{spec.name}.session", SessionRecord)
        self._cuts = state.table(f"windows.{spec.name}.cut", bool)
        self._seen: tuple[int, dict[str, LogicalUnit]] | None = None
        self._asleep = False

    def cut(self, portal: str, *, cut: bool) -> None:
        """Cut the cable to a portal, or mend it; what comes over other portals goes on."""
        if cut:
            self._cuts[portal] = True
        else:
            self._cuts.pop(portal, None)
        self._seen = None

    def paths(self) -> dict[str, bool]:
        """The portals of the sessions, and whether each answers now."""
        return {s.portal: self.reaches(s) for s in self.sessions.values()}

    def add_portal(self, address: str, port: int) -> PortalRecord:
        """Add a discovery portal; raises ``FabricError`` if nothing answers there."""
        self._discover(address)
        record = self.portals[f"{address}:{port}"] = PortalRecord(address, port)
        return record

    def remove_portal(self, record: PortalRecord) -> None:
        """Forget a discovery portal; sessions stay."""
        del self.portals[f"{record.address}:{record.port}"]

    def targets(self) -> dict[str, Target]:
        """Targets that the discovery portals report or that have a session, by name."""
        found: dict[str, Target] = {}
        for portal in self.portals.values():
            for target in self._answer(portal.address):
                found.setdefault(target.name, target)
        for session in self.sessions.values():
            found.setdefault(session.target, Target(session.target, (session.portal,)))
        return dict(sorted(found.items()))

    def _answer(self, address: str) -> list[Target]:
        if address in self._cuts:
            return []
        try:
            return self._fabric.discover(address)
        except FabricError:
            return []

    def _discover(self, address: str) -> list[Target]:
        if address in self._cuts:
            raise FabricError(f"{address} does not answer {self.spec.name}")
        return self._fabric.discover(address)

    def reaches(self, session: SessionRecord) -> bool:
        """Whether the session's path is up now."""
        return not self._asleep and any(t.name == session.target for t in self._answer(session.portal))

    def connect(
        self, target: str, *, portal: str, port: int, initiator_portal: str, persistent: bool, multipath: bool
    ) -> SessionRecord:
        """Log in; raises ``FabricError`` if the target does not answer at the portal."""
        if not any(t.name == target for t in self._discover(portal)):
            raise FabricError(f"target {target} does not answer at {portal}")
        serial = int.from_bytes(self._ids.digest("iscsi session", self.spec.name)[:4], "big") | 0x80000000
        identifier = f"ffff{serial:08x}{serial ^ 0x5A5A5A5A:08x}-4000013700000000"
        record = SessionRecord(identifier, target, portal, port, initiator_portal, persistent, multipath)
        self.sessions[identifier] = record
        self._seen = None
        return record

    def disconnect(self, session: SessionRecord) -> None:
        """Log out and forget the favourite."""
        del self.sessions[session.identifier]
        self._seen = None

    def set_persistent(self, session: SessionRecord, persistent: bool) -> None:
        """Make a session a favourite that comes back after a restart, or not."""
        self.sessions[session.identifier] = replace(session, persistent=persistent)

    def _units(self) -> Iterator[LogicalUnit]:
        asked = set()
        for session in self.sessions.values():
            if session.target not in asked and self.reaches(session):
                asked.add(session.target)
                yield from self._fabric.logical_units(self.spec.iqn, session.target)

    def shown_by(self, target: str) -> set[str]:
        """Serial numbers of the LUNs that a target shows this host."""
        return {unit.serial_number for unit in self._fabric.logical_units(self.spec.iqn, target)}

    def units(self) -> dict[str, LogicalUnit]:
        """The LUNs that are reachable over any session now, by serial number."""
        units = {unit.serial_number: unit for unit in self._units()}
        self._seen = (self._clock.now, units)
        return units

    def unit(self, serial: str) -> LogicalUnit | None:
        """A reachable LUN. The fabric is asked once per instant: whatever changes it takes lab time."""
        if self._seen is None or self._seen[0] != self._clock.now:
            self.units()
        assert self._seen is not None
        return self._seen[1].get(serial)

    def look_again(self) -> None:
        """Something was committed in this instant: what was asked before it may be out of date."""
        self._seen = None

    def wake(self) -> None:
        """The initiator's service has been started: what it should have logged in to before, it does now."""
        self._asleep = False
        self._seen = None

    def restart(self, *, service: bool) -> None:
        """The host has restarted: only favourites log in again, as soon as the initiator's service runs."""
        self._asleep = not service
        for identifier in [k for k, s in self.sessions.items() if not s.persistent]:
            del self.sessions[identifier]
        self._seen = None
