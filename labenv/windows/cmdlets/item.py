"""Files and directories: Get-ChildItem, Get-Item, Test-Path, New-, Remove-, Copy-, Move- and Rename-Item."""

from __future__ import annotations

import ntpath
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets import registry
from labenv.windows.cmdlets.targets import texts
from labenv.windows.errors import FileProblem, item, path_not_found
from labenv.windows.registry import is_registry
from labenv.windows.shapes_files import item as shape
from labenv.windows.volumes import full_path

if TYPE_CHECKING:
    from labenv.windows.host import Host

_NOT_FOUND = (0x80070002, 0x80070003)


def paths(host: Host, call: Call) -> list[str]:
    """The absolute paths of -LiteralPath, or of -Path with its wildcards expanded; missing ones are reported."""
    found: list[str] = []
    for path in texts(call.get("LiteralPath")):
        found.append(full_path(path.removeprefix("Microsoft.PowerShell.Core\\FileSystem::")))
    for path in texts(call.get("Path")):
        if any(c in path for c in "*?[") and not path.startswith("\\\\?\\"):
            found += expand(host, path)
        else:
            found.append(full_path(path))
    return found


def expand(host: Host, path: str) -> list[str]:
    """Paths that match wildcards in the last part of a path."""
    folder, pattern = ntpath.split(full_path(path))
    if not host.files.is_directory(folder):
        return []
    return [ntpath.join(folder, e.name) for e in host.files.listdir(folder) if matches(e.name, pattern)]


def matches(name: str, pattern: str) -> bool:
    """Whether a name matches a wildcard pattern; ``*.*`` matches everything, as in the file system."""
    return pattern == "*.*" or fnmatchcase(name.lower(), pattern.lower())


def existing(host: Host, call: Call) -> Iterator[str]:
    """The paths that exist; the others are non-terminating errors."""
    for path in paths(host, call):
        drive = path[:1].upper()
        if host.files.exists(path):
            yield path
        elif path[1:2] == ":" and host.volumes.letter(drive) is None:
            call.error(
                item(
                    "DriveNotFound",
                    "ObjectNotFound",
                    f"Cannot find drive. A drive with the name '{drive}' does not exist.",
                    drive,
                    "System.Management.Automation.DriveNotFoundException",
                )
            )
        else:
            call.error(path_not_found(path))


def failed(error: FileProblem, error_id: str, path: str, *, category: str = "WriteError") -> PsError:
    """An error of the file system as an item cmdlet reports it."""
    exception = "System.UnauthorizedAccessException" if error.code == 0x80070005 else "System.IO.IOException"
    return item(error_id, category, error.message, path, exception)


def get_item(host: Host, call: Call) -> Sequence[object]:
    """Get-Item."""
    if registry.concerns(call):
        return registry.get_item(host, call)
    return [shape(host, path, host.files.stat(path)) for path in existing(host, call)]


def get_child_item(host: Host, call: Call) -> Sequence[object]:
    """Get-ChildItem with -Filter, -Include, -File, -Directory, -Recurse, -Depth and -Name."""
    if registry.concerns(call):
        return registry.get_child_item(host, call)
    output: list[object] = []
    given = "Path" in call or "LiteralPath" in call
    for path in existing(host, call) if given else [full_path("C:\\")]:
        entry = host.files.stat(path)
        if not entry.is_directory:
            listed = [(path, entry)]
        elif call.get("Recurse") or "Depth" in call:
            base = path.rstrip("\\").count("\\")
            depth = int(call.get("Depth", 1 << 30))
            listed = [(p, e) for p, e in host.files.walk(path) if p.count("\\") - base - 1 <= depth]
        else:
            listed = [(ntpath.join(path, e.name), e) for e in host.files.listdir(path)]
        for full, each in listed:
            if (call.get("File") and each.is_directory) or (call.get("Directory") and not each.is_directory):
                continue
            patterns = [*texts(call.get("Filter")), *texts(call.get("Include"))]
            if not all(matches(each.name, p) for p in patterns) or any(
                matches(each.name, p) for p in texts(call.get("Exclude"))
            ):
                continue
            if each.attributes & 2 and not (call.get("Force") or call.get("Hidden")):
                continue
            output.append(full[len(path.rstrip("\\")) + 1 :] if call.get("Name") else shape(host, full, each))
    return output


def test_path(host: Host, call: Call) -> Sequence[object]:
    """Test-Path with -PathType."""
    output: list[object] = []
    for path in (*texts(call.get("LiteralPath")), *texts(call.get("Path"))):
        if is_registry(path):
            output.append(host.registry.find(path) is not None)
            continue
        kind = call.get("PathType", "Any")
        found = host.files.exists(path)
        if found and kind != "Any":
            found = host.files.is_directory(path) == (kind == "Container")
        output.append(found)
    return output


async def new_item(host: Host, call: Call) -> Sequence[object]:
    """New-Item: a directory, a file, or a registry key."""
    await host.spend("windows.file.new")
    if registry.concerns(call):
        return registry.new_item(host, call)
    output: list[object] = []
    for base in texts(call.get("Path")) or ["C:\\"]:
        path = full_path(ntpath.join(base, str(call["Name"])) if "Name" in call else base)
        try:
            output.append(_new(host, call, path))
        except FileProblem as error:
            missing = error.code in _NOT_FOUND
            exception = "System.IO.DirectoryNotFoundException" if missing else "System.IO.IOException"
            call.error(item("NewItemIOError", "WriteError", error.message, path, exception))
    return output


def _new(host: Host, call: Call, path: str) -> object:
    kind = str(call.get("ItemType") or "File").lower()
    force = bool(call.get("Force"))
    exists = host.files.exists(path)
    if kind in ("directory", "container"):
        if exists and not (force and host.files.is_directory(path)):
            text = f"An item with the specified name {path} already exists."
            raise item("DirectoryExist", "ResourceExists", text, path)
        host.files.mkdir(path)
    elif kind == "file":
        if exists and not force:
            raise item("NewItemIOError", "WriteError", f"The file '{path}' already exists.", path)
        if force:
            host.files.mkdir(ntpath.dirname(path))
        host.files.write(path, str(call.get("Value") or "").encode("utf-8"))
    else:
        text = f"The type '{kind}' is not known to the file system provider of the lab."
        raise item("NewItemIOError", "InvalidArgument", text, path, "System.ArgumentException")
    return shape(host, path, host.files.stat(path))


async def remove_item(host: Host, call: Call) -> None:
    """Remove-Item; of a mount point it takes the mount away, never what lies on the volume."""
    await host.spend("windows.file.remove")
    if registry.concerns(call):
        registry.remove_item(host, call)
        return
    for path in list(existing(host, call)):
        try:
            _remove(host, call, path)
        except FileProblem as error:
            text = f"Cannot remove item {path}: {error.message}"
            call.error(item("RemoveFileSystemItemIOError", "WriteError", text, path))


def _remove(host: Host, call: Call, path: str) -> None:
    if not ntpath.splitdrive(path)[1].strip("\\"):
        text = f"Cannot remove the item at '{path}' because it is in use."
        kind = "System.Management.Automation.PSInvalidOperationException"
        raise item("InvalidOperation", "InvalidOperation", text, path, kind)
    if not host.files.is_directory(path):
        host.files.remove(path)
        return
    mounted = host.volumes.mounted_at(path)
    if mounted is not None:
        host.files.unmount(mounted, path)
        host.files.remove(path)
        return
    if host.volumes.dangling(path):
        host.volumes.forget_path(path)
        host.files.remove(path)
        return
    if host.files.listdir(path) and not call.get("Recurse"):
        text = (
            f"The item at {path} has children and the Recurse parameter was not specified; "
            "this session has nobody to ask whether to continue."
        )
        raise item(
            "InvalidOperation",
            "InvalidOperation",
            text,
            path,
            "System.Management.Automation.PSInvalidOperationException",
        )
    host.files.remove_tree(path)


def _destination(host: Host, source: str, destination: str) -> str:
    target = full_path(destination)
    if host.files.is_directory(target):
        return ntpath.join(target, ntpath.basename(source.rstrip("\\")))
    return target


async def copy_item(host: Host, call: Call) -> Sequence[object] | None:
    """Copy-Item in lab time (``windows.copy_gib``), replacing files; a directory's contents only with -Recurse."""
    output: list[object] = []
    for path in list(existing(host, call)):
        target = _destination(host, path, str(call.get("Destination") or "C:\\"))
        pairs = [(path, target)]
        directories: list[str] = []
        if host.files.is_directory(path):
            directories = [target]
            pairs = []
            for full, entry in host.files.walk(path) if call.get("Recurse") else ():
                below = target + full[len(path.rstrip("\\")) :]
                if entry.is_directory:
                    directories.append(below)
                else:
                    pairs.append((full, below))
        try:
            for folder in directories:
                host.files.mkdir(folder)
            for number, (source, copy) in enumerate(pairs):
                await _copy(host, call, source, copy, number, len(pairs))
        except FileProblem as error:
            if error.code in _NOT_FOUND:
                exception = "System.IO.DirectoryNotFoundException"
                call.error(item(exception, "NotSpecified", error.message, target, exception))
            else:
                call.error(failed(error, "CopyFileInfoItemIOError", path))
            continue
        if call.get("PassThru"):
            output.append(shape(host, target, host.files.stat(target)))
    if not output:
        await host.clock.sleep(0)
    return output or None


async def _copy(host: Host, call: Call, source: str, target: str, number: int, total: int) -> None:
    if not host.files.is_directory(ntpath.dirname(target)):
        raise FileProblem(0x80070003, f"Could not find a part of the path '{target}'.")
    name = ntpath.basename(source)

    def progress(done: int, size: int) -> None:
        percent = int(100 * (number + (done / size if size else 1)) / total)
        call.progress("Copy-Item", f"{name}: {done >> 20} of {size >> 20} MB", min(percent, 100))

    await host.files.copy(source, target, progress=progress)


async def move_item(host: Host, call: Call) -> Sequence[object] | None:
    """Move-Item: a rename within a volume, else a copy and a deletion; never overwrites without -Force."""
    await host.spend("windows.file.move")
    output: list[object] = []
    for path in list(existing(host, call)):
        target = _destination(host, path, str(call.get("Destination") or "C:\\"))
        folder = host.files.is_directory(path)
        error_id = "MoveDirectoryItemIOError" if folder else "MoveFileInfoItemIOError"
        try:
            if host.files.exists(target) and full_path(target).lower() != full_path(path).lower():
                if not call.get("Force") or folder:
                    raise FileProblem(0x80070050, "Cannot create a file when that file already exists.")
                host.files.guard(path)
                host.files.remove(target)
            if not host.files.is_directory(ntpath.dirname(target)):
                raise FileProblem(0x80070003, f"Could not find a part of the path '{target}'.")
            if host.files.same_volume(path, ntpath.dirname(target)):
                host.files.rename(path, target)
            elif folder:
                text = "Source and destination path must have identical roots. Move will not work across volumes."
                raise FileProblem(0x80070011, text)
            else:
                await host.files.copy(path, target)
                host.files.remove(path)
        except FileProblem as error:
            call.error(failed(error, error_id, path))
            continue
        if call.get("PassThru"):
            output.append(shape(host, target, host.files.stat(target)))
    return output or None


async def rename_item(host: Host, call: Call) -> Sequence[object] | None:
    """Rename-Item within the same directory."""
    await host.spend("windows.file.move")
    output: list[object] = []
    for path in list(existing(host, call)):
        name = str(call["NewName"])
        if ntpath.dirname(name) and full_path(ntpath.dirname(name)).lower() != ntpath.dirname(path).lower():
            text = "Cannot rename the specified target, because it represents a path or device name."
            raise item("Argument", "InvalidArgument", text, path, "System.Management.Automation.PSArgumentException")
        target = ntpath.join(ntpath.dirname(path), ntpath.basename(name))
        try:
            host.files.rename(path, target)
            host.volumes.renamed(path, target)
        except FileProblem as error:
            call.error(failed(error, "RenameItemIOError", path))
            continue
        if call.get("PassThru"):
            output.append(shape(host, target, host.files.stat(target)))
    return output or None


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-ChildItem": get_child_item,
    "Get-Item": get_item,
    "Test-Path": test_path,
    "New-Item": new_item,
    "Remove-Item": remove_item,
    "Copy-Item": copy_item,
    "Move-Item": move_item,
    "Rename-Item": rename_item,
}
"""The cmdlets of this module."""
