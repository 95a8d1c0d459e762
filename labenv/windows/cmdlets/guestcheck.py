"""Invoke-SmhvGuestCheck: a function of the module SmhvLab that asks a guest past its network (PowerShell Direct)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.devices import DeviceError
from labenv.guest.engine import DatabaseState
from labenv.guest.errors import GuestError
from labenv.guest.guest import Guest
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.targets import texts
from labenv.windows.machines import VmNotRunning
from labenv.windows.objects import Int64, PsObject
from labenv.windows.remoting.values import Credential

if TYPE_CHECKING:
    from labenv.windows.host import Host

_EXCEPTION = "System.InvalidOperationException"


def _refused(error_id: str, category: str, target: object, message: str) -> PsError:
    return PsError(message, error_id=error_id, category=category, target=target, exception=_EXCEPTION)


async def invoke_smhv_guest_check(host: Host, call: Call) -> Sequence[object]:
    """One object for each database: whether it is sound, and how many rows its ledger has."""
    await host.spend("windows.sql")
    vm_id = call["VMId"]
    vm = host.machines.get(vm_id) if isinstance(vm_id, UUID) else None
    if vm is None:
        text = f"There is no virtual machine with the id {vm_id} on this host."
        raise _refused("SmhvVirtualMachineNotFound", "ObjectNotFound", vm_id, text)
    if vm.state != "Running":
        text = f"The virtual machine '{vm.name}' is {vm.state}: start it first."
        raise _refused("SmhvVirtualMachineNotRunning", "InvalidOperation", vm_id, text)
    login = call.get("Credential")
    if not isinstance(login, Credential):
        text = "PowerShell Direct needs the credential of an administrator of the guest."
        raise _refused("SmhvCredentialNeeded", "PermissionDenied", vm_id, text)
    try:
        guest = host.machines.guest(vm)
        if not host.guest_logins.accepts(login.user.rpartition("\\")[2], login.password):
            raise GuestError("The credential is invalid.")
        known = guest.databases()
    except (VmNotRunning, GuestError, DeviceError) as error:
        text = f"The guest of '{vm.name}' cannot be asked: {error}"
        raise _refused("SmhvGuestNotReached", "ConnectionError", vm_id, text) from error
    named = {name.lower(): name for name in known}
    wanted = texts(call.get("Database")) or sorted(known)
    return [_shaped(vm.name, vm.id, guest, name, named.get(name.lower())) for name in wanted]


def _shaped(vm_name: str, vm_id: UUID, guest: Guest, name: str, database: str | None) -> PsObject:
    state, problems = "MISSING", [f"There is no database '{name}'."]
    rows: Int64 | None = None
    last: Int64 | None = None
    if database is not None:
        found, _ = guest.database_state(database)
        state = "ONLINE" if found is DatabaseState.ONLINE else found.name
        problems = [f"The database is {state}."]
    if database is not None and state == "ONLINE":
        try:
            checked = guest.checkdb(database)
            problems = [*checked.integrity, *(f"Ledger: {each}" for each in checked.ledger)]
            if guest.has_ledger(database):
                rows, last = Int64(checked.rows), Int64(checked.last_transaction)
        except (GuestError, DeviceError) as error:
            problems = [str(error)]
    notes: dict[str, object] = {
        "VMId": vm_id,
        "VMName": vm_name,
        "ComputerName": guest.host_name,
        "Database": database or name,
        "State": state,
        "Sound": not problems,
        "Problems": problems,
        "RowTotal": rows,
        "LastEntry": last,
    }
    return PsObject(["System.Management.Automation.PSCustomObject", "System.Object"], {}, notes, text="")


COMMANDS: Mapping[str, Cmdlet] = {"Invoke-SmhvGuestCheck": invoke_smhv_guest_check}
"""The function of the module SmhvLab."""
