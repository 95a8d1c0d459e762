"""The cmdlets that a host knows, by module."""

from __future__ import annotations

from collections.abc import Mapping

from labenv.windows.call import Cmdlet
from labenv.windows.cmdlets import (
    cluster,
    clusteradmin,
    clusterdisk,
    clustergroup,
    clusterresource,
    content,
    disk,
    eventlog,
    guestcheck,
    hostfacts,
    inventory,
    iscsi,
    item,
    native,
    partition,
    registry,
    services,
    sqlcmd,
    storagefacts,
    system,
    tasks,
    vhd,
    vm,
    vmdrive,
    vmimport,
    vmnetwork,
    vmscsi,
    vmsettings,
    vmsnapshot,
    vmstorage,
    volume,
)
from labenv.windows.cmdlets.guard import all_guarded, needing
from labenv.windows.errors import no_initiator_service, no_management_service
from labenv.windows.inventory import ISCSI, VMMS

_HYPERV = needing(
    VMMS,
    lambda host: no_management_service(host.name),
    vm.COMMANDS,
    vmdrive.COMMANDS,
    vhd.COMMANDS,
    vmnetwork.COMMANDS,
    vmscsi.COMMANDS,
    vmsettings.COMMANDS,
    vmimport.COMMANDS,
    vmsnapshot.COMMANDS,
    vmstorage.COMMANDS,
    guestcheck.COMMANDS,
)
_ISCSI = needing(ISCSI, lambda host: no_initiator_service(), iscsi.COMMANDS)

COMMANDS: Mapping[str, Cmdlet] = all_guarded(
    _HYPERV,
    _ISCSI,
    disk.COMMANDS,
    partition.COMMANDS,
    volume.COMMANDS,
    storagefacts.COMMANDS,
    hostfacts.COMMANDS,
    item.COMMANDS,
    content.COMMANDS,
    registry.COMMANDS,
    system.COMMANDS,
    sqlcmd.COMMANDS,
    eventlog.COMMANDS,
    cluster.COMMANDS,
    clustergroup.COMMANDS,
    clusterresource.COMMANDS,
    clusterdisk.COMMANDS,
    clusteradmin.COMMANDS,
    inventory.COMMANDS,
    services.COMMANDS,
    tasks.COMMANDS,
    native.COMMANDS,
)
"""Every cmdlet of the host by its name; the session's own are in ``core``."""
