"""The VMs that are registered on a host, and their configuration files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from uuid import UUID

from labenv.ids import Ids
from labenv.state import State
from labenv.windows import events as log
from labenv.windows.events import Events
from labenv.windows.files import Files
from labenv.windows.records import AdapterRecord, MergeRecord, SnapshotRecord, SwitchRecord, VmRecord
from labenv.windows.spec import HostSpec
from labenv.windows.vmconfig import Configurations, is_active, portable


class VmRegistry:
    """VMs, checkpoints and switches by id. A changed configuration goes to the record and to the file in its folder."""

    def __init__(self, *, spec: HostSpec, state: State, ids: Ids, files: Files, events: Events) -> None:
        self._spec = spec
        self._ids = ids
        self._events = events
        self.configurations = Configurations(spec=spec, files=files)
        self.vms = state.table(f"windows.{spec.name}.vm", VmRecord)
        self.snapshots = state.table(f"windows.{spec.name}.snapshot", SnapshotRecord)
        self.switches = state.table(f"windows.{spec.name}.switch", SwitchRecord)
        files.holders.append(self.open_files)

    # -- finding -----------------------------------------------------------------------------------------------

    def get(self, vm_id: UUID) -> VmRecord | None:
        """The VM of an id."""
        return self.vms.get(str(vm_id))

    def named(self, pattern: str) -> list[VmRecord]:
        """VMs whose name matches a pattern (``*``, ``?``, case does not matter), in the order of their names."""
        wanted = pattern.lower()
        found = [v for v in self.vms.values() if v.name.lower() == wanted or fnmatchcase(v.name.lower(), wanted)]
        return sorted(found, key=lambda v: (v.name.lower(), str(v.id)))

    def open_files(self) -> Iterator[str]:
        """Every virtual disk file that an active VM has open."""
        for vm in self.vms.values():
            if is_active(vm):
                yield from vm.open_files

    # -- configuration -----------------------------------------------------------------------------------------

    def put(self, vm: VmRecord) -> VmRecord:
        """Register a VM or change it; the file follows if anything in it changed."""
        old = self.vms.get(str(vm.id))
        if old is None or portable(old) != portable(vm):
            self.configurations.write(vm)
        self.vms[str(vm.id)] = vm
        return vm

    def _set(self, vm: VmRecord, **changes: object) -> VmRecord:
        """Change what the configuration file does not hold, or what must change even if the file is out of reach."""
        current = self.vms[str(vm.id)]
        changed = replace(current, **changes)  # type: ignore[arg-type]  # names come from this class
        self.vms[str(vm.id)] = changed
        return changed

    def create(self, vm: VmRecord) -> VmRecord:
        """Register a new VM with its files."""
        self.configurations.write(vm)
        if self._spec.configuration_extension != ".xml":
            self.configurations.write_runtime(vm)
        self.vms[str(vm.id)] = vm
        self._log(13002, f"The virtual machine '{vm.name}' was created. (Virtual machine ID {shown_id(vm)})", vm)
        return vm

    def adopt(self, vm: VmRecord) -> VmRecord:
        """Register a VM where its files are, with the checkpoints that lie there."""
        self.put(vm)
        for snapshot in self.configurations.snapshots(vm):
            self.snapshots[str(snapshot.id)] = snapshot
        self._log(18304, f"The virtual machine '{vm.name}' was realized. (Virtual machine ID {shown_id(vm)})", vm)
        return vm

    def remove(self, vm: VmRecord) -> None:
        """Unregister a VM and delete its configuration; its virtual disks stay."""
        for snapshot in self.snapshots_of(vm):
            self.configurations.remove_snapshot(snapshot)
            del self.snapshots[str(snapshot.id)]
        self.configurations.remove(vm)
        del self.vms[str(vm.id)]
        self._log(13003, f"The virtual machine '{vm.name}' was deleted. (Virtual machine ID {shown_id(vm)})", vm)

    def snapshots_of(self, vm: VmRecord) -> list[SnapshotRecord]:
        """A VM's checkpoints, oldest first."""
        return [s for s in self.snapshots.values() if s.vm == vm.id]

    def new_adapter(self, vm_id: UUID, *, name: str = "Network Adapter", switch: str = "") -> AdapterRecord:
        """A network adapter with a MAC address of its own."""
        digest = self._ids.digest("mac", self._spec.name, str(vm_id))
        return AdapterRecord(name, "00155D" + digest[:3].hex().upper(), switch)

    def switch(self, name: str) -> SwitchRecord | None:
        """The virtual switch of a name."""
        return next((s for s in self.switches.values() if s.name.lower() == name.lower()), None)

    def mark(self, vm: VmRecord, status: str) -> None:
        """Show what is being done to a VM; empty: nothing."""
        if str(vm.id) in self.vms:
            self._set(vm, status=status)

    def set_merges(self, vm: VmRecord, merges: tuple[MergeRecord, ...]) -> None:
        """Remember which leaves have to be merged."""
        self._set(vm, merges=merges, status="MergingDisks" if merges else "")

    def _log(self, event: int, text: str, vm: VmRecord, *, level: int = log.INFORMATION) -> None:
        self._events.write(log.VMMS_ADMIN, log.VMMS, event, text, level=level, values=(vm.name, shown_id(vm)))


def shown_id(vm: VmRecord) -> str:
    """The id as Windows writes it."""
    return str(vm.id).upper()
