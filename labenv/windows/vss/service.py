"""The VSS service of a host: its writers and providers, and how a shadow copy set comes about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.clock import SECOND
from labenv.devices import DeviceError
from labenv.faults import ConnectionDropped, FaultRaised, ProcessDied
from labenv.guest.errors import GuestError
from labenv.windows import events as log
from labenv.windows.call import PsError
from labenv.windows.disks.errors import FileSystemError, VirtualDiskError
from labenv.windows.disks.layout import Layout
from labenv.windows.errors import FILE_ERRORS
from labenv.windows.inventory import VDS, VSS_PROVIDERS
from labenv.windows.volumes import Volume
from labenv.windows.vss import codes, csv
from labenv.windows.vss.arrival import Arrivals
from labenv.windows.vss.codes import Phase, VssError
from labenv.windows.vss.hyperv import HyperVWriter
from labenv.windows.vss.model import SnapshotSet, Status, Target
from labenv.windows.vss.navssprv import IDLE, DataOntapProvider
from labenv.windows.vss.provider import Provider, SystemProvider
from labenv.windows.vss.records import ShadowRecord
from labenv.windows.vss.settings import Settings
from labenv.windows.vss.writer import Writer, system_writers

if TYPE_CHECKING:
    from labenv.fabric import Fabric
    from labenv.state import State
    from labenv.windows.host import Host

HOLD = 10
"""Seconds for which writes are held at most (FLUSH_AND_HOLD)."""

FREEZE = 60
"""Seconds from Freeze to Thaw that a writer allows."""

TRACE_LOG, TRACE_SOURCE = "SmhvLab-VSS-Trace", "labenv"
"""The lab's own log of every step of VSS, in the place of vsstrace.exe."""

DEMAND = ("VSS", "swprv")
"""Services that are started when they are needed and end when they are not."""

UNEXPECTED = (PsError, GuestError, VirtualDiskError, *FILE_ERRORS)
"""What storage and guests may raise in the middle of anything."""

Step = Callable[[], Awaitable[None]]


class RequestorKilled(Exception):
    """The requestor's process has ended: nobody goes on with its backup, and nobody aborts it."""


class Vss:
    """Volume Shadow Copy Service, writers and providers of one host.

    Only ``shadows`` is kept over a restart; a set that was being created is left behind as it was.
    """

    def __init__(self, host: Host, *, state: State, fabric: Fabric) -> None:
        self.host = host
        self.shadows = state.table(f"windows.{host.spec.name}.shadow", ShadowRecord)
        self.settings = Settings(host, state=state, fabric=fabric)
        self.arrivals = Arrivals(host, state)
        self.hardware = DataOntapProvider(host, settings=self.settings, arrivals=self.arrivals)
        self.hyperv = HyperVWriter(host, trace=self.trace)
        self.csv = csv.CsvWriter(host)
        self._own_writers: list[Writer] = [*system_writers(host), self.hyperv]
        self._own_providers: list[Provider] = [self.hardware, SystemProvider(host)]
        self.creating: SnapshotSet | None = None
        self.current: SnapshotSet | None = None
        self._users = 0
        self._left = 0

    def restart(self) -> None:
        """The host has started: writers are stable, volatile shadow copies and half-made sets are forgotten."""
        self.creating = None
        self.current = None
        self._users = 0
        for name in DEMAND:
            self._stop(name)
        for writer in (*self._own_writers, self.csv):
            writer.reset()
        for provider in self._own_providers:
            provider.reset()
        for key in [key for key, record in self.shadows.items() if "Persistent" not in record.attributes]:
            del self.shadows[key]

    def using(self, change: int) -> None:
        """A requestor begins (1) or ends (-1); some minutes after the last one the service ends."""
        self._users += change
        self._left = self.host.clock.now
        if not self._users and self._is_running("VSS"):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return  # the lab is being taken down
            self.host.clock.spawn(self._end_idle(self._left), name="VSS idle")

    async def _end_idle(self, since: int) -> None:
        await self.host.clock.sleep(IDLE)
        if self._users or self._left != since or not self._is_running("VSS"):
            return
        for name in DEMAND:
            self._stop(name)
        self.host.events.write("Application", "VSS", 8224, "The VSS service is shutting down due to idle timeout.")

    def _is_running(self, name: str) -> bool:
        service = self.host.inventory.service(name)
        return service is not None and service.status == "Running"

    def _is_stopped(self, name: str) -> bool:
        """Whether a service is known, and stopped: the cluster service is asked of the cluster."""
        service = self.host.inventory.service(name)
        return service is not None and service.status == "Stopped" and name != "ClusSvc"

    def _stop(self, name: str) -> None:
        if self._is_running(name):
            self.host.inventory.set_service(name, status="Stopped")

    @property
    def writers(self) -> list[Writer]:
        """The registered writers; a node of a failover cluster has that of the shared volumes too."""
        return [*self._own_writers, *([self.csv] if csv.distributed(self.host) else [])]

    @property
    def providers(self) -> list[Provider]:
        """The registered providers; the hardware provider is one as long as its key is in the registry."""
        installed = self.host.registry.find(f"{VSS_PROVIDERS}\\{{{self.hardware.id}}}") is not None
        own = self._own_providers if installed else self._own_providers[1:]
        return [*own, *(csv.PROVIDERS if csv.distributed(self.host) else ())]

    # -- finding -----------------------------------------------------------------------------------------------

    def writer(self, id: UUID) -> Writer | None:  # noqa: A002 - VSS's own word
        """The writer of an id."""
        return next((w for w in self.writers if w.id == id), None)

    def provider(self, id: UUID) -> Provider | None:  # noqa: A002 - as above
        """The registered provider of an id."""
        return next((p for p in self.providers if p.id == id), None)

    async def provider_for(self, volume: Volume) -> Provider:
        """The first provider that supports a volume: hardware, then software, then the system's."""
        for kind in ("Hardware", "Software", "System"):
            for provider in self.providers:
                if provider.kind == kind and await self._supported(provider, volume):
                    return provider
        raise VssError(codes.VOLUME_NOT_SUPPORTED, f"no provider supports volume {volume.name}")

    async def _supported(self, provider: Provider, volume: Volume) -> bool:
        try:
            return await provider.supports(volume)
        except VssError:
            return False  # it has logged why

    # -- what others see ---------------------------------------------------------------------------------------

    def trace(self, lane: str, step: str, detail: str = "") -> None:
        """Write a line to the lab's trace."""
        current = self.current
        set_id = f"{{{current.id}}}" if current is not None else ""
        text = f"{lane}: {step}{f' ({detail})' if detail else ''}"
        self.host.events.write(TRACE_LOG, TRACE_SOURCE, 1, text, values=(set_id, lane, step, detail))

    def report(self, event: int, text: str, *, code: int, level: int = log.ERROR) -> None:
        """Write an error of the service itself to the Application log."""
        message = f"{text} [0x{code:08x}]"
        self.host.events.write("Application", "VSS", event, message, level=level, values=(f"0x{code:08x}",))

    async def fault(self, place: str, **names: str) -> None:
        """Meet what an instructor has broken: raises ``VssError`` or ``RequestorKilled``."""
        try:
            await self.host.faults.at(place, host=self.host.name, **names)
        except FaultRaised as raised:
            code = int(raised.fault.code, 16) if raised.fault.code else codes.WRITER_RETRYABLE
            raise VssError(code, raised.fault.message or f"fault at {place}") from raised
        except ConnectionDropped as dropped:
            raise RequestorKilled(f"{place} {names}") from dropped

    async def start_service(self, name: str) -> None:
        """Start a service that is needed now; raises ``VssError`` if it is disabled or does not start."""
        service = self.host.inventory.service(name)
        try:
            await self.fault("windows.service", service=name)
            if service is not None and service.start_type == "Disabled":
                raise VssError(codes.SERVICE_DISABLED, "it is disabled")
        except VssError as error:
            self.report(8193, f"The service {name} cannot be started. {error.detail}", code=codes.SERVICE_DISABLED)
            raise VssError(codes.SERVICE_DISABLED, f"the service {name} cannot be started") from error
        if service is not None and service.status != "Running":
            self.host.inventory.set_service(name, status="Running")

    # -- notices to writers ------------------------------------------------------------------------------------

    async def notify(self, phase: Phase, writers: Iterable[Writer], work: SnapshotSet, **more: bool) -> list[Writer]:
        """Send a notice to the writers that have not failed; returns those that fail at it."""
        failed = []
        for writer in writers:
            if work.status.get(writer.id, Status()).state.failed:
                continue
            self.trace(writer.name, phase.title)
            try:
                await self.fault("vss.writer", writer=writer.name, phase=phase.title, vm="")
                if self._is_stopped(writer.service):
                    raise VssError(codes.WRITER_NOT_RESPONDING, f"the service {writer.service} has stopped")
                await _handler(writer, phase)(work, **more)
            except (VssError, *UNEXPECTED) as caught:
                error = caught if isinstance(caught, VssError) else VssError(codes.WRITER_NONRETRYABLE, str(caught))
                if error.code == codes.ACCESS_DENIED:
                    self._callback_denied(writer)
                    continue
                writer.moved(work, phase, error.code)
                failed.append(writer)
                self.trace(writer.name, f"{phase.title} failed", str(error))
            else:
                writer.moved(work, phase)
        return failed

    def _callback_denied(self, writer: Writer) -> None:
        """8194: the requestor's process does not let the writer call back. Noise in the log; the backup goes on."""
        text = f"Unexpected error querying for the IVssWriterCallback interface of writer {writer.name}. "
        self.report(8194, f"{text}Often the security settings of writer or requestor.", code=codes.ACCESS_DENIED)

    async def present_writers(self) -> list[Writer]:
        """The writers whose service runs; of the others VSS does not even know."""
        found = []
        for writer in self.writers:
            try:
                await self.fault("windows.service", service=writer.service)
            except VssError:
                continue
            if not self._is_stopped(writer.service):
                found.append(writer)
        return found

    # -- creating a set ----------------------------------------------------------------------------------------

    async def create(self, work: SnapshotSet, writers: Sequence[Writer]) -> list[ShadowRecord]:
        """Create a shadow copy set (DoSnapshotSet). Raises ``VssError``; nothing of the set is left then.

        A writer that fails in PrepareForSnapshot or PostSnapshot does not end it: the requestor asks for the status.
        """
        self.current = work
        begun = False
        try:
            await self.start_service("VSS")
            csv.redirect(self.host, work, backup=True)
            try:
                begun = True
                await self._prepare(work)
                await self._freeze_and_commit(work, writers)
                await self._finish(work, writers)
            except (VssError, *UNEXPECTED) as caught:
                self.trace("VSS", "abort", str(caught))
                await self._abort(work, writers, begun=begun)
                if isinstance(caught, VssError):
                    raise
                raise VssError(codes.UNEXPECTED, str(caught)) from caught
            return self._remember(work)
        finally:
            self.hardware.forget(work)
            csv.redirect(self.host, work, backup=False)
            self.current = None

    async def _step(self, provider: Provider, name: str, step: Step) -> None:
        """Call a provider; VSS lets only known codes through and logs the failure as 12293."""
        self.trace(provider.name, name)
        try:
            await self.fault("vss.provider", provider=provider.name, phase=name)
            if self._is_stopped(provider.service):
                raise ProcessDied(f"the service {provider.service} has stopped")
            await step()
        except ProcessDied as died:
            provider.reset()
            self._stop(provider.service)
            text = (
                f"Error calling a routine on a Shadow Copy Provider {{{provider.id}}}. Routine details {name}: {died}"
            )
            self.report(12293, text, code=codes.RPC_FAILED)
            raise VssError(codes.UNEXPECTED_PROVIDER_ERROR, str(died)) from died
        except (VssError, *UNEXPECTED) as caught:
            error = caught if isinstance(caught, VssError) else VssError(codes.UNEXPECTED, str(caught))
            code = error.code if error.code in codes.PROVIDER_CODES else codes.UNEXPECTED_PROVIDER_ERROR
            if error.code in (codes.NO_SNAPSHOTS_IMPORTED, codes.CANNOT_REVERT_DISK_ID):
                code = error.code
            if error.code == codes.NO_SNAPSHOTS_IMPORTED:
                self.report(12289, f"Unexpected error while the shadow copy was shown. {error.detail}", code=code)
            text = "Error calling a routine on a Shadow Copy Provider "
            self.report(12293, f"{text}{{{provider.id}}}. Routine details {name}: {error.detail}", code=error.code)
            raise VssError(code, error.detail) from caught

    async def _each(self, work: SnapshotSet, name: str, step: Callable[[Provider, list[Target]], Step]) -> None:
        for provider, targets in work.by_provider():
            await self._step(provider, name, step(provider, targets))

    async def _prepare(self, work: SnapshotSet) -> None:
        for target in work.targets:
            await self.start_service(target.provider.service)
            begin = partial(target.provider.begin_prepare, work, target)
            await self._step(target.provider, "BeginPrepareSnapshot", begin)
        await self._each(work, "EndPrepareSnapshots", lambda p, t: lambda: p.end_prepare(work, t))

    async def _freeze_and_commit(self, work: SnapshotSet, writers: Sequence[Writer]) -> None:
        host = self.host
        tables: dict[str, Layout | None] = {}
        disks = sorted({t.volume.disk for t in work.targets if t.provider.kind == "Hardware"})
        if disks:
            await self.start_service(VDS)  # it is what sets and clears the partitions' attributes
        try:
            for disk in disks:
                tables[disk] = self.arrivals.mark(disk)
            await self.notify(Phase.PREPARE_SNAPSHOT, writers, work)
            frozen = host.clock.now
            await host.clock.sleep(host.costs["windows.vss.freeze"])
            for level in ("front-end", "back-end", "system"):
                self.trace("VSS", "Freeze", level)
            refused = await self.notify(Phase.FREEZE, writers, work)
            if refused:
                raise VssError(work.status[refused[0].id].failure, f"writer {refused[0].name} refused the freeze")
            await self._each(work, "PreCommitSnapshots", lambda p, t: lambda: p.pre_commit(work, t))
            held = await self._flush_and_hold(work)
            await self._each(work, "CommitSnapshots", lambda p, t: lambda: p.commit(work, t))
            self._release_guests()
            self._release_hold(held)
            await self._each(work, "PostCommitSnapshots", lambda p, t: lambda: p.post_commit(work, t))
        finally:
            self._release_guests()
            for disk, layout in tables.items():
                self.arrivals.unmark(disk, layout)
        await self._thaw(work, writers, frozen)

    async def _flush_and_hold(self, work: SnapshotSet) -> int:
        """Write out what the host and its guests have under way, and hold all writes; returns since when."""
        host = self.host
        started = host.clock.now
        self.trace("volsnap", "FLUSH_AND_HOLD")
        await host.clock.sleep(host.costs["windows.vss.flush"])
        for node in csv.nodes(host):
            node.settle()
            node.machines.hold({t.volume.guid for t in work.targets})
        for target in work.targets:
            try:
                await self.fault("vss.volume", volume=target.shown, phase="flush")
                host.volumes.file_system(target.volume).flush()
            except (DeviceError, FileSystemError) as error:
                raise VssError(codes.FLUSH_WRITES_TIMEOUT, f"{target.shown}: {error}") from error
        if host.clock.now - started > HOLD * SECOND:
            raise VssError(codes.FLUSH_WRITES_TIMEOUT, "the volumes could not be flushed within 10 seconds")
        return host.clock.now

    def _release_guests(self) -> None:
        for node in csv.nodes(self.host):
            node.machines.hold(set())

    def _release_hold(self, since: int) -> None:
        held = (self.host.clock.now - since) / SECOND
        self.trace("volsnap", "RELEASE_WRITES", f"held for {held:.1f} s")
        if held > HOLD:
            text = f"writes were held for {held:.1f} seconds, longer than the {HOLD} that are allowed"
            self.report(12298, f"The I/O writes cannot be held during the shadow copy creation: {text}.",
                        code=codes.HOLD_WRITES_TIMEOUT)  # fmt: skip
            raise VssError(codes.HOLD_WRITES_TIMEOUT, text)

    async def _thaw(self, work: SnapshotSet, writers: Sequence[Writer], frozen: int) -> None:
        late = (self.host.clock.now - frozen) / SECOND
        if late > FREEZE:
            for writer in writers:
                if not work.status[writer.id].state.failed:
                    writer.moved(work, Phase.THAW, codes.WRITER_TIMEOUT)
            text = f"{late:.0f} seconds passed between Freeze and Thaw, more than the {FREEZE} that writers allow"
            raise VssError(codes.WRITER_TIMEOUT, text)
        refused = await self.notify(Phase.THAW, writers, work)
        if refused:
            raise VssError(work.status[refused[0].id].failure, f"writer {refused[0].name} failed at the thaw")

    async def _finish(self, work: SnapshotSet, writers: Sequence[Writer]) -> None:
        """Auto-recovery: the shadow copies are shown, written by the writers, and put away for good."""
        await self._each(work, "PreFinalCommitSnapshots", lambda p, t: lambda: p.pre_final_commit(work, t))
        await self.notify(Phase.POST_SNAPSHOT, writers, work)
        await self._each(work, "PostFinalCommitSnapshots", lambda p, t: lambda: p.post_final_commit(work, t))

    async def _abort(self, work: SnapshotSet, writers: Sequence[Writer], *, begun: bool) -> None:
        for writer in writers:
            writer.abort(work)
            writer.settle(work)
        if begun:
            for provider, targets in work.by_provider():
                self.trace(provider.name, "AbortSnapshots")
                await provider.abort(work, targets)

    def _remember(self, work: SnapshotSet) -> list[ShadowRecord]:
        made = []
        for target in work.targets:
            provider = target.provider
            hardware = provider.kind == "Hardware"
            record = ShadowRecord(
                id=target.shadow,
                set_id=work.id,
                count=len(work.targets),
                volume=target.volume.name,
                shown=target.shown,
                provider=provider.id,
                created=self.host.clock.time,
                machine=self.host.spec.fqdn,
                attributes=_attributes(work, hardware=hardware),
                kind="Hardware" if hardware else "Differential",
                device=provider.device(target),
                area=provider.area(target),
                copies=provider.copies(target),
            )
            self.shadows[str(record.id)] = record
            made.append(record)
        return made

    # -- existing shadow copies --------------------------------------------------------------------------------

    async def list_shadows(self) -> list[ShadowRecord]:
        """The shadow copies that are still there, oldest first."""
        found = []
        for record in list(self.shadows.values()):
            provider = self.provider(record.provider)
            if provider is not None and await provider.exists(record):
                found.append(record)
        return found

    async def delete(self, record: ShadowRecord) -> None:
        """Delete a shadow copy; raises ``VssError``."""
        provider = self.provider(record.provider)
        if provider is None:
            raise VssError(codes.PROVIDER_NOT_REGISTERED, f"provider {{{record.provider}}} is not registered")
        await self.start_service(provider.service)
        await provider.delete(record)
        del self.shadows[str(record.id)]


def _handler(writer: Writer, phase: Phase) -> Callable[..., Awaitable[None]]:
    handlers: dict[Phase, Callable[..., Awaitable[None]]] = {
        Phase.PREPARE_BACKUP: writer.prepare_backup,
        Phase.PREPARE_SNAPSHOT: writer.prepare_snapshot,
        Phase.FREEZE: writer.freeze,
        Phase.THAW: writer.thaw,
        Phase.POST_SNAPSHOT: writer.post_snapshot,
        Phase.BACKUP_COMPLETE: writer.backup_complete,
        Phase.PRE_RESTORE: writer.pre_restore,
        Phase.POST_RESTORE: writer.post_restore,
    }
    return handlers[phase]


def _attributes(work: SnapshotSet, *, hardware: bool) -> tuple[str, ...]:
    found = []
    if hardware and "transportable" in work.options:
        found.append("Transportable")
    if work.context.persistent:
        found += ["No_Auto_Release", "Persistent"]
    if not work.context.writers:
        found.append("No_Writers")
    if hardware:
        found.append("Hardware_Assisted")
    found.append("Plex" if "plex" in work.options else "Differential")
    if work.recover:
        found.append("Auto_Recovered")
    return tuple(found)


def needs_recovery(work: SnapshotSet, *, era: str) -> bool:
    """Whether the shadow copies of a set are written by the Hyper-V writer after their creation."""
    if era == "2022" or not work.context.writers or work.options & {"transportable", "noautorecover"}:
        return False
    return any(component.vm is not None for component in work.components)
