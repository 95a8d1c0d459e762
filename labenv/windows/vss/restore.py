"""A restore with VSS: what a requestor calls, and what the Hyper-V writer does before and after the files come back."""

from __future__ import annotations

import ntpath
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING
from uuid import UUID
from xml.etree import ElementTree

from labenv.windows.call import PsError
from labenv.windows.errors import FileProblem
from labenv.windows.records import DriveRecord, VmRecord
from labenv.windows.vmconfig import is_active
from labenv.windows.vss import cab, codes
from labenv.windows.vss.codes import Phase, VssError
from labenv.windows.vss.document import COMPONENTS, MANIFEST
from labenv.windows.vss.model import Component, Context, SnapshotSet
from labenv.windows.vss.writer import Writer

if TYPE_CHECKING:
    from labenv.windows.host import Host
    from labenv.windows.vss.service import Vss


class RestoreStage(Enum):
    """How far a restore has come."""

    INITIALIZED = auto()
    GATHERED = auto()
    PREPARED = auto()
    COMPLETED = auto()
    RELEASED = auto()


def read_metadata(data: bytes) -> list[Component]:
    """The components of a metadata file whose backup succeeded; raises ValueError if it is none."""
    files = cab.unpack(data)
    if MANIFEST not in files or COMPONENTS not in files:
        raise ValueError("it holds no backup components document")
    try:
        saved = {
            (writer.get("writerId"), each.get("logicalPath"), each.get("componentName"))
            for writer in ElementTree.fromstring(files[COMPONENTS]).iter("WRITER_COMPONENTS")  # noqa: S314 - our own
            for each in writer.iter("COMPONENT")
            if each.get("backupSucceeded") == "yes"
        }
        found = []
        for text in files.values():
            root = ElementTree.fromstring(text)  # noqa: S314 - as above
            identity = root.find("IDENTIFICATION")
            if root.tag != "WRITER_METADATA" or identity is None:
                continue
            for group in root.iter("FILE_GROUP"):
                key = (identity.get("writerId"), group.get("logicalPath"), group.get("componentName"))
                if key in saved:
                    found.append(_component(UUID(str(key[0])), group))
    except ElementTree.ParseError as error:
        raise ValueError(f"one of its documents is no XML: {error}") from error
    return found


def _component(writer: UUID, group: ElementTree.Element) -> Component:
    name = str(group.get("componentName"))
    try:
        vm: UUID | None = UUID(name)
    except ValueError:
        vm = None
    files = tuple(f"{each.get('path')}\\{each.get('filespec')}" for each in group.iter("FILE_LIST"))
    return Component(writer, str(group.get("logicalPath")), name, str(group.get("caption")), files, frozenset(), vm=vm)


class RestoreComponents:
    """One restore by one requestor. A call out of order is VSS_E_BAD_STATE."""

    def __init__(self, vss: Vss, components: Sequence[Component]) -> None:
        """InitializeForRestore, with the components of the document that the backup has saved."""
        self._vss = vss
        self._work = SnapshotSet(vss.host.ids.uuid("vss restore", vss.host.name), Context.VOLATILE)
        self._work.components = list(components)
        self._writers: list[Writer] = []
        self._stage = RestoreStage.INITIALIZED
        vss.using(1)

    def _require(self, operation: str, stage: RestoreStage) -> None:
        if self._stage is not stage:
            text = f"{operation} is for a restore that is {stage.name}, not {self._stage.name}"
            raise VssError(codes.BAD_STATE, text)

    async def gather_writer_metadata(self) -> None:
        """GatherWriterMetadata: which of the writers are there."""
        self._require("GatherWriterMetadata", RestoreStage.INITIALIZED)
        await self._vss.start_service("VSS")
        await self._vss.host.clock.sleep(self._vss.host.costs["windows.vss.identify"])
        wanted = {c.writer for c in self._work.components}
        self._writers = [w for w in await self._vss.present_writers() if w.id in wanted]
        missing = wanted - {w.id for w in self._writers}
        if missing:
            raise VssError(codes.OBJECT_NOT_FOUND, f"writer {{{min(missing, key=str)}}} is not there")
        for writer in self._writers:
            writer.reset_state()
        self._stage = RestoreStage.GATHERED

    async def pre_restore(self) -> None:
        """PreRestore: writers let go of what is about to be replaced. Raises the first writer's failure."""
        self._require("PreRestore", RestoreStage.GATHERED)
        self._stage = RestoreStage.PREPARED
        await self._notify(Phase.PRE_RESTORE)

    async def post_restore(self, *, restored: bool = True) -> None:
        """PostRestore: the files are back (``restored``: all of them); writers use them."""
        self._require("PostRestore", RestoreStage.PREPARED)
        self._stage = RestoreStage.COMPLETED
        self._work.restored = restored
        await self._notify(Phase.POST_RESTORE)

    async def _notify(self, phase: Phase) -> None:
        failed = await self._vss.notify(phase, self._writers, self._work)
        if failed:
            status = self._work.status[failed[0].id]
            raise VssError(status.failure, f"writer {failed[0].name} failed ({status.state.name})")

    def release(self) -> None:
        """The requestor lets go. Safe to repeat."""
        if self._stage is not RestoreStage.RELEASED:
            self._stage = RestoreStage.RELEASED
            for writer in self._writers:
                writer.settle(self._work)
            self._vss.using(-1)


async def let_go(host: Host, component: Component) -> None:
    """PreRestore of a virtual machine: it is turned off and deleted; its disks stay for the requestor to replace."""
    vm = host.machines.get(component.vm) if component.vm is not None else None
    if vm is None:
        return
    try:
        if is_active(vm):
            await host.machines.turn_off(vm)
        host.machines.remove(host.machines.vms[str(vm.id)])
    except (PsError, FileProblem) as error:
        raise VssError(codes.WRITER_NONRETRYABLE, f"{vm.name}: {error.message}") from error


async def take_back(host: Host, component: Component) -> None:
    """PostRestore of a virtual machine: it is registered from its restored configuration.

    Disks are looked for beside the configuration if they are not where it says; an adapter whose switch is not on this
    host is not connected.
    """
    path = component.files[0] if component.files else ""
    await host.spend("windows.vm.import")
    try:
        vm = host.machines.configurations.read(path)
        drives = tuple(_found(host, path, drive) for drive in vm.drives)
        known = {s.name.lower() for s in host.machines.switches.values()}
        adapters = tuple(a if a.switch.lower() in known else replace(a, switch="") for a in vm.adapters)
        host.machines.adopt(_as_restored(vm, drives=drives, adapters=adapters))
    except (FileProblem, ValueError) as error:
        reason = error.message if isinstance(error, FileProblem) else str(error)
        text = f"the virtual machine {component.name} cannot be registered from {path}: {reason}"
        raise VssError(codes.WRITER_NONRETRYABLE, text) from error


def _as_restored(vm: VmRecord, **changes: object) -> VmRecord:
    return replace(vm, **changes)  # type: ignore[arg-type]  # names come from this module


def _found(host: Host, configuration: str, drive: DriveRecord) -> DriveRecord:
    if not drive.path or host.files.exists(drive.path):
        return drive
    folder = ntpath.dirname(ntpath.dirname(configuration))
    name = ntpath.basename(drive.path)
    for place in (ntpath.join(folder, name), ntpath.join(folder, "Virtual Hard Disks", name)):
        if host.files.exists(place):
            return replace(drive, path=place)
    raise FileProblem(0x80070002, f"The system cannot find the file specified. : '{drive.path}'")
