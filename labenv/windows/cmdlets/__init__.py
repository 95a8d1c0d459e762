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
    inventory,
    iscsi,
    item,
    native,
    partition,
    registry,
    services,
    sqlcmd,
    system,
    tasks,
    vhd,
    vm,
    vmdrive,
    vmimport,
    vmnetwork,
    vmscsi,
    vmsnapshot,
    vmstorage,
    volume,
)
from labenv.windows.cmdlets.guard import all_guarded

COMMANDS: Mapping[str, Cmdlet] = all_guarded(
    disk.COMMANDS,
    partition.COMMANDS,
    volume.COMMANDS,
    iscsi.COMMANDS,
    item.COMMANDS,
    content.COMMANDS,
    registry.COMMANDS,
    vm.COMMANDS,
    vmdrive.COMMANDS,
    vhd.COMMANDS,
    vmnetwork.COMMANDS,
    vmscsi.COMMANDS,
    vmimport.COMMANDS,
    vmsnapshot.COMMANDS,
    vmstorage.COMMANDS,
    system.COMMANDS,
    sqlcmd.COMMANDS,
    eventlog.COMMANDS,
    guestcheck.COMMANDS,
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
