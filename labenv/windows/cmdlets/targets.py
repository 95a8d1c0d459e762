"""Finding what a cmdlet's parameters or its pipeline input select."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.call import Call
from labenv.windows.errors import cim_not_found, vm_not_found
from labenv.windows.objects import PsObject
from labenv.windows.records import DiskRecord, SnapshotRecord, VmRecord

if TYPE_CHECKING:
    from labenv.windows.host import Host


def many(value: object) -> list[object]:
    """A parameter's values as a list, whether it was given one or several."""
    if value is None:
        return []
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    return [value]


def texts(value: object) -> list[str]:
    """A parameter's values as strings."""
    return [str(each) for each in many(value)]


def objects(call: Call, *names: str) -> list[PsObject]:
    """Objects given as parameters or through the pipeline."""
    given = [each for name in names for each in many(call.get(name))]
    return [each for each in (given or call.input) if isinstance(each, PsObject)]


def prop(item: PsObject, name: str) -> object:
    """A property of an input object; notes first, as PowerShell looks it up."""
    for source in (item.notes, item.properties):
        if name in source:
            return source[name]
    return None


def vms(host: Host, call: Call, *, all_if_none: bool = False) -> list[VmRecord]:
    """VMs by -Name or -VMName (patterns), -VM or pipeline objects (by their id).

    A name without a match is a non-terminating error, unless it has wildcards.
    """
    found: list[VmRecord] = []
    names = texts(call.get("VMName")) or texts(call.get("Name"))
    if call.get("VM") is not None or (call.input and not names):
        for item in objects(call, "VM"):
            vm_id = prop(item, "VMId") if "VirtualMachine" not in item.types[0] else item.properties.get("Id")
            vm = host.machines.get(vm_id) if isinstance(vm_id, UUID) else None
            if vm is None:
                call.error(vm_not_found(str(prop(item, "Name"))))
            else:
                found.append(vm)
        return found
    if not names and all_if_none:
        return host.machines.named("*")
    for name in names:
        matches = host.machines.named(name)
        if not matches and not any(c in name for c in "*?["):
            call.error(vm_not_found(name))
        found += [m for m in matches if m not in found]
    return found


def snapshots(host: Host, call: Call) -> list[SnapshotRecord]:
    """Checkpoints given as -VMSnapshot or through the pipeline."""
    found = []
    for item in objects(call, "VMSnapshot"):
        record = host.machines.snapshots.get(str(item.properties.get("Id")))
        if record is not None:
            found.append(record)
    return found


def disks(host: Host, call: Call) -> list[DiskRecord]:
    """Disks by -Number, -DiskNumber, -UniqueId, -Path, -FriendlyName or pipeline objects; else all."""
    present = host.disks.present()
    for name, key in (("Number", "Number"), ("DiskNumber", "DiskNumber")):
        if name in call:
            return _by(call, key, texts(call[name]), {str(d.number): d for d in present})
    if "UniqueId" in call:
        return _by(call, "UniqueId", texts(call["UniqueId"]), {d.unique_id: d for d in present})
    if "SerialNumber" in call:
        return _by(call, "SerialNumber", texts(call["SerialNumber"]), {d.serial: d for d in present})
    for name in ("Path", "DiskId", "DiskPath"):
        if name in call:
            paths = {f"\\\\?\\disk{{{host.name}-{d.unique_id}}}".lower(): d for d in present}
            return _by(call, name, [p.lower() for p in texts(call[name])], paths)
    items = objects(call, "InputObject", "Disk")
    if items:
        numbers = {str(prop(i, "Number") if "Number" in i.properties else prop(i, "DiskNumber")) for i in items}
        return [d for d in present if str(d.number) in numbers]
    return present


def _by(call: Call, name: str, wanted: Iterable[str], known: dict[str, DiskRecord]) -> list[DiskRecord]:
    found = []
    lowered = {key.lower(): disk for key, disk in known.items()}
    for each in wanted:
        disk = lowered.get(each.lower())
        if disk is None:
            call.error(cim_not_found("MSFT_Disk", name, each))
        else:
            found.append(disk)
    return found
