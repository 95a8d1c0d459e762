"""Checkpoints: chains of differencing disks, made, applied and merged."""

from __future__ import annotations

import ntpath
from dataclasses import replace
from itertools import pairwise
from uuid import UUID

from labenv.clock import Clock
from labenv.costs import Costs
from labenv.devices import DeviceError
from labenv.guest.errors import GuestError
from labenv.guest.guest import Guest
from labenv.ids import Ids
from labenv.windows import events as log
from labenv.windows.call import PsError
from labenv.windows.disks.errors import FileSystemError
from labenv.windows.disks.virtualdisk import VhdType, merge, open_vhd
from labenv.windows.errors import FileProblem, hyperv
from labenv.windows.events import Events
from labenv.windows.files import GIB, Files, windows_errors
from labenv.windows.machines import Machines, VmNotRunning
from labenv.windows.records import DriveRecord, MergeRecord, SnapshotRecord, VmRecord
from labenv.windows.vhds import VirtualDisks
from labenv.windows.vmconfig import is_active, is_moving, portable
from labenv.windows.vss.quiesce import leave_consistent

_NO_PART = (VmNotRunning, GuestError, DeviceError, FileSystemError)
"""Why a guest cannot take part in a production checkpoint."""


class Checkpoints:
    """Checkpoints of the VMs of one host. Failures are ``PsError`` or ``FileProblem``.

    A checkpoint keeps the VM's configuration and the files that its drives had; the VM goes on with a new leaf over
    each. Whether the files hold what the applications had written depends on how it was made, and the record says so.
    """

    def __init__(
        self,
        *,
        machines: Machines,
        files: Files,
        vhds: VirtualDisks,
        events: Events,
        clock: Clock,
        ids: Ids,
        costs: Costs,
        host: str,
    ) -> None:
        self._machines = machines
        self._files = files
        self._vhds = vhds
        self._events = events
        self._clock = clock
        self._ids = ids
        self._costs = costs
        self._host = host

    # -- making ------------------------------------------------------------------------------------------------

    async def create(self, vm: VmRecord, name: str) -> SnapshotRecord:
        """Make a checkpoint of the VM's type; takes ``windows.vm.checkpoint``.

        ``ProductionOnly`` fails where the guest cannot take part; ``Production`` silently makes a standard one.
        """
        if vm.checkpoint_type == "Disabled":
            raise hyperv("OperationFailed", f"Checkpoint operation failed. Checkpoints are disabled for '{vm.name}'.")
        if vm.state not in ("Running", "Off", "Saved") or is_moving(vm):
            doing = "being moved" if is_moving(vm) else vm.state
            text = f"Checkpoint operation for '{vm.name}' failed: the virtual machine is {doing}."
            raise hyperv("InvalidState", text, target=vm.name)
        self._machines.mark(vm, "CreatingSnapshot")
        try:
            await self._clock.sleep(max(1.0, self._costs["windows.vm.checkpoint"]))
            return self._create(self._machines.vms[str(vm.id)], name)
        finally:
            self._machines.mark(vm, "")

    async def create_recovery(self, vm: VmRecord, *, consistent: bool) -> SnapshotRecord:
        """Make the checkpoint of a backup (type Recovery); takes ``windows.vm.checkpoint``.

        With ``consistent`` its guest takes part, and an error is raised if it cannot; else the disks hold crash state.
        """
        self._machines.mark(vm, "CreatingSnapshot")
        try:
            await self._clock.sleep(max(1.0, self._costs["windows.vm.checkpoint"]))
            vm = self._machines.vms[str(vm.id)]
            name = f"{vm.name} - Backup - ({self._clock.time:%m/%d/%Y - %H:%M:%S})"
            if not consistent:
                return self._cut(vm, name, "crash", kind="Recovery")
            try:
                return self._production(vm, self._machines.guest(vm), name, kind="Recovery")
            except _NO_PART as error:
                raise self._no_production(vm) from error
        finally:
            self._machines.mark(vm, "")

    def _create(self, vm: VmRecord, name: str) -> SnapshotRecord:
        if vm.state != "Running":
            return self._cut(vm, name, "application" if vm.state == "Off" else "saved")
        try:
            guest = self._machines.guest(vm)
        except VmNotRunning:
            guest = None
        if guest is not None and vm.checkpoint_type != "Standard" and "VSS" not in vm.disabled_services:
            try:
                return self._production(vm, guest, name)
            except _NO_PART as error:
                if vm.checkpoint_type == "ProductionOnly":
                    raise self._no_production(vm) from error
        if vm.checkpoint_type == "ProductionOnly":
            raise self._no_production(vm)
        if guest is not None:
            guest.settle()
            guest.flush()  # stands for the memory image that a standard checkpoint keeps
        return self._cut(vm, name, "saved")

    def _production(self, vm: VmRecord, guest: Guest, name: str, *, kind: str = "Standard") -> SnapshotRecord:
        """Cut while the guest's writers are frozen; what is below the new leaves needs no recovery."""
        guest.freeze()
        try:
            put_back = leave_consistent(
                guest,
                self._machines.running[vm.id].disks,
                vm_id=vm.id,
                now=lambda: self._clock.time,
                seed=self._ids.seed,
            )
            try:
                return self._cut(vm, name, "application", kind=kind)
            finally:
                put_back()
        finally:
            guest.thaw()

    def _no_production(self, vm: VmRecord) -> PsError:
        text = f"Production checkpoints cannot be created for '{vm.name}'. (Virtual machine ID {str(vm.id).upper()})"
        self._events.write(log.VMMS_ADMIN, log.VMMS, 18014, text, level=log.ERROR, values=(vm.name, str(vm.id).upper()))
        return hyperv("OperationFailed", f"Checkpoint operation failed. {text}", target=vm.name)

    def _cut(self, vm: VmRecord, name: str, consistency: str, *, kind: str = "Standard") -> SnapshotRecord:
        snapshot = SnapshotRecord(
            id=self._ids.uuid("checkpoint", self._host, str(vm.id)),
            vm=vm.id,
            name=name,
            created=self._clock.time,
            kind=kind,
            consistency=consistency,
            parent=vm.parent_snapshot,
            configuration=portable(vm),
        )
        made: list[str] = []
        try:
            drives = tuple(self._leaf(drive, made) for drive in vm.drives)
        except BaseException:
            for path in made:
                self._files.remove(path)
            raise
        self._machines.configurations.write_snapshot(snapshot)
        self._machines.snapshots[str(snapshot.id)] = snapshot
        self._machines.switch_drives(vm, drives, parent=snapshot.id)
        return snapshot

    def _leaf(self, drive: DriveRecord, made: list[str]) -> DriveRecord:
        if not drive.path:
            raise hyperv("OperationFailed", "Checkpoints are not possible with pass-through disks.")
        stem, extension = ntpath.splitext(drive.path)
        identifier = self._ids.uuid("leaf", self._host, drive.path.lower())
        stem = stem.rsplit("_", 1)[0] if extension.lower().startswith(".av") else stem
        path = f"{stem}_{str(identifier).upper()}{'.avhd' if extension.lower().endswith('vhd') else '.avhdx'}"
        self._vhds.create(path, kind=VhdType.DIFFERENCING, size=0, identifier=identifier, parent=drive.path)
        made.append(path)
        return replace(drive, path=path)

    # -- applying ----------------------------------------------------------------------------------------------

    async def apply(self, snapshot: SnapshotRecord) -> VmRecord:
        """Bring a VM back to a checkpoint; what it has written since is dropped. A running VM is turned off first."""
        vm = self._machines.vms[str(snapshot.vm)]
        if is_active(vm):
            await self._machines.turn_off(vm)
        await self._clock.sleep(max(1.0, self._costs["windows.vm.checkpoint"]))
        vm = self._machines.vms[str(snapshot.vm)]
        old = [d.path for d in vm.drives if d.path]
        made: list[str] = []
        drives = tuple(self._leaf(drive, made) for drive in snapshot.configuration.drives)
        state = "Saved" if snapshot.consistency == "saved" else "Off"
        restored = replace(
            snapshot.configuration,
            name=vm.name,
            path=vm.path,
            snapshot_path=vm.snapshot_path,
            drives=drives,
            parent_snapshot=snapshot.id,
            state=state,
        )
        self._machines.put(restored)
        for path in old:
            if not self._used(path):
                self._files.remove(path)
        return restored

    def _used(self, path: str) -> bool:
        """Whether a checkpoint or a VM needs a file, or it is not a checkpoint's file at all."""
        if not ntpath.splitext(path)[1].lower().startswith(".av") or not self._files.exists(path):
            return True
        key = self._files.key(path)
        configurations = [*self._machines.vms.values(), *(s.configuration for s in self._machines.snapshots.values())]
        for vm in configurations:
            for drive in vm.drives:
                try:
                    if drive.path and key in (self._files.key(p) for p in self._vhds.chain(drive.path)):
                        return True
                except FileProblem:
                    continue
        return False

    # -- deleting ----------------------------------------------------------------------------------------------

    def remove(self, snapshot: SnapshotRecord) -> None:
        """Delete a checkpoint. Its disks are merged with those of what was made after it, if that is only one thing.

        The merge goes on by itself afterwards; the VM shows ``MergingDisks`` until it is done.
        """
        vm = self._machines.vms[str(snapshot.vm)]
        later = [s for s in self._machines.snapshots_of(vm) if s.parent == snapshot.id]
        live = vm.parent_snapshot == snapshot.id
        self._machines.configurations.remove_snapshot(snapshot)
        del self._machines.snapshots[str(snapshot.id)]
        for child in later:
            self._update(replace(child, parent=snapshot.parent))
        if live:
            vm = self._machines.put(replace(vm, parent_snapshot=snapshot.parent))
        if not later and not live:
            self._drop_files(snapshot)
        elif live and not later:
            self._queue(vm, snapshot)
        elif len(later) == 1 and not live:
            self._merge_into(later[0], snapshot)

    def _update(self, snapshot: SnapshotRecord) -> None:
        self._machines.snapshots[str(snapshot.id)] = snapshot
        self._machines.configurations.write_snapshot(snapshot)

    def _drop_files(self, snapshot: SnapshotRecord) -> None:
        for drive in snapshot.configuration.drives:
            if not self._used(drive.path):
                self._files.remove(drive.path)

    def _queue(self, vm: VmRecord, snapshot: SnapshotRecord) -> None:
        parents = {_place(d): d.path for d in snapshot.configuration.drives}
        merges = []
        for drive in vm.drives:
            parent = parents.get(_place(drive))
            if parent is not None and self._is_parent(drive.path, parent):
                merges.append(MergeRecord(drive.path, parent))
        self._machines.set_merges(vm, (*vm.merges, *merges))

    def _is_parent(self, leaf: str, parent: str) -> bool:
        try:
            found = self._vhds.parent(leaf, self._vhds.info(leaf))
            return found is not None and self._files.key(found) == self._files.key(parent)
        except FileProblem:
            return False

    async def run_merges(self, vm_id: UUID) -> None:
        """Do what ``remove`` queued for a VM, in lab time by the size of the leaves."""
        vm = self._machines.get(vm_id)
        if vm is None or not vm.merges:
            return
        size = sum(self._files.stat(m.leaf).size for m in vm.merges if self._files.exists(m.leaf))
        await self._clock.sleep(max(1.0, size / GIB * self._costs["windows.copy_gib"]))
        self.finish_merges(vm_id)

    def finish_merges(self, vm_id: UUID) -> None:
        """Merge every queued leaf now. A leaf that cannot be merged stays where it is, and the VM goes on with it."""
        vm = self._machines.get(vm_id)
        if vm is None:
            return
        for item in vm.merges:
            vm = self._machines.vms[str(vm_id)]
            try:
                self._machines.let_go(vm, item.leaf)
                self._merge(item.leaf, item.parent)
                drives = tuple(replace(d, path=item.parent) if d.path == item.leaf else d for d in vm.drives)
                self._machines.switch_drives(vm, drives, parent=vm.parent_snapshot)
                self._files.remove(item.leaf)
            except FileProblem as error:
                text = f"Background disk merge failed for '{vm.name}': {error.message}"
                self._events.write(log.VMMS_ADMIN, log.VMMS, 19100, text, level=log.ERROR, values=(vm.name,))
                self._machines.switch_drives(vm, vm.drives, parent=vm.parent_snapshot)
        if vm.merges:
            self._machines.set_merges(self._machines.vms[str(vm_id)], ())

    def _merge_into(self, child: SnapshotRecord, removed: SnapshotRecord) -> None:
        """Merge the files of a checkpoint that has no live leaf into those of the removed one below it."""
        parents = {_place(d): d.path for d in removed.configuration.drives}
        drives = []
        merged = []
        for drive in child.configuration.drives:
            parent = parents.get(_place(drive))
            if parent is None or not self._is_parent(drive.path, parent):
                drives.append(drive)
                continue
            above = self._children(drive.path)
            self._merge(drive.path, parent)
            for path in above:
                self._vhds.relink(path, parent)
            merged.append(drive.path)
            drives.append(replace(drive, path=parent))
        self._update(
            replace(child, parent=removed.parent, configuration=replace(child.configuration, drives=tuple(drives)))
        )
        vm = self._machines.vms[str(child.vm)]
        self._machines.switch_drives(vm, vm.drives, parent=vm.parent_snapshot)
        for path in merged:
            self._files.remove(path)

    def _children(self, path: str) -> list[str]:
        key = self._files.key(path)
        found = []
        configurations = [*self._machines.vms.values(), *(s.configuration for s in self._machines.snapshots.values())]
        for vm in configurations:
            for drive in vm.drives:
                chain = self._vhds.chain(drive.path) if drive.path and self._files.exists(drive.path) else ()
                for leaf, parent in pairwise(chain):
                    if self._files.key(parent) == key and leaf not in found:
                        found.append(leaf)
        return found

    def _merge(self, leaf: str, parent: str) -> None:
        below = self._vhds.open(parent)
        try:
            file = self._files.open(leaf)
            try:
                with windows_errors(leaf):
                    merge(open_vhd(file, parent=below.device, read_only=True), below.device)
                    below.device.flush()
            finally:
                file.close()
        finally:
            below.close()


def _place(drive: DriveRecord) -> tuple[str, int, int]:
    return drive.controller_type, drive.controller_number, drive.controller_location
