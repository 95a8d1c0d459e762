"""The host's virtual machines: power, guests, and the disks that they have open."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from uuid import UUID

from labenv.clock import Clock
from labenv.costs import Costs
from labenv.devices import DeviceError
from labenv.guest.errors import GuestError, NoOperatingSystem
from labenv.guest.guest import Answers, Guest
from labenv.guest.initiator import Network
from labenv.guest.load import Load, LoadRecord
from labenv.ids import Ids
from labenv.state import State
from labenv.windows import events as log
from labenv.windows.call import PsError
from labenv.windows.disks.errors import FileSystemError, VirtualDiskError
from labenv.windows.errors import FileProblem, hyperv, hyperv_file, problem, sharing_violation
from labenv.windows.events import Events
from labenv.windows.files import Files
from labenv.windows.passthrough import PassThrough, open_physical
from labenv.windows.records import DriveRecord, SnapshotRecord, VmRecord
from labenv.windows.running import Running, VmDisk
from labenv.windows.spec import HostSpec
from labenv.windows.storage import Disks
from labenv.windows.vhds import OpenDisk, VirtualDisks
from labenv.windows.vmconfig import is_active
from labenv.windows.vmregistry import VmRegistry, shown_id


class VmNotRunning(Exception):
    """The VM has no running guest: it is off, saved, paused, or nothing on its disks can be booted."""


class Machines(VmRegistry):
    """The registered VMs with what exists of them only while they run."""

    def __init__(
        self,
        *,
        spec: HostSpec,
        clock: Clock,
        state: State,
        ids: Ids,
        costs: Costs,
        files: Files,
        vhds: VirtualDisks,
        disks: Disks,
        events: Events,
    ) -> None:
        super().__init__(spec=spec, state=state, ids=ids, files=files, events=events)
        self._clock = clock
        self._costs = costs
        self._files = files
        self._vhds = vhds
        self._disks = disks
        self.running: dict[UUID, Running] = {}
        self._held: set[UUID] = set()
        self._loads = state.table("guest.load", LoadRecord)
        self.obstacles = state.table(f"windows.{spec.name}.obstacle", bool)
        self.network: Network | None = None

    # -- power -------------------------------------------------------------------------------------------------

    async def start(self, vm: VmRecord) -> None:
        """Start a VM; raises ``PsError`` if its disks cannot be opened. Takes ``windows.vm.start``."""
        self._check_start(vm)
        chains = self._open(vm)
        for disk in chains:
            disk.disk.close()
        files = tuple(p for d in chains for p in d.disk.paths)
        before = self._set(vm, state="Starting", open_files=files)
        try:
            await self._clock.sleep(max(1.0, self._costs["windows.vm.start"]))
            self._boot(before, self._open(before, starting=True))
        except BaseException:
            self.running.pop(vm.id, Running()).power_off()
            if str(vm.id) in self.vms:
                self._set(vm, state=vm.state, open_files=())
            raise
        self._set(vm, state="Running", started=self._clock.now, status="")
        self.configurations.write_runtime(self.vms[str(vm.id)])
        text = f"'{vm.name}' started successfully. (Virtual machine ID {shown_id(vm)})"
        self._events.write(log.WORKER_ADMIN, log.WORKER, 18500, text, values=(vm.name, shown_id(vm)))

    def _check_start(self, vm: VmRecord) -> None:
        reason = ""
        if "logon right" in self.obstacles:
            reason = (
                "failed to start worker process: Logon failure: the user has not been granted the requested logon type "
                "at this computer. (0x80070569)"
            )
        elif vm.state == "Saved" and "processor" in self.obstacles:
            reason = (
                "could not be restored: the saved state is using processor-specific features that are not supported on "
                "this computer. Delete the saved state to start the virtual machine."
            )
        if reason:
            text = f"'{vm.name}' {reason} (Virtual machine ID {shown_id(vm)})"
            self._log(12030, text, vm, level=log.ERROR)
            raise hyperv("OperationFailed", text)

    def _open(self, vm: VmRecord, *, starting: bool = False) -> list[VmDisk]:
        disks: list[VmDisk] = []
        try:
            for drive in sorted_drives(vm):
                disks.append(self._open_drive(vm, drive, check=not starting))
        except BaseException:
            Running(disks).close()
            raise
        return disks

    def _open_drive(self, vm: VmRecord, drive: DriveRecord, *, check: bool) -> VmDisk:
        name = f"'{vm.name}' failed to start. (Virtual machine ID {shown_id(vm)})"
        text = f"{name} Attachment '{drive.path}' cannot be opened. Error:"
        try:
            if check and drive.disk_id:
                self._check_physical(vm, drive)
            elif check:
                for path in self._vhds.chain(drive.path):
                    leaf = path == drive.path
                    if leaf and self._files.in_use(path):
                        raise sharing_violation(path)
            return VmDisk(drive, self._opened(drive), lambda error: self._io_error(vm.id, drive, error))
        except FileProblem as error:
            self._log(12010, f"{text} {error.message}", vm, level=log.ERROR)
            raise hyperv_file(text, error) from error

    def _opened(self, drive: DriveRecord) -> OpenDisk | PassThrough:
        return open_physical(self._disks, drive) if drive.disk_id else self._vhds.open(drive.path)

    def _check_physical(self, vm: VmRecord, drive: DriveRecord) -> None:
        for other in self.vms.values():
            if other.id != vm.id and is_active(other) and any(d.disk_id == drive.disk_id for d in other.drives):
                raise sharing_violation(f"Disk {drive.disk}")

    def _boot(self, vm: VmRecord, disks: list[VmDisk]) -> Running:
        running = self.running[vm.id] = Running(disks)
        guest = Guest(
            vm_id=vm.id,
            disks=disks,
            now=lambda: self._clock.time,
            seed=self._ids.seed,
            answers=Answers(host_name=""),
            network=self.network,
            note_loads=partial(self._remember_loads, vm.id),
        )
        try:
            guest.boot()
        except (NoOperatingSystem, DeviceError, FileSystemError):
            return running  # the VM runs and shows a boot failure, as a real one does
        running.guest = guest
        remembered = self._loads.get(str(vm.id))
        for load in remembered.loads if remembered is not None else ():
            with suppress(GuestError):  # its database is gone
                guest.start_load(load)
        return running

    def _remember_loads(self, vm_id: UUID, loads: Sequence[Load]) -> None:
        """Clients outside go on when the guest is there again after its host has lost power."""
        if loads:
            self._loads[str(vm_id)] = LoadRecord(tuple(loads))
        else:
            self._loads.pop(str(vm_id), None)

    def guest(self, vm: VmRecord) -> Guest:
        """The guest of a running VM, booted now if the lab was started since; raises ``VmNotRunning``."""
        if vm.state != "Running":
            raise VmNotRunning(f"virtual machine {vm.name} is {vm.state}: start it first")
        running = self.running.get(vm.id)
        if running is None:
            try:
                running = self._boot(vm, self._open(vm, starting=True))
            except PsError as error:
                self._set(vm, state="Off", open_files=(), started=0)
                raise VmNotRunning(error.message) from error
        if running.guest is None:
            raise VmNotRunning(f"virtual machine {vm.name} has nothing to boot on its disks")
        return running.guest

    def settle(self) -> None:
        """Let every running guest do what it does by itself up to now (before its storage is looked at)."""
        for vm in list(self.vms.values()):
            if self._held and self._is_held(vm):
                continue
            if vm.state == "Running" and vm.id not in self.running and str(vm.id) in self._loads:
                with suppress(VmNotRunning):
                    self.guest(vm)
            running = self.running.get(vm.id)
            if vm.state == "Running" and running is not None and running.guest is not None:
                running.guest.settle()

    def hold(self, volumes: set[UUID]) -> None:
        """Hold the writes of guests whose disks are on these volumes (none: let them go on)."""
        self._held = volumes

    def _is_held(self, vm: VmRecord) -> bool:
        for drive in vm_drives(vm):
            try:
                if UUID(self._files.key(drive.path).partition("\\")[0]) in self._held:
                    return True
            except FileProblem:
                continue
        return False

    def flush(self) -> None:
        """Write what every running guest holds in its cache."""
        for running in self.running.values():
            if running.guest is not None:
                running.guest.flush()

    async def shutdown(self, vm: VmRecord) -> None:
        """Ask the guest to shut down; takes ``windows.vm.shutdown``."""
        try:
            if "Shutdown" in vm.disabled_services:
                raise VmNotRunning("the shutdown integration service is off")
            guest = self.guest(vm)
        except VmNotRunning as error:
            text = f"'{vm.name}' failed to shut down: the guest does not answer. (Virtual machine ID {shown_id(vm)})"
            raise hyperv("OperationFailed", text) from error
        self._set(vm, state="Stopping")
        try:
            await self._clock.sleep(max(1.0, self._costs["windows.vm.shutdown"]))
            guest.shutdown()
        except BaseException:
            if self.vms[str(vm.id)].state == "Stopping":
                self._set(vm, state="Running")
            raise
        self._stopped(vm, "Off", 18504, "was shut down by the guest operating system")

    def look_after(self, vm: VmRecord) -> None:
        """A guest that has shut down from inside takes its VM with it."""
        running = self.running.get(vm.id)
        if running is not None and running.guest is not None and not running.guest.running:
            self._stopped(vm, "Off", 18504, "was shut down by the guest operating system")

    async def turn_off(self, vm: VmRecord) -> None:
        """Cut the VM's power."""
        await self._clock.sleep(max(1.0, self._costs["windows.vm.turnoff"]))
        running = self.running.get(vm.id)
        if running is not None:
            running.power_off()
        self._stopped(vm, "Off", 18502, "was turned off")

    async def save(self, vm: VmRecord) -> None:
        """Save the VM. Its memory is not kept: the guest is flushed and cut, and boots when it is started again."""
        guest = self.guest(vm)
        self._set(vm, state="Saving")
        try:
            await self._clock.sleep(max(1.0, self._costs["windows.vm.save"]))
            guest.settle()
            guest.flush()
        except BaseException:
            if self.vms[str(vm.id)].state == "Saving":
                self._set(vm, state="Running")
            raise
        guest.power_off()
        self._stopped(vm, "Saved", 18508, "was saved")

    def _stopped(self, vm: VmRecord, state: str, event: int, text: str) -> None:
        running = self.running.pop(vm.id, None)
        if running is not None:
            running.close()
        self._remember_loads(vm.id, ())
        stopped = self._set(
            vm, state=state, started=0, open_files=(), status="MergingDisks" if self.vms[str(vm.id)].merges else ""
        )
        self._tidy(stopped)
        message = f"'{vm.name}' {text}. (Virtual machine ID {shown_id(vm)})"
        self._events.write(log.WORKER_ADMIN, log.WORKER, event, message, values=(vm.name, shown_id(vm)))

    def _tidy(self, vm: VmRecord) -> None:
        try:
            self.configurations.write(vm)
            if vm.state == "Saved" or self._spec.configuration_extension != ".xml":
                self.configurations.write_runtime(vm)
            else:
                self.configurations.remove_runtime(vm)
        except FileProblem:
            return  # the storage is away; the VM is off all the same

    def _io_error(self, vm_id: UUID, drive: DriveRecord, error: Exception) -> None:
        vm = self.get(vm_id)
        running = self.running.get(vm_id)
        if running is not None:
            for disk in running.disks:
                disk.stopped = True
        if vm is None or vm.state != "Running":
            return
        found = problem(error, drive.path)
        self._set(vm, state="PausedCritical", status="CriticalIoError")
        full = found.code == 0x80070070
        reason = "it has run out of disk space" if full else "a critical error occurred in its storage"
        text = f"'{vm.name}' has been paused because {reason} on '{drive.path}'. (Virtual machine ID {shown_id(vm)})"
        self._events.write(log.VMMS_ADMIN, log.VMMS, 16060 if full else 16050, text, level=log.ERROR, values=(vm.name,))

    def lose_power(self) -> None:
        """The host's power is cut: every guest's cache is lost."""
        for running in self.running.values():
            running.power_off()
        self.running.clear()

    def restart(self, *, managed: bool) -> None:
        """The host has started: VMs that ran do so again, and boot when they are first asked.

        Nobody starts them if the management service does not run (``managed``).
        """
        for vm in list(self.vms.values()):
            if not is_active(vm):
                self._set(vm, status="")
                continue
            ran = vm.state in ("Running", "Starting", "Stopping", "Saving")
            if ran and managed and vm.start_action != "Nothing":
                self._set(vm, state="Running", started=self._clock.now, status="")
            else:
                self._set(vm, state="Off", started=0, open_files=(), status="")

    # -- between the nodes of a cluster --------------------------------------------------------------------------

    def release(self, vm: VmRecord) -> tuple[VmRecord, list[SnapshotRecord], Running | None]:
        """Forget a VM without touching its files, because another node takes it; a running one keeps its memory."""
        snapshots = self.snapshots_of(vm)
        for snapshot in snapshots:
            del self.snapshots[str(snapshot.id)]
        running = self.running.pop(vm.id, None)
        for disk in running.disks if running is not None else ():
            with suppress(DeviceError, FileSystemError, VirtualDiskError):
                disk.disk.close()
        return self.vms.pop(str(vm.id)), snapshots, running

    def receive(self, vm: VmRecord, snapshots: list[SnapshotRecord], running: Running | None) -> VmRecord:
        """Register a VM that another node has released; a running one goes on where it was.

        One whose disks cannot be opened here loses its memory, and is off.
        """
        self.vms[str(vm.id)] = vm
        for snapshot in snapshots:
            self.snapshots[str(snapshot.id)] = snapshot
        if running is not None:
            try:
                for disk in running.disks:
                    failed = partial(self._io_error, vm.id, disk.drive)
                    disk.hand_over(self._opened(disk.drive), failed)
            except FileProblem:
                running.power_off()
                return self._set(vm, state="Off", started=0, open_files=())
            self.running[vm.id] = running
        return self.vms[str(vm.id)]

    # -- drives ------------------------------------------------------------------------------------------------

    def hot_add(self, vm: VmRecord, drive: DriveRecord) -> None:
        """Attach a disk to a running VM. Raises ``PsError`` or ``FileProblem``."""
        try:
            guest = self.guest(vm)
        except VmNotRunning as error:
            raise hyperv("InvalidState", str(error), target=vm.name) from error
        disk = self._open_drive(vm, drive, check=True)
        self.running[vm.id].disks.append(disk)
        guest.attach_disk(disk)
        self.put(replace(vm, drives=(*vm.drives, drive)))
        self.note_files(vm)

    def hot_remove(self, vm: VmRecord, drive: DriveRecord) -> None:
        """Take a disk from a running VM, whether its guest lets go of it in order or loses it."""
        running = self.running.get(vm.id, Running())
        for disk in [d for d in running.disks if d.drive == drive]:
            if running.guest is not None:
                with suppress(GuestError, KeyError):
                    running.guest.detach_disk(disk)
            disk.stopped = True
            disk.disk.close()
            running.disks.remove(disk)
        self.put(replace(vm, drives=tuple(d for d in vm.drives if d != drive)))
        self.note_files(vm)

    def let_go(self, vm: VmRecord, leaf: str) -> None:
        """Close a running VM's chain; ``switch_drives`` opens it again before anything else happens."""
        for disk in self._disks_of(vm):
            if disk.drive.path == leaf:
                disk.disk.close()

    def _disks_of(self, vm: VmRecord) -> list[VmDisk]:
        running = self.running.get(vm.id)
        return running.disks if running is not None else []

    def switch_drives(self, vm: VmRecord, drives: tuple[DriveRecord, ...], *, parent: UUID | None) -> VmRecord:
        """Give a VM other files in the places of its drives, also while it runs; the guest notices nothing."""
        current = self.put(replace(self.vms[str(vm.id)], drives=drives, parent_snapshot=parent))
        places = {_place(d): d for d in drives}
        for disk in self._disks_of(vm):
            drive = places[_place(disk.drive)]
            disk.disk.close()
            disk.disk, disk.drive = self._opened(drive), drive
        if is_active(current):
            self.note_files(vm)
        return self.vms[str(vm.id)]

    def note_files(self, vm: VmRecord) -> None:
        """Remember which files a running VM has open, after its disks have changed."""
        files = tuple(p for d in vm_drives(self.vms[str(vm.id)]) for p in self._vhds.chain(d.path))
        self._set(vm, open_files=files)


def _place(drive: DriveRecord) -> tuple[str, int, int]:
    return drive.controller_type, drive.controller_number, drive.controller_location


def vm_drives(vm: VmRecord) -> list[DriveRecord]:
    """A VM's drives that are files."""
    return [d for d in vm.drives if d.path]


def sorted_drives(vm: VmRecord) -> list[DriveRecord]:
    """A VM's drives in the order in which it finds them: IDE before SCSI, then by place."""
    return sorted(vm.drives, key=lambda d: (d.controller_type != "IDE", d.controller_number, d.controller_location))
