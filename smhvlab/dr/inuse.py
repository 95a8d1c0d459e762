"""LUNs of mirrors that were broken off before, and that somebody on this site may use by now (TR 8)."""

from __future__ import annotations

from collections.abc import Sequence

from smhvlab.dr.images import MirroredVolume
from smhvlab.dr.replication import Mirror
from smhvlab.dr.sites import homes_by_vm
from smhvlab.errors import NotAllowed
from smhvlab.site import Site
from smhvlab.storage import LunRef


def refuse_in_use(site: Site, volumes: Sequence[MirroredVolume]) -> None:
    """See that no host here has a LUN online that goes back to a backup though its mirror was broken off before.

    Raises:
        NotAllowed: one has; VMs may live on it.
    """
    if not volumes:
        return
    wanted = {(volume.volume.uuid, image.lun) for volume in volumes for image in volume.images}
    luns = [lun for lun in site.tools().storage.luns() if (lun.volume.uuid, lun.path) in wanted]
    refuse_online(
        site,
        luns,
        mirrors=[volume.mirror for volume in volumes],
        next_action="Another VM that came with such a disk is registered from its configuration file there "
        "(Import-VM), and goes to another backup by site.restore. If nothing there is needed any more, remove the "
        "VMs and disconnect the disk, then plan again.",
    )


def refuse_online(site: Site, luns: Sequence[LunRef], *, mirrors: Sequence[Mirror], next_action: str) -> None:
    """See that no host of a site has one of the LUNs of broken mirrors online.

    Raises:
        NotAllowed: one has; the VMs that have files there are named.
    """
    nodes = site.tools().nodes
    held = {disk.unique_id: disk for disk in nodes.disks() if not disk.offline}
    taken = [lun for lun in luns if lun.unique_id in held]
    if not taken:
        return
    machines = nodes.vms()
    places = homes_by_vm(site, machines)
    raw = {vm.id: {(vm.host.casefold(), disk.disk_number) for disk in vm.disks} for vm in machines}
    told = []
    for lun in taken:
        disk = held[lun.unique_id]
        living = [
            vm.name
            for vm in machines
            if lun.unique_id in places[vm.id] or (disk.host.casefold(), disk.number) in raw[vm.id]
        ]
        told.append(f"{lun} is disk {disk.number} of {disk.host}" + (f" with {', '.join(living)}" if living else ""))
    raise NotAllowed(
        f"LUNs that would go back to a backup are in use here: {'; '.join(told)}",
        why="what has been written there since the mirrors were broken off would be lost under its users: "
        + ", ".join(str(mirror) for mirror in mirrors),
        next_action=next_action,
        tr="8",
    )
