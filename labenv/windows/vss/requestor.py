"""What a requestor calls, in the only order in which it may (IVssBackupComponents)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.errors import FileProblem
from labenv.windows.vss import codes, csv, document
from labenv.windows.vss.codes import Phase, VssError, WriterState
from labenv.windows.vss.model import BackupType, Component, Context, SnapshotSet, Status, Target
from labenv.windows.vss.records import ShadowRecord
from labenv.windows.vss.service import needs_recovery
from labenv.windows.vss.writer import Writer

if TYPE_CHECKING:
    from labenv.windows.vss.service import Vss

MOST_VOLUMES = 64


class Stage(Enum):
    """How far a backup has come."""

    CREATED = auto()
    INITIALIZED = auto()
    GATHERED = auto()
    STARTED = auto()
    PREPARED = auto()
    CREATING = auto()
    DONE = auto()
    COMPLETED = auto()
    ABORTED = auto()
    RELEASED = auto()


@dataclass(frozen=True)
class WriterStatus:
    """A writer's answer to GatherWriterStatus."""

    writer: Writer
    state: WriterState
    failure: int


class BackupComponents:
    """One backup by one requestor. A call out of order is VSS_E_BAD_STATE.

    Whoever makes one must call ``release`` in the end, also when it fails: VSS sends BackupShutdown then.
    """

    def __init__(self, vss: Vss) -> None:
        self._vss = vss
        self._stage = Stage.CREATED
        self._context = Context.VOLATILE
        self._kind = BackupType.FULL
        self._options: frozenset[str] = frozenset()
        self._components: list[Component] = []
        self._writers: list[Writer] = []
        self._work: SnapshotSet | None = None
        self.metadata: dict[Writer, list[Component]] = {}
        self.succeeded = False
        self.records: list[ShadowRecord] = []
        vss.using(1)

    def _require(self, operation: str, *stages: Stage) -> None:
        if self._stage not in stages:
            allowed = " or ".join(s.name for s in stages)
            raise VssError(codes.BAD_STATE, f"{operation} is for a backup that is {allowed}, not {self._stage.name}")

    @property
    def work(self) -> SnapshotSet:
        """The set; raises VSS_E_BAD_STATE before ``start_snapshot_set``."""
        if self._work is None:
            raise VssError(codes.BAD_STATE, "no shadow copy set has been started")
        return self._work

    @property
    def chosen(self) -> list[Component]:
        """The components that were added."""
        return list(self._components)

    @property
    def can_abort(self) -> bool:
        """Whether there is something to abort."""
        return self._stage in (Stage.STARTED, Stage.PREPARED, Stage.CREATING, Stage.DONE)

    # -- setting up --------------------------------------------------------------------------------------------

    def initialize_for_backup(self) -> None:
        """InitializeForBackup."""
        self._require("InitializeForBackup", Stage.CREATED)
        self._stage = Stage.INITIALIZED

    def set_context(self, context: Context, options: frozenset[str] = frozenset()) -> None:
        """SetContext, with the options that are its attributes."""
        self._require("SetContext", Stage.INITIALIZED)
        if "transportable" in options and context is Context.CLIENT_ACCESSIBLE:
            raise VssError(codes.UNSUPPORTED_CONTEXT, "client-accessible shadow copies cannot be transportable")
        self._context, self._options = context, options

    def set_backup_state(self, *, kind: BackupType = BackupType.FULL) -> None:
        """SetBackupState: components are selected, no bootable system state."""
        self._require("SetBackupState", Stage.INITIALIZED)
        self._kind = kind

    async def gather_writer_metadata(self) -> dict[Writer, list[Component]]:
        """GatherWriterMetadata: Identify goes to every writer; what they could back up, by writer."""
        self._require("GatherWriterMetadata", Stage.INITIALIZED)
        vss = self._vss
        await vss.start_service("VSS")
        await vss.host.clock.sleep(vss.host.costs["windows.vss.identify"])
        found: dict[Writer, list[Component]] = {}
        for writer in await vss.present_writers():
            vss.trace(writer.name, Phase.IDENTIFY.title)
            try:
                await vss.fault("vss.writer", writer=writer.name, phase=Phase.IDENTIFY.title, vm="")
                found[writer] = await writer.identify()
            except VssError as error:
                writer.state, writer.failure = Phase.IDENTIFY.failed, error.code
            else:
                if vss.creating is None:
                    writer.reset_state()
        self.metadata = found
        self._writers = list(found)
        self._stage = Stage.GATHERED
        return found

    def add_component(self, component: Component) -> None:
        """AddComponent."""
        self._require("AddComponent", Stage.GATHERED, Stage.STARTED)
        self._components.append(component)

    def start_snapshot_set(self) -> UUID:
        """StartSnapshotSet; one at a time on the whole machine."""
        self._require("StartSnapshotSet", Stage.INITIALIZED, Stage.GATHERED)
        if self._context.writers and self._stage is not Stage.GATHERED:
            raise VssError(codes.BAD_STATE, "writers take part: gather their metadata first")
        vss = self._vss
        if vss.creating is not None:
            raise VssError(codes.SET_IN_PROGRESS, "another shadow copy set is being created on this computer")
        set_id = vss.host.ids.uuid("vss set", vss.host.spec.name)
        self._work = vss.creating = SnapshotSet(set_id, self._context, self._options)
        self._stage = Stage.STARTED
        return set_id

    async def add_to_snapshot_set(self, path: str, provider: UUID | None = None) -> UUID:
        """AddToSnapshotSet: a volume by its path, with a provider or the first that supports it; the shadow's id."""
        self._require("AddToSnapshotSet", Stage.STARTED)
        vss, work = self._vss, self.work
        try:
            volume, inner = vss.host.volumes.resolve(path)
        except FileProblem as error:
            raise VssError(codes.OBJECT_NOT_FOUND, f"{path}: {error.message}") from error
        if inner != "\\":
            raise VssError(codes.OBJECT_NOT_FOUND, f"{path} is a folder, not a volume or a mount point of one")
        if work.target(volume.guid) is not None:
            raise VssError(codes.OBJECT_ALREADY_EXISTS, f"{path} is in the set already")
        refused = csv.refusal(vss.host, volume)
        if refused is not None:
            raise refused
        if len(work.targets) >= MOST_VOLUMES:
            raise VssError(codes.MAXIMUM_VOLUMES, f"a set holds at most {MOST_VOLUMES} volumes")
        if provider is None:
            chosen = await vss.provider_for(volume)
        else:
            wanted = vss.provider(provider)
            if wanted is None:
                raise VssError(codes.PROVIDER_NOT_REGISTERED, f"provider {{{provider}}} is not registered")
            if not await wanted.supports(volume):
                raise VssError(codes.NOT_SUPPORTED_BY_PROVIDER, f"{wanted.name} does not support {path}")
            chosen = wanted
        shadow = vss.host.ids.uuid("vss shadow", vss.host.spec.name)
        work.targets.append(Target(shadow, volume, path, chosen))
        return shadow

    # -- creating ----------------------------------------------------------------------------------------------

    async def prepare_for_backup(self) -> None:
        """PrepareForBackup: the writers learn which of their components take part."""
        self._require("PrepareForBackup", Stage.STARTED)
        work = self.work
        work.components = list(self._components)
        work.recover = needs_recovery(work, era=self._vss.host.spec.era)
        self._stage = Stage.PREPARED
        await self._vss.notify(Phase.PREPARE_BACKUP, self.involved(), work)

    def involved(self) -> list[Writer]:
        """The writers that have a component in the backup."""
        ids = {c.writer for c in self._components}
        return [w for w in self._writers if w.id in ids]

    def gather_writer_status(self) -> list[WriterStatus]:
        """GatherWriterStatus."""
        self._require("GatherWriterStatus", Stage.PREPARED, Stage.DONE, Stage.COMPLETED, Stage.ABORTED)
        found = [(w, self.work.status.get(w.id, Status())) for w in self.involved()]
        return [WriterStatus(writer, status.state, status.failure) for writer, status in found]

    async def do_snapshot_set(self) -> list[ShadowRecord]:
        """DoSnapshotSet. Raises ``VssError``; the requestor has to abort then."""
        if self._context.writers:
            self._require("DoSnapshotSet", Stage.PREPARED)
        else:
            self._require("DoSnapshotSet", Stage.STARTED, Stage.PREPARED)
        if not self.work.targets:
            raise VssError(codes.BAD_STATE, "the set has no volumes")
        self._stage = Stage.CREATING
        self.records = await self._vss.create(self.work, self.involved())
        self._vss.creating = None
        self._stage = Stage.DONE
        return self.records

    # -- ending ------------------------------------------------------------------------------------------------

    async def backup_complete(self) -> None:
        """BackupComplete, with what ``succeeded`` says of every component."""
        self._require("BackupComplete", Stage.DONE)
        self._stage = Stage.COMPLETED
        await self._vss.notify(Phase.BACKUP_COMPLETE, self.involved(), self.work, succeeded=self.succeeded)

    def save_as_xml(self) -> bytes:
        """SaveAsXML: the Backup Components Document."""
        self._require("SaveAsXML", Stage.DONE, Stage.COMPLETED)
        return document.backup_components(
            self.work, self.involved(), self.records, kind=self._kind.value, succeeded=self.succeeded
        )

    def abort_backup(self) -> None:
        """AbortBackup: writers give up what they hold for the set."""
        self._require("AbortBackup", Stage.STARTED, Stage.PREPARED, Stage.CREATING, Stage.DONE)
        self._stage = Stage.ABORTED
        for writer in self.involved():
            writer.abort(self.work)
            writer.settle(self.work)
        self._free()

    def _free(self) -> None:
        if self._vss.creating is self._work:
            self._vss.creating = None

    def release(self) -> None:
        """The requestor lets go, or is dead: VSS sends BackupShutdown. Safe to repeat."""
        if self._stage is Stage.RELEASED:
            return
        self._stage = Stage.RELEASED
        self._vss.using(-1)
        if self._work is not None:
            self._free()
            for writer in self.involved():
                writer.shutdown(self._work)
                self._shutdown_failed(writer, self._work)
                writer.settle(self._work)

    def _shutdown_failed(self, writer: Writer, work: SnapshotSet) -> None:
        host, phase = self._vss.host, Phase.BACKUP_SHUTDOWN
        rule = host.faults.refuses("vss.writer", host=host.name, writer=writer.name, phase=phase.title, vm="")
        if rule is not None and not work.status.get(writer.id, Status()).state.failed:
            writer.moved(work, phase, int(rule.code, 16) if rule.code else codes.WRITER_RETRYABLE)
