"""The event that SnapManager's service writes on its host when a backup fails because of its VMs (TR appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from smhvlab.errors import SmhvLabError

if TYPE_CHECKING:
    from smhvlab.wires.powershell import PowerShellWire

SOURCE: Final = "SnapMgrServiceHost"
NOT_BACKED_UP: Final = 106
_TEXT: Final = (
    "Backup Failed for the following VM(s) since it cannot be backedup online or No VM to be found: {vms}\n"
    "Dataset: {dataset}\n{reason}"
)


def tell_not_backed_up(host: PowerShellWire, *, dataset: str, vms: Sequence[str], reason: str) -> str:
    """Write event 106 to the Application log of a host; returns why it was not written, "" if it was.

    It never raises: the backup has failed already, and why is what its reader has to see. A source that is not
    registered on the host is left so: registering it is an administrator's change (``New-EventLog``).
    """
    event = {"LogName": "Application", "Source": SOURCE, "EventId": NOT_BACKED_UP, "EntryType": "Error"}
    try:
        host.run(
            "Write-EventLog", {**event, "Message": _TEXT.format(vms=", ".join(vms), dataset=dataset, reason=reason)}
        )
    except SmhvLabError as error:
        return f"Event {NOT_BACKED_UP} was not written on {host.endpoint.name}: {error.message}"
    return ""
