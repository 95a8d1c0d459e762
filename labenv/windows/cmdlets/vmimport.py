"""Bringing VMs back from their files: Import-VM and Compare-VM."""

from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labenv.windows import enums
from labenv.windows import shapes_hyperv as shape
from labenv.windows.call import Call, Cmdlet
from labenv.windows.errors import FileProblem, hyperv, hyperv_file
from labenv.windows.objects import PsList, PsObject
from labenv.windows.records import DriveRecord, VmRecord
from labenv.windows.volumes import full_path

if TYPE_CHECKING:
    from labenv.windows.host import Host

NO_SWITCH = 33012
NO_FILE = 40010
SAME_ID = 13000

_NS = "Microsoft.HyperV.PowerShell"


@dataclass(frozen=True)
class Incompatibility:
    """Why a configuration does not fit this host."""

    message_id: int
    message: str


def _read(host: Host, path: str) -> VmRecord:
    """The VM of a configuration file, with its folder set to where the file is now."""
    try:
        vm = host.machines.configurations.read(path)
    except FileProblem as error:
        raise hyperv_file("Failed to import a virtual machine.", error, error_id=_file_id(error)) from error
    except ValueError as error:
        text = f"Failed to import a virtual machine: '{path}' does not contain a virtual machine configuration."
        raise hyperv("OperationFailed", text, target=path) from error
    folder = ntpath.dirname(path)
    if ntpath.basename(folder).lower() == "virtual machines":
        folder = ntpath.dirname(folder)
    snapshots = folder if vm.snapshot_path.lower() == vm.path.lower() else vm.snapshot_path
    return replace(vm, path=folder, snapshot_path=snapshots)


def _file_id(error: FileProblem) -> str:
    return "InvalidParameter" if error.code in (0x80070002, 0x80070003) else "OperationFailed"


def incompatibilities(host: Host, vm: VmRecord, *, new_id: bool) -> list[Incompatibility]:
    """What keeps a VM from being registered here."""
    found = []
    if not new_id and host.machines.get(vm.id) is not None:
        text = f"A virtual machine with the identifier {str(vm.id).upper()} exists on this host already."
        found.append(Incompatibility(SAME_ID, text))
    for drive in vm.drives:
        if not drive.path:
            continue
        try:
            for path in host.vhds.chain(drive.path):
                host.files.stat(path)
        except FileProblem:
            found.append(
                Incompatibility(NO_FILE, f"The virtual disk '{drive.path}' or one of its parents cannot be opened.")
            )
    for adapter in vm.adapters:
        if adapter.switch and host.machines.switch(adapter.switch) is None:
            found.append(Incompatibility(NO_SWITCH, f"Could not find Ethernet switch '{adapter.switch}'."))
    return found


def _report(host: Host, vm: VmRecord, found: list[Incompatibility], path: str) -> PsObject:
    def shaped(item: Incompatibility) -> PsObject:
        properties: dict[str, object] = {"Message": item.message, "MessageId": item.message_id, "Source": None}
        return PsObject([f"{_NS}.VMCompatibilityError", "System.Object"], properties, text=item.message)

    properties: dict[str, object] = {
        "VM": shape.virtual_machine(host, vm),
        "OperationType": enums.hyperv("OperationType", "ImportVirtualMachine"),
        "Destination": host.name.upper(),
        "Path": path,
        "SnapshotPath": vm.snapshot_path,
        "VhdDestinationPath": None,
        "VhdSourcePath": None,
        "Incompatibilities": PsList(f"{_NS}.VMCompatibilityError[]", [shaped(i) for i in found]),
    }
    return PsObject([f"{_NS}.VMCompatibilityReport", "System.Object"], properties, text=f"{_NS}.VMCompatibilityReport")


def compare_vm(host: Host, call: Call) -> Sequence[object]:
    """Compare-VM: the report of what would not fit; nothing changes."""
    if "Path" not in call:
        raise hyperv("InvalidParameter", "The lab compares configuration files only: give -Path.")
    path = full_path(str(call["Path"]))
    vm = _read(host, path)
    return [_report(host, vm, incompatibilities(host, vm, new_id=bool(call.get("GenerateNewId"))), path)]


async def import_vm(host: Host, call: Call) -> Sequence[object]:
    """Import-VM: registers a VM where its files are, or copies them first (-Copy). Takes ``windows.vm.import``."""
    await host.spend("windows.vm.import")
    path = full_path(str(call["Path"]))
    vm = _read(host, path)
    copies = bool(call.get("Copy"))
    if call.get("VhdSourcePath"):
        vm = _found_in(full_path(str(call["VhdSourcePath"])), vm)
    found = incompatibilities(host, vm, new_id=bool(call.get("GenerateNewId")))
    if found:
        details = " ".join(item.message for item in found)
        text = (
            f"Unable to import the virtual machine due to configuration errors. Use Compare-VM to see them. {details}"
        )
        raise hyperv("OperationFailed", text, target=path)
    try:
        if copies:
            vm = await _copy(host, call, vm)
        else:
            vm = host.machines.adopt(vm)
    except FileProblem as error:
        raise hyperv_file(f"Failed to import '{vm.name}'.", error) from error
    return [shape.virtual_machine(host, vm)]


def _found_in(folder: str, vm: VmRecord) -> VmRecord:
    """The VM with its virtual disks, by their file names, in another folder than its configuration says."""
    drives = (replace(d, path=ntpath.join(folder, ntpath.basename(d.path))) if d.path else d for d in vm.drives)
    return replace(vm, drives=tuple(drives))


async def _copy(host: Host, call: Call, vm: VmRecord) -> VmRecord:
    new_id = host.ids.uuid("vm", host.name, vm.name) if call.get("GenerateNewId") else vm.id
    base = full_path(str(call.get("VirtualMachinePath") or vm.path))
    target = full_path(str(call.get("VhdDestinationPath") or ntpath.join(base, "Virtual Hard Disks")))
    host.files.mkdir(target)
    drives = []
    for drive in vm.drives:
        chain = host.vhds.chain(drive.path)
        for source in reversed(chain):
            copy = ntpath.join(target, ntpath.basename(source))
            if host.files.exists(copy):
                raise FileProblem(0x80070050, f"The file '{copy}' exists.")
            await host.files.copy(source, copy)
        drives.append(
            DriveRecord(
                drive.controller_type,
                drive.controller_number,
                drive.controller_location,
                ntpath.join(target, ntpath.basename(drive.path)),
            )
        )
    snapshots = full_path(str(call.get("SnapshotFilePath") or base))
    copied = replace(vm, id=new_id, path=base, snapshot_path=snapshots, drives=tuple(drives), parent_snapshot=None)
    return host.machines.create(replace(copied, created=host.clock.time, state="Off"))


COMMANDS: Mapping[str, Cmdlet] = {"Import-VM": import_vm, "Compare-VM": compare_vm}
"""The cmdlets of this module."""
