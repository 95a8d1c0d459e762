"""Disks: Get-Disk, Set-Disk, Initialize-Disk, Clear-Disk, Update-Disk, Update-HostStorageCache, the SAN policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.devices import DeviceError, DeviceGone, ReadOnlyDevice
from labenv.windows import shapes_storage as shape
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.targets import disks
from labenv.windows.disks.gpt import MSR, Gpt, PartitionStyle
from labenv.windows.disks.layout import Layout
from labenv.windows.disks.mbr import Mbr, MbrPartition
from labenv.windows.errors import storage
from labenv.windows.objects import UInt16
from labenv.windows.records import DiskRecord
from labenv.windows.storage import POLICIES
from labenv.windows.vmconfig import is_active

if TYPE_CHECKING:
    from labenv.windows.host import Host


def io_failed(error: Exception) -> PsError:
    """What the storage provider says when the disk below does not take a write."""
    if isinstance(error, ReadOnlyDevice):
        return storage(41002)
    if isinstance(error, DeviceGone):
        return storage(41003, detail="It does not answer.")
    return storage(4, detail=f"{error}")


def get_disk(host: Host, call: Call) -> Sequence[object]:
    """Get-Disk."""
    return [shape.disk(host, record) for record in disks(host, call)]


async def set_disk(host: Host, call: Call) -> Sequence[object] | None:
    """Set-Disk: offline; or read-only, GUID, signature; or the style of a disk without data; one set at a time."""
    await host.spend("windows.disk.set")
    for record in disks(host, call):
        try:
            _set(host, call, record)
        except DeviceError as error:
            call.error(io_failed(error))
    return None


def _set(host: Host, call: Call, record: DiskRecord) -> None:
    if record.kind == "system" and call.get("IsOffline"):
        raise storage(4, detail="The system disk cannot be taken offline.")
    if host.disks.held(record):
        raise storage(41018)
    if "IsOffline" in call and any(
        is_active(vm) and any(d.disk_id == record.unique_id for d in vm.drives) for vm in host.vms.values()
    ):
        raise storage(6)
    if "IsOffline" in call:
        if call["IsOffline"] != record.offline:
            if not call["IsOffline"]:
                host.disks.raw(record)  # a disk that does not answer stays offline
            host.disks.set_offline(record, call["IsOffline"])
    elif "PartitionStyle" in call:
        _convert(host, record, str(call["PartitionStyle"]))
    else:
        if "IsReadOnly" in call:
            record = host.disks.records[record.unique_id] = replace(record, read_only=call["IsReadOnly"])
            host.disks.changed()
        if "Guid" in call or "Signature" in call:
            _identify(host, record, call)


def _identify(host: Host, record: DiskRecord, call: Call) -> None:
    """Another GUID for a GPT, another signature for an MBR; neither is valid for the other style."""
    layout: Layout | None = host.disks.layout(record)
    if layout is None:
        raise storage(41000)
    if isinstance(layout, Gpt) and "Guid" in call and "Signature" not in call:
        try:
            layout = layout.with_disk_guid(UUID(call["Guid"]))
        except ValueError as error:
            raise storage(5) from error
    elif isinstance(layout, Mbr) and call.get("Signature") and "Guid" not in call:
        layout = layout.with_signature(int(call["Signature"]))
    else:
        raise storage(5, detail="A GPT disk has a GUID, an MBR disk a signature other than 0.")
    if record.offline:
        host.disks.rewrite_offline(record, layout)
    else:
        host.disks.write_layout(record, layout)


def _convert(host: Host, record: DiskRecord, style: str) -> None:
    layout = host.disks.layout(record)
    if record.offline:
        raise storage(41003)
    if record.read_only:
        raise storage(41002)
    if layout is None:
        raise storage(41000)
    if record.kind == "system":
        raise storage(41009)
    if host.disks.owner is not None and host.disks.owner.clustered(record):
        raise storage(41019)
    wanted = _style(style)
    if layout.style is wanted:
        return
    if any(isinstance(p, MbrPartition) or p.type_guid != MSR for p in layout.partitions):
        raise storage(41013)
    host.disks.write_layout(record, None)
    host.disks.initialize(record, wanted)


def _style(name: str) -> PartitionStyle:
    if name not in ("MBR", "GPT"):
        raise storage(5, detail="The style is MBR or GPT.")
    return PartitionStyle(name)


async def initialize_disk(host: Host, call: Call) -> Sequence[object] | None:
    """Initialize-Disk: a GPT with its reserved partition, or an MBR with a new signature."""
    await host.spend("windows.disk.initialize")
    found = disks(host, call)
    style = _style(str(call.get("PartitionStyle", "GPT")))
    for record in found:
        if host.disks.held(record):
            raise storage(41018)
        if record.offline:
            raise storage(41003)
        if record.read_only:
            raise storage(41002)
        if host.disks.layout(record) is not None:
            raise storage(41001)
        try:
            host.disks.initialize(record, style)
        except DeviceError as error:
            raise io_failed(error) from error
    return [shape.disk(host, r) for r in found] if call.get("PassThru") else None


async def clear_disk(host: Host, call: Call) -> Sequence[object] | None:
    """Clear-Disk: removes the partition table; partitions only with -RemoveData."""
    await host.spend("windows.disk.clear")
    found = disks(host, call)
    for record in found:
        layout = host.disks.layout(record)
        if record.offline:
            raise storage(41003)
        if layout is None:
            raise storage(41000)
        if host.disks.held(record):
            raise storage(41018)
        if record.kind == "system" or (_data(host, record) and not call.get("RemoveData")):
            raise storage(40001, detail="The disk has data partitions; RemoveData was not given.")
        try:
            host.disks.write_layout(record, None)
        except DeviceError as error:
            raise io_failed(error) from error
    return [shape.disk(host, r) for r in found] if call.get("PassThru") else None


def _data(host: Host, record: DiskRecord) -> bool:
    return any(v.disk == record.unique_id for v in host.volumes.all())


async def update_disk(host: Host, call: Call) -> None:
    """Update-Disk: reads one disk's size and partitions again."""
    await host.spend("windows.disk.update")
    for record in disks(host, call):
        host.disks.refresh(record)


async def update_host_storage_cache(host: Host, _call: Call) -> None:
    """Update-HostStorageCache: rescans; LUNs come, go and grow. Takes ``windows.rescan``."""
    await host.spend("windows.rescan")
    host.disks.rescan()


def get_storage_setting(host: Host, _call: Call) -> Sequence[object]:
    """Get-StorageSetting: the SAN policy."""
    policy = host.disks.policy
    properties: dict[str, object] = {
        "NewDiskPolicy": UInt16(POLICIES[policy]),
        "ScrubPolicy": None,
        "PSComputerName": None,
    }
    return [shape.cim("MSFT_StorageSetting", properties, {"NewDiskPolicy": policy})]


async def set_storage_setting(host: Host, call: Call) -> None:
    """Set-StorageSetting: the SAN policy for disks that this host has not seen before."""
    await host.spend("windows.disk.set")
    if "NewDiskPolicy" in call:
        host.disks.policy = str(call["NewDiskPolicy"])


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-Disk": get_disk,
    "Set-Disk": set_disk,
    "Initialize-Disk": initialize_disk,
    "Clear-Disk": clear_disk,
    "Update-Disk": update_disk,
    "Update-HostStorageCache": update_host_storage_cache,
    "Get-StorageSetting": get_storage_setting,
    "Set-StorageSetting": set_storage_setting,
}
"""The cmdlets of this module."""
