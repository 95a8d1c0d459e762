"""The iSCSI initiator's cmdlets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.fabric import FabricError
from labenv.windows import shapes_storage as shape
from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.targets import objects, prop, texts
from labenv.windows.errors import cim_not_found, iscsi

if TYPE_CHECKING:
    from labenv.windows.host import Host

CONNECTION_FAILED = 0xEFFF0003
TARGET_NOT_FOUND = 0xEFFF0009
ALREADY_LOGGED_IN = 0xEFFF003F
SESSION_BUSY = 0xEFFF0040


def get_initiator_port(host: Host, call: Call) -> Sequence[object]:
    """Get-InitiatorPort: the iSCSI initiator with its node name."""
    wanted = [a.lower() for a in texts(call.get("NodeAddress"))]
    if wanted and host.iqn.lower() not in wanted:
        raise cim_not_found("MSFT_InitiatorPort", "NodeAddress", wanted[0])
    kinds = texts(call.get("ConnectionType"))
    return [] if kinds and "iSCSI" not in kinds else [shape.initiator_port(host)]


async def new_iscsi_target_portal(host: Host, call: Call) -> Sequence[object]:
    """New-IscsiTargetPortal: asks the portal for its targets and remembers it."""
    await host.spend("windows.iscsi.portal")
    address = str(call["TargetPortalAddress"])
    port = int(call.get("TargetPortalPortNumber") or 3260)
    try:
        return [shape.portal(host, host.initiator.add_portal(address, port))]
    except FabricError as error:
        raise iscsi(CONNECTION_FAILED, "Connection Failed.", target=address) from error


def get_iscsi_target_portal(host: Host, call: Call) -> Sequence[object]:
    """Get-IscsiTargetPortal."""
    known = {p.address: p for p in host.initiator.portals.values()}
    if "TargetPortalAddress" not in call:
        return [shape.portal(host, p) for p in known.values()]
    output: list[object] = []
    for address in texts(call["TargetPortalAddress"]):
        if address in known:
            output.append(shape.portal(host, known[address]))
        else:
            call.error(cim_not_found("MSFT_iSCSITargetPortal", "TargetPortalAddress", address))
    return output


async def remove_iscsi_target_portal(host: Host, call: Call) -> None:
    """Remove-IscsiTargetPortal: forgets a portal; its sessions stay."""
    await host.spend("windows.iscsi.portal")
    wanted = texts(call.get("TargetPortalAddress")) or [str(prop(i, "TargetPortalAddress")) for i in objects(call)]
    for address in wanted:
        found = [p for p in host.initiator.portals.values() if p.address == address]
        if not found:
            call.error(cim_not_found("MSFT_iSCSITargetPortal", "TargetPortalAddress", address))
        for record in found:
            host.initiator.remove_portal(record)


async def update_iscsi_target(host: Host, call: Call) -> None:
    """Update-IscsiTarget and Update-IscsiTargetPortal: ask the portals for their targets again."""
    await host.spend("windows.iscsi.portal")
    for address in texts(call.get("TargetPortalAddress")):
        if address not in {p.address for p in host.initiator.portals.values()}:
            call.error(cim_not_found("MSFT_iSCSITargetPortal", "TargetPortalAddress", address))
    known = {name.lower() for name in host.initiator.targets()}
    for name in texts(call.get("NodeAddress")):
        if name.lower() not in known:
            call.error(cim_not_found("MSFT_iSCSITarget", "NodeAddress", name))


def get_iscsi_target(host: Host, call: Call) -> Sequence[object]:
    """Get-IscsiTarget: the targets that discovery reports."""
    known = {name.lower(): name for name in host.initiator.targets()}
    if "NodeAddress" not in call:
        return [shape.target(host, name) for name in known.values()]
    output: list[object] = []
    for name in texts(call["NodeAddress"]):
        if name.lower() in known:
            output.append(shape.target(host, known[name.lower()]))
        else:
            call.error(cim_not_found("MSFT_iSCSITarget", "NodeAddress", name))
    return output


async def connect_iscsi_target(host: Host, call: Call) -> Sequence[object]:
    """Connect-IscsiTarget: logs in; the target's LUNs appear, offline by the SAN policy.

    A second session to a target needs -IsMultipathEnabled and another pair of portals.
    """
    await host.spend("windows.iscsi.login")
    names = texts(call.get("NodeAddress")) or [str(prop(i, "NodeAddress")) for i in objects(call, "InputObject")]
    output: list[object] = []
    for name in names:
        found = next((t for t in host.initiator.targets().values() if t.name.lower() == name.lower()), None)
        if found is None:
            raise iscsi(
                TARGET_NOT_FOUND, "The target name is not found or is marked as hidden from login.", target=name
            )
        portal = str(call.get("TargetPortalAddress") or found.portals[0])
        initiator_portal = str(call.get("InitiatorPortalAddress") or "")
        multipath = bool(call.get("IsMultipathEnabled"))
        sessions = [s for s in host.initiator.sessions.values() if s.target == found.name]
        same = any((s.portal, s.initiator_portal) == (portal, initiator_portal) for s in sessions)
        if same or (sessions and not (multipath and all(s.multipath for s in sessions))):
            text = "The target has already been logged in via an iSCSI session."
            raise iscsi(ALREADY_LOGGED_IN, text, target=name)
        try:
            record = host.initiator.connect(
                found.name,
                portal=portal,
                port=int(call.get("TargetPortalPortNumber") or 3260),
                initiator_portal=initiator_portal,
                persistent=bool(call.get("IsPersistent")),
                multipath=multipath,
            )
        except FabricError as error:
            raise iscsi(CONNECTION_FAILED, "Connection Failed.", target=portal) from error
        host.disks.rescan()
        output.append(shape.session(host, record))
    return output


async def disconnect_iscsi_target(host: Host, call: Call) -> None:
    """Disconnect-IscsiTarget; refused while it is the last path to a disk that is online."""
    await host.spend("windows.iscsi.logout")
    names = [n.lower() for n in texts(call.get("NodeAddress"))]
    names += [str(prop(i, "NodeAddress") or prop(i, "TargetNodeAddress")).lower() for i in objects(call, "InputObject")]
    sessions = list(host.initiator.sessions.values())
    chosen = [s for s in sessions if not names or s.target.lower() in names]
    if "SessionIdentifier" in call:
        chosen = [s for s in chosen if s.identifier == call["SessionIdentifier"]]
    if not chosen:
        raise iscsi(TARGET_NOT_FOUND, "The target name is not found or is marked as hidden from login.")
    left = {s.target for s in sessions if s not in chosen}
    online = {d.serial for d in host.disks.present() if d.kind == "iscsi" and not d.offline}
    if any(online & host.initiator.shown_by(s.target) for s in chosen if s.target not in left):
        text = "The session cannot be logged out since a device on that session is currently being used."
        raise iscsi(SESSION_BUSY, text)
    for record in chosen:
        host.initiator.disconnect(record)
    host.disks.rescan()


def get_iscsi_session(host: Host, call: Call) -> Sequence[object]:
    """Get-IscsiSession."""
    records = list(host.initiator.sessions.values())
    if "SessionIdentifier" in call:
        records = [r for r in records if r.identifier in texts(call["SessionIdentifier"])]
    return [shape.session(host, r) for r in records]


def get_iscsi_connection(host: Host, _call: Call) -> Sequence[object]:
    """Get-IscsiConnection: one per session whose path is up."""
    return [shape.connection(host, s) for s in host.initiator.sessions.values() if host.initiator.reaches(s)]


async def register_iscsi_session(host: Host, call: Call) -> None:
    """Register-IscsiSession: makes sessions come back after a restart."""
    await host.spend("windows.iscsi.portal")
    wanted = texts(call.get("SessionIdentifier")) or [str(prop(i, "SessionIdentifier")) for i in objects(call)]
    for identifier in wanted:
        record = host.initiator.sessions.get(identifier)
        if record is None:
            call.error(cim_not_found("MSFT_iSCSISession", "SessionIdentifier", identifier))
        else:
            host.initiator.set_persistent(record, True)


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-InitiatorPort": get_initiator_port,
    "New-IscsiTargetPortal": new_iscsi_target_portal,
    "Get-IscsiTargetPortal": get_iscsi_target_portal,
    "Remove-IscsiTargetPortal": remove_iscsi_target_portal,
    "Get-IscsiTarget": get_iscsi_target,
    "Update-IscsiTarget": update_iscsi_target,
    "Update-IscsiTargetPortal": update_iscsi_target,
    "Connect-IscsiTarget": connect_iscsi_target,
    "Disconnect-IscsiTarget": disconnect_iscsi_target,
    "Get-IscsiSession": get_iscsi_session,
    "Get-IscsiConnection": get_iscsi_connection,
    "Register-IscsiSession": register_iscsi_session,
}
"""The cmdlets of this module."""
