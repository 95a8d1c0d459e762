"""The registry provider: keys below HKLM: and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.targets import texts
from labenv.windows.errors import item, path_not_found
from labenv.windows.records import RegistryRecord
from labenv.windows.registry import is_registry
from labenv.windows.shapes_files import registry_key, registry_values

if TYPE_CHECKING:
    from labenv.windows.host import Host


def _paths(call: Call) -> list[str]:
    return [*texts(call.get("LiteralPath")), *texts(call.get("Path"))]


def concerns(call: Call) -> bool:
    """Whether an item cmdlet is about the registry."""
    given = _paths(call)
    return bool(given) and all(is_registry(path) for path in given)


def _existing(host: Host, call: Call) -> list[RegistryRecord]:
    found = []
    for path in _paths(call):
        record = host.registry.find(path) if is_registry(path) else None
        if record is None:
            call.error(path_not_found(path))
        else:
            found.append(record)
    return found


def get_item(host: Host, call: Call) -> Sequence[object]:
    """Get-Item of registry keys."""
    return [registry_key(record) for record in _existing(host, call)]


def get_child_item(host: Host, call: Call) -> Sequence[object]:
    """Get-ChildItem of registry keys."""
    output: list[object] = []
    for record in _existing(host, call):
        for name in host.registry.children(record.path):
            below = host.registry.find(f"{record.path}\\{name}")
            if below is not None:
                output.append(registry_key(below))
    return output


def new_item(host: Host, call: Call) -> Sequence[object]:
    """New-Item of registry keys."""
    output: list[object] = []
    for base in _paths(call):
        path = f"{base}\\{call['Name']}" if "Name" in call else base
        if host.registry.find(path) is not None and not call.get("Force"):
            text = "A key in this path already exists."
            raise item("System.IO.IOException", "ResourceExists", text, path)
        output.append(registry_key(host.registry.make(path)))
    return output


def remove_item(host: Host, call: Call) -> None:
    """Remove-Item of registry keys."""
    for record in _existing(host, call):
        host.registry.remove(record.path)


def get_item_property(host: Host, call: Call) -> Sequence[object]:
    """Get-ItemProperty: a key's values as properties of one object."""
    output: list[object] = []
    for record in _existing(host, call):
        wanted = texts(call.get("Name"))
        known = {name.lower(): name for name in record.values}
        names = []
        for name in wanted or list(record.values):
            if name.lower() in known:
                names.append(known[name.lower()])
                continue
            kind = "System.Management.Automation.PSArgumentException"
            text = f"Property {name} does not exist at path {record.path}."
            call.error(item(kind, "InvalidArgument", text, name, kind))
        if names or not wanted:
            output.append(registry_values(record, names))
    return output


async def set_item_property(host: Host, call: Call) -> None:
    """Set-ItemProperty: sets a value, creating it if need be."""
    await host.spend("windows.registry.set")
    for record in _existing(host, call):
        value = call["Value"]
        kind = str(
            call.get("Type") or ("DWord" if isinstance(value, int) and not isinstance(value, bool) else "String")
        )
        text = str(value)
        if kind in ("DWord", "QWord") and not text.lstrip("-").isdecimal():
            reason = f"The type of the value object did not match the specified RegistryValueKind {kind}."
            kind_of = "System.ArgumentException"
            raise item(kind_of, "NotSpecified", reason, record.path, kind_of)
        host.registry.set(record.path, str(call["Name"]), kind, text)


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-ItemProperty": get_item_property,
    "Set-ItemProperty": set_item_property,
}
"""The cmdlets of this module."""
