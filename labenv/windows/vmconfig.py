"""A VM's configuration as files in its folder, so that whoever copies or restores the folder gets the VM."""

from __future__ import annotations

import ntpath
from dataclasses import replace
from typing import TypeVar
from xml.etree import ElementTree

import msgspec

from labenv.windows.errors import FileProblem
from labenv.windows.files import Files
from labenv.windows.records import SnapshotRecord, VmRecord
from labenv.windows.spec import HostSpec

R = TypeVar("R", VmRecord, SnapshotRecord)

FORMAT = "labenv 1"

_ACTIVE = ("Running", "Paused", "Starting", "Stopping", "Saving", "PausedCritical")


def is_active(vm: VmRecord) -> bool:
    """Whether the VM has its virtual disks open."""
    return vm.state in _ACTIVE


def is_moving(vm: VmRecord) -> bool:
    """Whether the VM, or its storage, is being moved; nothing else may be done to it meanwhile."""
    return vm.status == "MigratingVirtualMachine" or vm.status.startswith("StorageMigration")


def portable(vm: VmRecord) -> VmRecord:
    """What of a VM its configuration file holds: nothing that only this host at this moment knows."""
    state = "Saved" if vm.state == "Saved" else "Off"
    return replace(vm, state=state, started=0, open_files=(), status="", merges=(), clustered=False)


_RARE = ("replicated", "fibre_channel")
"""Written only where a VM has them."""


def encode(record: VmRecord | SnapshotRecord) -> bytes:
    """A record as XML text."""
    root = ElementTree.Element("configuration", {"format": FORMAT, "kind": type(record).__name__})
    values = msgspec.to_builtins(record)
    for vm in (values, values.get("configuration", {})):
        for name in _RARE:
            if not vm.get(name, True):
                del vm[name]
    _write(root, values)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8")
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + text


def _write(element: ElementTree.Element, value: object) -> None:
    if isinstance(value, dict):
        for name, each in value.items():
            _write(ElementTree.SubElement(element, name), each)
    elif isinstance(value, list | tuple):
        element.set("type", "list")
        for each in value:
            _write(ElementTree.SubElement(element, "item"), each)
    elif value is None:
        element.set("type", "none")
    else:
        element.set("type", {bool: "bool", int: "integer"}.get(type(value), "string"))
        element.text = str(value).lower() if isinstance(value, bool) else str(value)


def decode(data: bytes, kind: type[R]) -> R:
    """The record of a configuration file; raises ValueError if the file is not one."""
    try:
        root = ElementTree.fromstring(data)  # noqa: S314  # expat limits entity expansion; the file is the lab's own
        if root.get("format") != FORMAT or root.get("kind") != kind.__name__:
            raise ValueError("not a configuration file of this kind")
        return msgspec.convert(_read(root), kind)
    except (ElementTree.ParseError, msgspec.ValidationError) as error:
        raise ValueError(str(error)) from error


def _read(element: ElementTree.Element) -> object:
    kind = element.get("type")
    if kind == "list":
        return [_read(each) for each in element]
    if kind == "none":
        return None
    if kind is None:
        return {each.tag: _read(each) for each in element}
    text = element.text or ""
    return {"bool": lambda: text == "true", "integer": lambda: int(text)}.get(kind, lambda: text)()


class Configurations:
    """Reads, writes and deletes configuration files. Failures are ``FileProblem``."""

    def __init__(self, *, spec: HostSpec, files: Files) -> None:
        self._spec = spec
        self._files = files

    def folder(self, vm: VmRecord) -> str:
        """The folder of the configuration file."""
        return ntpath.join(vm.path, "Virtual Machines")

    def path(self, vm: VmRecord) -> str:
        """The configuration file of a VM."""
        return ntpath.join(self.folder(vm), f"{str(vm.id).upper()}{self._spec.configuration_extension}")

    def runtime(self, vm: VmRecord) -> list[str]:
        """The files that hold the state of a running or saved VM."""
        name = str(vm.id).upper()
        if self._spec.configuration_extension == ".xml":
            return [ntpath.join(self.folder(vm), name, name + e) for e in self._spec.runtime_extensions]
        return [ntpath.join(self.folder(vm), name + e) for e in self._spec.runtime_extensions]

    def snapshot_path(self, snapshot: SnapshotRecord) -> str:
        """The configuration file of a checkpoint."""
        folder = ntpath.join(snapshot.configuration.snapshot_path, "Snapshots")
        return ntpath.join(folder, f"{str(snapshot.id).upper()}{self._spec.configuration_extension}")

    def available(self, vm: VmRecord) -> bool:
        """Whether the host can read the VM's configuration (its storage is there)."""
        return self._files.exists(self.path(vm))

    def write(self, vm: VmRecord) -> None:
        """Write the configuration file."""
        self._put(self.path(vm), encode(portable(vm)))

    def _put(self, path: str, data: bytes) -> None:
        self._files.mkdir(ntpath.dirname(path))
        self._files.write(path, data)

    def write_runtime(self, vm: VmRecord) -> None:
        """Make the state files; they hold no memory image, only whose they are."""
        for path in self.runtime(vm):
            self._put(path, f"{vm.state} state of {vm.name} ({vm.id})\r\n".encode())

    def remove_runtime(self, vm: VmRecord) -> None:
        """Delete the state files."""
        for path in self.runtime(vm):
            if self._files.exists(path):
                self._files.remove(path)

    def read(self, path: str) -> VmRecord:
        """The VM that a configuration file describes; raises ValueError or ``FileProblem``."""
        return decode(self._files.read(path), VmRecord)

    def remove(self, vm: VmRecord) -> None:
        """Delete the VM's own files; its virtual disks stay. Files on storage that is away stay too."""
        self._discard([*self.runtime(vm), self.path(vm)])
        folder = ntpath.join(self.folder(vm), str(vm.id).upper())
        if self._files.exists(folder):
            self._discard([folder])

    def _discard(self, paths: list[str]) -> None:
        for path in paths:
            try:
                if self._files.exists(path):
                    self._files.remove(path)
            except FileProblem:
                continue

    def write_snapshot(self, snapshot: SnapshotRecord) -> None:
        """Write a checkpoint's configuration file."""
        record = replace(snapshot, configuration=portable(snapshot.configuration))
        self._put(self.snapshot_path(snapshot), encode(record))

    def remove_snapshot(self, snapshot: SnapshotRecord) -> None:
        """Delete a checkpoint's configuration file."""
        self._discard([self.snapshot_path(snapshot)])

    def snapshots(self, vm: VmRecord) -> list[SnapshotRecord]:
        """The checkpoints of a VM whose configuration files lie in its snapshot folder, oldest first."""
        folder = ntpath.join(vm.snapshot_path, "Snapshots")
        if not self._files.is_directory(folder):
            return []
        found = []
        for entry in self._files.listdir(folder):
            if entry.name.lower().endswith(self._spec.configuration_extension):
                try:
                    found.append(decode(self._files.read(ntpath.join(folder, entry.name)), SnapshotRecord))
                except ValueError:
                    continue
        return sorted((s for s in found if s.vm == vm.id), key=lambda s: (s.created, str(s.id)))
