"""Small things that one asks a host: its drives, its time zone, full paths, one value of a registry key."""

from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets import registry
from labenv.windows.cmdlets.item import existing, matches
from labenv.windows.cmdlets.targets import texts
from labenv.windows.errors import item
from labenv.windows.objects import PsObject, UInt64

if TYPE_CHECKING:
    from labenv.windows.host import Host

_MANAGEMENT = "System.Management.Automation"


def get_item_property_value(host: Host, call: Call) -> Sequence[object]:
    """Get-ItemPropertyValue: the values themselves, of registry keys."""
    found = registry.get_item_property(host, call)
    wanted = [name.lower() for name in texts(call.get("Name"))]
    output: list[object] = []
    for each in found:
        assert isinstance(each, PsObject)
        values = {name.lower(): value for source in (each.properties, each.notes) for name, value in source.items()}
        output += [values[name] for name in wanted if name in values]
    return output


def get_ps_drive(host: Host, call: Call) -> Sequence[object]:
    """Get-PSDrive: the volumes with letters, and HKLM."""
    wanted = texts(call.get("Name")) or texts(call.get("LiteralName"))
    providers = [name.lower() for name in texts(call.get("PSProvider"))]
    drives = [_drive(host, v.letter) for v in host.volumes.all() if v.letter]
    drives.append(_psdrive("HKLM", "HKEY_LOCAL_MACHINE", "Registry", None, None))
    shown = []
    for drive in sorted(drives, key=lambda d: str(d.properties["Name"])):
        name, provider = str(drive.properties["Name"]), str(drive.properties["Provider"]).rpartition("\\")[2]
        if (not wanted or any(matches(name, w) for w in wanted)) and (not providers or provider.lower() in providers):
            shown.append(drive)
    known = {str(d.properties["Name"]).lower() for d in drives}
    for name in wanted:
        if name.lower() not in known and not any(c in name for c in "*?["):
            text = f"Cannot find drive. A drive with the name '{name}' does not exist."
            call.error(
                item(
                    "GetLocationNoMatchingDrive", "ObjectNotFound", text, name, f"{_MANAGEMENT}.DriveNotFoundException"
                )
            )
    return shown


def _drive(host: Host, letter: str) -> PsObject:
    volume = host.volumes.letter(letter)
    assert volume is not None
    system = host.volumes.formatted(volume)
    free = UInt64(system.free) if system is not None else None
    used = UInt64(system.size - system.free) if system is not None else None
    return _psdrive(letter, f"{letter}:\\", "FileSystem", used, free)


def _psdrive(name: str, root: str, provider: str, used: UInt64 | None, free: UInt64 | None) -> PsObject:
    properties: dict[str, object] = {
        "CurrentLocation": "",
        "Name": name,
        "Provider": f"Microsoft.PowerShell.Core\\{provider}",
        "Root": root,
        "Description": "",
        "MaximumSize": None,
        "DisplayRoot": None,
    }
    notes = {"Used": used, "Free": free} if provider == "FileSystem" else {}
    return PsObject([f"{_MANAGEMENT}.PSDriveInfo", "System.Object"], properties, notes, text=name)


def get_time_zone(_host: Host, call: Call) -> Sequence[object]:
    """Get-TimeZone: hosts of the lab keep UTC."""
    names = [*texts(call.get("Id")), *texts(call.get("Name"))]
    known = ("UTC", "Coordinated Universal Time")
    for name in names:
        if not any(matches(k, name) for k in known):
            text = f"The time zone '{name}' was not found on the local computer."
            call.error(item("TimeZoneNotFound", "ObjectNotFound", text, name, "System.TimeZoneNotFoundException"))
    if names and not any(matches(k, name) for k in known for name in names):
        return []
    properties: dict[str, object] = {
        "Id": "UTC",
        "DisplayName": "(UTC) Coordinated Universal Time",
        "StandardName": "Coordinated Universal Time",
        "DaylightName": "Coordinated Universal Time",
        "BaseUtcOffset": timedelta(0),
        "SupportsDaylightSavingTime": False,
    }
    return [PsObject(["System.TimeZoneInfo", "System.Object"], properties, text="(UTC) Coordinated Universal Time")]


def resolve_path(host: Host, call: Call) -> Sequence[object]:
    """Resolve-Path: full paths of what exists, wildcards expanded."""
    output: list[object] = []
    for path in existing(host, call):
        if call.get("Relative"):
            output.append(".\\" + ntpath.relpath(path, "C:\\"))
            continue
        properties: dict[str, object] = {
            "Drive": path[:1] if path[1:2] == ":" else None,
            "Provider": "Microsoft.PowerShell.Core\\FileSystem",
            "ProviderPath": path,
            "Path": path,
        }
        output.append(PsObject([f"{_MANAGEMENT}.PathInfo", "System.Object"], properties, text=path))
    return output


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-ItemPropertyValue": get_item_property_value,
    "Get-PSDrive": get_ps_drive,
    "Get-TimeZone": get_time_zone,
    "Resolve-Path": resolve_path,
}
"""The cmdlets of this module."""
