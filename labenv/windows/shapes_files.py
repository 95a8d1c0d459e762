"""How files, directories and registry keys look to PowerShell."""

from __future__ import annotations

import ntpath
from typing import TYPE_CHECKING

from labenv.windows.disks.exfat import Entry
from labenv.windows.objects import Int64, PsEnum, PsObject
from labenv.windows.records import RegistryRecord

if TYPE_CHECKING:
    from labenv.windows.host import Host

_FLAGS = {1: "ReadOnly", 2: "Hidden", 4: "System", 16: "Directory", 32: "Archive", 1024: "ReparsePoint"}
_PROVIDER = "Microsoft.PowerShell.Core\\FileSystem"
_REGISTRY = "Microsoft.PowerShell.Core\\Registry"


def item(host: Host, path: str, entry: Entry) -> PsObject:
    """A FileInfo or DirectoryInfo; a mount point shows the ReparsePoint attribute."""
    name = ntpath.basename(path.rstrip("\\")) or path
    folder = ntpath.dirname(path.rstrip("\\"))
    value = entry.attributes
    if entry.is_directory:
        value = value & ~32 | 16 | (1024 if host.volumes.is_mount_point(path) else 0)
    names = ", ".join(text for flag, text in _FLAGS.items() if value & flag) or "Normal"
    mode = "".join(
        letter if value & flag else "-"
        for flag, letter in ((16, "d"), (32, "a"), (1, "r"), (2, "h"), (4, "s"), (1024, "l"))
    )
    extension = ntpath.splitext(name)[1]
    properties: dict[str, object] = {
        "Name": name,
        "FullName": path,
        "Exists": True,
        "Extension": extension,
        "CreationTime": entry.created,
        "CreationTimeUtc": entry.created,
        "LastAccessTime": entry.modified,
        "LastAccessTimeUtc": entry.modified,
        "LastWriteTime": entry.modified,
        "LastWriteTimeUtc": entry.modified,
        "Attributes": PsEnum("System.IO.FileAttributes", names, value or 128),
    }
    if entry.is_directory:
        types = ["System.IO.DirectoryInfo"]
        properties |= {"Parent": ntpath.basename(folder.rstrip("\\")) or folder, "Root": path[:3]}
    else:
        types = ["System.IO.FileInfo"]
        properties |= {
            "Length": Int64(entry.size),
            "DirectoryName": folder,
            "Directory": folder,
            "IsReadOnly": bool(value & 1),
        }
    notes: dict[str, object] = {
        "PSPath": f"{_PROVIDER}::{path}",
        "PSParentPath": f"{_PROVIDER}::{folder}",
        "PSChildName": name,
        "PSDrive": path[:1],
        "PSProvider": _PROVIDER,
        "PSIsContainer": entry.is_directory,
        "Mode": mode,
        "BaseName": name if entry.is_directory else name.removesuffix(extension),
    }
    return PsObject(
        [*types, "System.IO.FileSystemInfo", "System.MarshalByRefObject", "System.Object"], properties, notes, path
    )


def registry_key(record: RegistryRecord) -> PsObject:
    """A RegistryKey."""
    full = "HKEY_LOCAL_MACHINE" + record.path[5:]
    properties: dict[str, object] = {
        "Name": full,
        "ValueCount": len(record.values),
        "Property": list(record.values),
    }
    return PsObject(["Microsoft.Win32.RegistryKey", "System.Object"], properties, _key_notes(record), full)


def registry_values(record: RegistryRecord, names: list[str]) -> PsObject:
    """What Get-ItemProperty returns: the values as note properties."""
    values: dict[str, object] = {}
    for name in names:
        kind, text = record.values[name]
        values[name] = int(text) if kind == "DWord" else Int64(int(text)) if kind == "QWord" else text
    types = ["System.Management.Automation.PSCustomObject", "System.Object"]
    return PsObject(types, {}, {**values, **_key_notes(record)}, "")


def _key_notes(record: RegistryRecord) -> dict[str, object]:
    parent, _, child = record.path.rpartition("\\")
    full = "HKEY_LOCAL_MACHINE" + record.path[5:]
    return {
        "PSPath": f"{_REGISTRY}::{full}",
        "PSParentPath": f"{_REGISTRY}::HKEY_LOCAL_MACHINE{parent[5:]}",
        "PSChildName": child,
        "PSDrive": "HKLM",
        "PSProvider": _REGISTRY,
    }
