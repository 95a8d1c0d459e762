"""Invoke-Sqlcmd against the SQL Server inside a running guest of this host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.devices import DeviceError
from labenv.guest import sql
from labenv.guest.errors import GuestError
from labenv.guest.guest import Guest
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.machines import VmNotRunning
from labenv.windows.objects import PsObject
from labenv.windows.remoting.values import Credential

if TYPE_CHECKING:
    from labenv.windows.host import Host

_EXCEPTION = "System.Data.SqlClient.SqlException"


def _refused(message: str, *, error_id: str = "SqlExceptionError", category: str = "InvalidOperation") -> PsError:
    return PsError(message, error_id=error_id, category=category, exception=_EXCEPTION)


def _guest(host: Host, instance: str) -> Guest:
    server = instance.partition("\\")[0].partition(",")[0].lower()
    try:
        return host.guest(server)
    except (KeyError, VmNotRunning):
        pass
    for guest in host.guests().values():
        if server in (guest.host_name.lower(), guest.address.lower() or None):
            return guest
    raise _refused(
        "A network-related or instance-specific error occurred while establishing a connection to SQL Server: "
        f"no running virtual machine of this host is named '{server}'."
    )


def _login(call: Call) -> tuple[str, str]:
    credential = call.get("Credential")
    if isinstance(credential, Credential):
        return credential.user, credential.password
    return str(call.get("Username") or ""), str(call.get("Password") or "")


async def invoke_sqlcmd(host: Host, call: Call) -> Sequence[object]:
    """Invoke-Sqlcmd: one statement of the closed list, with a SQL login (a Windows login would be a second hop)."""
    await host.spend("windows.sql")
    instance = call.get("ServerInstance")
    if isinstance(instance, PsObject):
        instance = instance.text
    guest = _guest(host, str(instance or ""))
    name, password = _login(call)
    if not host.logins.accepts(name, password):
        raise _refused(f"Login failed for user '{name}'.", error_id="SqlExceptionError", category="InvalidOperation")
    try:
        rows = await sql.run(guest, str(call.get("Query") or ""), sleep=host.clock.sleep)
    except (GuestError, DeviceError) as error:
        raise _refused(str(error), error_id="SqlError") from error
    types = ["System.Data.DataRow", "System.Object"]
    return [PsObject(types, row, text="System.Data.DataRow") for row in rows]


COMMANDS: Mapping[str, Cmdlet] = {"Invoke-Sqlcmd": invoke_sqlcmd}
"""The cmdlets of this module."""
