"""The Hyper-V writer: virtual machines as components, made consistent inside, and recovered on the shadow copy.

All that concerns the guests happens in PrepareForSnapshot, before anything is frozen on the host; PostSnapshot turns
the virtual disks on the shadow copy back to that instant. From Windows Server 2016 on guests are decoupled from the
host's shadow copy: the writer makes a recovery checkpoint, whose files the shadow copy then holds, and merges it away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.devices import DeviceError
from labenv.guest.errors import GuestError, ShadowExists, ShadowLost, ShadowStorageFull
from labenv.guest.guest import Guest
from labenv.guest.recovery import recover
from labenv.windows import events as log
from labenv.windows.call import PsError
from labenv.windows.disks.errors import FileSystemError, VirtualDiskError
from labenv.windows.disks.gpt import read_gpt
from labenv.windows.errors import FileProblem
from labenv.windows.machines import VmNotRunning, sorted_drives
from labenv.windows.records import VmRecord
from labenv.windows.vhds import OpenDisk
from labenv.windows.vmconfig import is_active
from labenv.windows.vmregistry import shown_id
from labenv.windows.vss import codes, restore
from labenv.windows.vss.codes import VssError
from labenv.windows.vss.model import Component, Method, SnapshotSet
from labenv.windows.vss.writer import Writer

if TYPE_CHECKING:
    from labenv.windows.host import Host

HYPERV = UUID("66841cd4-6ded-4f4b-8f17-fd23f8ddc3de")
"""Id of the Hyper-V writer."""

LEAST_VOLUME = 300 << 20
"""A guest volume smaller than this cannot be shadow-copied, so its VM cannot be backed up online."""

FAILED, REVERT_DISK, REVERT, PHYSICAL = 10102, 10103, 10104, 10107
"""Events of the Virtual Machine Management Service."""

NO_CONTROLLER = 10103
"""The same number stands for a VM that cannot be backed up online, because it has no SCSI controller."""

REMOTE_FIX = {"2008r2": "KB975354", "2012": "KB2770917"}
"""The hotfix by which a guest's shadow copy leaves out what reaches it past its host."""

Trace = Callable[[str, str, str], None]


@dataclass
class Session:
    """What the writer has done for one set: shadow copies in guests by VM, VMs that it saved, checkpoints it made."""

    shadows: dict[UUID, UUID] = field(default_factory=dict)
    saved: list[UUID] = field(default_factory=list)
    checkpoints: dict[UUID, UUID] = field(default_factory=dict)
    failed: dict[UUID, VssError] = field(default_factory=dict)


class HyperVWriter(Writer):
    """Backs up the virtual machines of one host."""

    id = HYPERV
    name = "Microsoft Hyper-V VSS Writer"
    service = "vmms"

    def __init__(self, host: Host, *, trace: Trace) -> None:
        super().__init__(host)
        self._trace = trace
        self._sessions: dict[UUID, Session] = {}

    def reset(self) -> None:
        """The management service has started."""
        super().reset()
        self._sessions.clear()

    # -- components --------------------------------------------------------------------------------------------

    async def identify(self) -> list[Component]:
        """A component for each VM, and for the host's own configuration from 2012 on."""
        return [self._component(vm) for vm in self.host.machines.named("*")]

    def _component(self, vm: VmRecord) -> Component:
        volumes: set[UUID] = set()
        elsewhere: list[str] = []
        files = self._files(vm)
        for path in files:
            try:
                volumes.add(self.host.volumes.resolve(path)[0].guid)
            except FileProblem:
                elsewhere.append(path)
        method, reason = self.method(vm)
        return Component(
            writer=self.id,
            path="",
            name=str(vm.id).upper(),
            caption=self._caption(vm, method),
            files=tuple(files),
            volumes=frozenset(volumes),
            elsewhere=tuple(elsewhere),
            vm=vm.id,
            method=method,
            reason=reason,
        )

    def _caption(self, vm: VmRecord, method: Method) -> str:
        if self.host.spec.era == "2008r2":
            return f"Backup Using {'Child Partition Snapshot' if method is Method.ONLINE else 'Saved State'}\\{vm.name}"
        return f"{'Online' if method is Method.ONLINE else 'Offline'}\\{vm.name}"

    def _files(self, vm: VmRecord) -> list[str]:
        """Every file of a VM: configuration, state, checkpoints, and the chains of its virtual disks."""
        machines = self.host.machines
        configurations = machines.configurations
        found = [configurations.path(vm)]
        found += [p for p in configurations.runtime(vm) if self.host.files.exists(p)]
        drives = [d.path for d in vm.drives if d.path]
        for snapshot in machines.snapshots_of(vm):
            found.append(configurations.snapshot_path(snapshot))
            drives += [d.path for d in snapshot.configuration.drives if d.path]
        for path in drives:
            try:
                found += self.host.vhds.chain(path)
            except FileProblem:
                found.append(path)
        return list(dict.fromkeys(found))

    def method(self, vm: VmRecord) -> tuple[Method, str]:
        """How a VM would be backed up now, and if not online, why."""
        if not is_active(vm):
            return Method.OFFLINE, f"the virtual machine is {vm.state}"
        if "VSS" in vm.disabled_services:
            return Method.SAVED, "the integration service for backup (VSS) is switched off"
        try:
            guest = self.host.machines.guest(vm)
        except VmNotRunning as error:
            return Method.SAVED, str(error)
        if not guest.system.integration_services:
            return Method.SAVED, "the guest has no integration services"
        if self.host.spec.era != "2022":
            small = [letter for letter, v in guest.own_volumes.items() if v.size < LEAST_VOLUME]
            if small:
                return Method.SAVED, f"guest volume {small[0]}: is smaller than 300 MB"
            if self._lacks_controller(vm):
                return Method.SAVED, "it has no SCSI controllers"
            if self._snapshots_elsewhere(vm):
                return Method.SAVED, "its snapshot file location is on another volume than its virtual hard disks"
        return Method.ONLINE, ""

    def _lacks_controller(self, vm: VmRecord) -> bool:
        """Windows Server 2012 hot-adds the guest's shadow copy, for which it takes a SCSI controller."""
        return self.host.spec.era == "2012" and vm.scsi_controllers == 0

    def _snapshots_elsewhere(self, vm: VmRecord) -> bool:
        """TR-4004 6.2: a snapshot location on another LUN is used only after one snapshot was made there."""
        if self.host.machines.snapshots_of(vm):
            return False
        try:
            return any(
                not self.host.files.same_volume(vm.snapshot_path, drive.path) for drive in vm.drives if drive.path
            )
        except FileProblem:
            return True

    # -- before the shadow copy --------------------------------------------------------------------------------

    def _session(self, work: SnapshotSet) -> Session:
        return self._sessions.setdefault(work.id, Session())

    async def prepare_snapshot(self, work: SnapshotSet) -> None:
        """Make every VM consistent inside: a shadow copy in the guest, a recovery checkpoint, or its saved state."""
        session = self._session(work)
        for component in work.of(self.id):
            if component.vm is None:
                continue
            vm = self.host.machines.get(component.vm)
            if vm is None:
                text = f"virtual machine {component.name} is no longer on {self.host.name}"
                session.failed[component.vm] = VssError(codes.WRITER_RETRYABLE, text)
                continue
            try:
                await self.host.vss.fault("vss.writer", writer=self.name, phase="PrepareForSnapshot", vm=vm.name)
                await self._prepare(work, session, vm)
            except VssError as error:
                session.failed[vm.id] = error
                self._trace("Hyper-V writer", "guest failed", f"{vm.name}: {error.detail}")
                self._log(FAILED, f"Failed to create the backup of virtual machine '{vm.name}'.", vm, error.detail)
        if session.failed:
            raise self._veto(work, session.failed)

    def _veto(self, work: SnapshotSet, failed: dict[UUID, VssError]) -> VssError:
        """One failure for the writer: some of several VMs have failed, or what befell the only one."""
        detail = "; ".join(f"{vm}: {error.detail}" for vm, error in failed.items())
        if self.host.spec.era != "2008r2" and len(failed) < len(work.of(self.id)):
            return VssError(codes.WRITER_PARTIAL_FAILURE, detail)
        worst = sorted(failed.values(), key=lambda error: error.code == codes.WRITER_RETRYABLE)[0]
        return VssError(worst.code, detail)

    async def _prepare(self, work: SnapshotSet, session: Session, vm: VmRecord) -> None:
        if any(drive.disk is not None for drive in vm.drives):
            text = (
                f"One or more physical disks are connected to virtual machine '{vm.name}'; this backup leaves them out."
            )
            self._log(PHYSICAL, text, vm, level=log.WARNING)
        method, reason = self.method(vm)
        if method is Method.OFFLINE:
            return
        if method is Method.SAVED and self._lacks_controller(vm):
            text = f"The virtual machine '{vm.name}' cannot be hot backed up since it has no SCSI controllers attached."
            self._log(NO_CONTROLLER, text, vm)
        if self.host.spec.era == "2022":
            await self._checkpoint(session, vm, method)
        elif method is Method.ONLINE:
            self._past_the_host(vm)
            if not work.recover:
                text = "the shadow copies cannot be written after their creation (transportable or no auto-recovery)"
                raise VssError(codes.WRITER_NONRETRYABLE, text)
            await self._shadow(session, vm)
        else:
            self._trace("Hyper-V writer", "save", f"{vm.name}: {reason}")
            session.saved.append(vm.id)
            await self.host.machines.save(vm)

    def _past_the_host(self, vm: VmRecord) -> None:
        """Disks of the guest's own initiator are left out; without the hotfix the guest's writers trip over them."""
        if not self.host.machines.guest(vm).has_remote_disks:
            return
        fix = REMOTE_FIX[self.host.spec.era]
        if fix not in self.host.inventory.record.hotfixes:
            text = f"the guest uses iSCSI disks of its own, which its shadow copy cannot hold (hotfix {fix} is missing)"
            raise VssError(codes.WRITER_RETRYABLE, text)
        text = f"The guest of virtual machine '{vm.name}' uses iSCSI disks of its own; this backup leaves them out."
        self._log(PHYSICAL, text, vm, level=log.WARNING)

    async def _shadow(self, session: Session, vm: VmRecord) -> None:
        """The guest's own VSS: its writers freeze, a software shadow copy is made, its writers thaw."""
        set_id = self.host.ids.uuid("guest shadow set", self.host.spec.name, str(vm.id))
        await self.host.clock.sleep(self.host.costs["windows.vss.guest"])
        present = self.host.machines.get(vm.id)
        if present is None:
            text = f"virtual machine {vm.name} has left {self.host.name} meanwhile"
            raise VssError(codes.WRITER_RETRYABLE, text)
        try:
            guest = self.host.machines.guest(present)
        except VmNotRunning as error:
            raise VssError(codes.WRITER_RETRYABLE, str(error)) from error
        self._trace(f"guest {vm.name}", "freeze", ", ".join(guest_writers(guest)))
        try:
            if guest.shadow is not None and guest.shadow not in self._in_use():
                guest.delete_shadow()  # left by a backup whose requestor died
            guest.create_shadow(set_id)
        except ShadowStorageFull as error:
            raise VssError(codes.WRITER_NONRETRYABLE, str(error)) from error
        except (ShadowExists, GuestError, DeviceError, FileSystemError) as error:
            raise VssError(codes.WRITER_RETRYABLE, str(error)) from error
        session.shadows[vm.id] = set_id
        self._trace(f"guest {vm.name}", "thaw", f"shadow copy set {{{set_id}}}")

    def _in_use(self) -> set[UUID]:
        return {shadow for session in self._sessions.values() for shadow in session.shadows.values()}

    async def _checkpoint(self, session: Session, vm: VmRecord, method: Method) -> None:
        try:
            made = await self.host.checkpoints.create_recovery(vm, consistent=method is Method.ONLINE)
        except (PsError, FileProblem) as error:
            raise VssError(codes.WRITER_RETRYABLE, error.message) from error
        session.checkpoints[vm.id] = made.id
        self._trace("Hyper-V writer", "recovery checkpoint", f"{vm.name}: {made.consistency}-consistent")

    # -- after the shadow copy ---------------------------------------------------------------------------------

    async def post_snapshot(self, work: SnapshotSet) -> None:
        """Turn the virtual disks on the shadow copy back, resume saved VMs, merge checkpoints away."""
        session = self._session(work)
        failed: dict[UUID, VssError] = {}
        for vm_id, set_id in session.shadows.items():
            vm = self.host.machines.get(vm_id)
            if vm is None:
                continue
            try:
                await self.host.vss.fault("vss.writer", writer=self.name, phase="PostSnapshot", vm=vm.name)
                await self.host.clock.sleep(self.host.costs["windows.vss.revert"])
                self._revert(work, vm, set_id)
            except VssError as error:
                failed[vm_id] = error
                self._trace("Hyper-V writer", "revert failed", f"{vm.name}: {error.detail}")
                text = "Failed to revert to VSS snapshot on one or more virtual hard disks of the virtual machine "
                self._log(REVERT, f"{text}'{vm.name}'.", vm, error.detail)
        await self._release(session)
        if failed:
            session.failed.update(failed)
            raise self._veto(work, failed)

    def _revert(self, work: SnapshotSet, vm: VmRecord, set_id: UUID) -> None:
        shown_on = work.shown_on or self.host
        opened: list[OpenDisk] = []
        path = ""
        try:
            for drive in sorted_drives(vm):
                if drive.path:
                    path = drive.path
                    opened.append(shown_on.vhds.open(self._on_copy(work, drive.path)))
                    self._refuse_collision(opened[-1], drive.path)
            result = recover(
                [d.device for d in opened],
                set_id=set_id,
                vm_id=vm.id,
                now=lambda: self.host.clock.time,
                seed=self.host.ids.seed,
            )
        except (FileProblem, FileSystemError, VirtualDiskError, DeviceError, ShadowLost, GuestError) as error:
            if not isinstance(error, GuestError):
                text = f"Failed to revert to VSS snapshot on the virtual hard disk '{path}' of the virtual machine "
                self._log(REVERT_DISK, f"{text}'{vm.name}'.", vm, str(error))
            raise VssError(codes.WRITER_RETRYABLE, str(error)) from error
        finally:
            for disk in opened:
                disk.close()
        if result.failed:
            name, reason = next(iter(result.failed.items()))
            raise VssError(codes.WRITER_RECOVERY_FAILED, f"database {name} cannot be recovered: {reason}")
        blocks = sum(result.reverted.values())
        self._trace("Hyper-V writer", "auto-recovery", f"{vm.name}: {blocks} blocks, {', '.join(result.databases)}")

    def _refuse_collision(self, disk: OpenDisk, path: str) -> None:
        """TR-4004 6.2: a virtual disk that was copied from a physical one cannot be shown beside it."""
        layout = read_gpt(disk.device)
        for record in self.host.disks.present():
            shown = None if record.offline else self.host.disks.layout(record)
            if layout is not None and shown is not None and shown.identity == layout.disk_guid:
                text = f"the disk GUID of '{path}' is that of disk {record.number} of this host"
                raise VirtualDiskError(text)

    def _on_copy(self, work: SnapshotSet, path: str) -> str:
        volume, inner = self.host.volumes.resolve(path)
        target = work.target(volume.guid)
        if target is None or target.presented is None:
            raise VssError(codes.WRITER_RETRYABLE, f"the shadow copy that holds {path} is not accessible")
        return target.presented.name + inner.lstrip("\\")

    async def _release(self, session: Session) -> None:
        """Give back what was made for a set: guests' shadow copies, checkpoints, saved VMs."""
        self._drop_shadows(session)
        for vm_id, snapshot_id in list(session.checkpoints.items()):
            del session.checkpoints[vm_id]
            self._merge(snapshot_id, vm_id)
        while session.saved:
            vm = self.host.machines.get(session.saved[0])
            if vm is not None and vm.state == "Saved":
                try:
                    await self.host.machines.start(vm)
                except PsError as error:
                    session.failed[vm.id] = VssError(codes.WRITER_RETRYABLE, error.message)
            session.saved.pop(0)

    def _merge(self, snapshot_id: UUID, vm_id: UUID) -> None:
        record = self.host.machines.snapshots.get(str(snapshot_id))
        if record is None:
            return
        try:
            self.host.checkpoints.remove(record)
        except FileProblem as error:
            self._trace("Hyper-V writer", "merge failed", error.message)
            return
        self.host.clock.spawn(self.host.checkpoints.run_merges(vm_id), name=f"merge recovery checkpoint {vm_id}")

    def _drop_shadows(self, session: Session) -> None:
        for vm_id in session.shadows:
            vm = self.host.machines.get(vm_id)
            if vm is None or vm.state != "Running":
                continue
            try:
                self.host.machines.guest(vm).delete_shadow()
            except (VmNotRunning, GuestError, DeviceError, FileSystemError):
                continue  # the guest went away and its shadow copy with it
        session.shadows.clear()

    # -- restore -----------------------------------------------------------------------------------------------

    async def pre_restore(self, work: SnapshotSet) -> None:
        """The virtual machines are turned off and deleted."""
        for component in work.of(self.id):
            await restore.let_go(self.host, component)

    async def post_restore(self, work: SnapshotSet) -> None:
        """The virtual machines are registered from their restored files, if these are all back."""
        if not work.restored:
            raise VssError(codes.WRITER_NONRETRYABLE, "not all files of the components have been restored")
        for component in work.of(self.id):
            await restore.take_back(self.host, component)

    # -- the end -----------------------------------------------------------------------------------------------

    def abort(self, work: SnapshotSet) -> None:
        """Give everything back; VMs that were saved for the set start again in the background."""
        session = self._sessions.pop(work.id, None)
        if session is None:
            return
        self._drop_shadows(session)
        if session.checkpoints or session.saved:
            self.host.clock.spawn(self._release(session), name=f"VSS abort {work.id}")

    def shutdown(self, work: SnapshotSet) -> None:
        """The requestor has gone; a set that was never completed is given up."""
        self.abort(work)

    def _log(self, event: int, text: str, vm: VmRecord, detail: str = "", *, level: int = log.ERROR) -> None:
        message = f"{text} {detail}".strip() + f" (Virtual machine ID {shown_id(vm)})"
        self.host.events.write(
            log.VMMS_ADMIN,
            log.VMMS,
            event,
            message,
            level=level,
            values=(vm.name, shown_id(vm), *([detail] if detail else [])),
        )


def guest_writers(guest: Guest) -> list[str]:
    """The VSS writers that run in a guest."""
    sql = ["SqlServerWriter"] if guest.databases() else []
    return ["System Writer", "Registry Writer", *sql]
