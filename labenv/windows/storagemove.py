"""Storage migration: a VM's files go to another place while it runs."""

from __future__ import annotations

import ntpath
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from labenv.windows.errors import FileProblem
from labenv.windows.files import Files
from labenv.windows.machines import Machines
from labenv.windows.records import DriveRecord, VmRecord
from labenv.windows.vhds import VirtualDisks
from labenv.windows.volumes import full_path

PHASE_ONE = "StorageMigrationPhaseOne"
PHASE_TWO = "StorageMigrationPhaseTwo"
_PASSES = 4


class StorageMove:
    """Moves the files of VMs of one host. Failures are ``FileProblem``; then everything is as it was."""

    def __init__(self, *, machines: Machines, files: Files, vhds: VirtualDisks) -> None:
        self._machines = machines
        self._files = files
        self._vhds = vhds

    def chains(self, vm: VmRecord) -> list[str]:
        """Every virtual disk file that a VM or one of its checkpoints needs, parents before their children."""
        found: list[str] = []
        for owner in (*(s.configuration for s in self._machines.snapshots_of(vm)), vm):
            for drive in owner.drives:
                for path in reversed(self._vhds.chain(drive.path) if drive.path else ()):
                    if full_path(path) not in found:
                        found.append(full_path(path))
        return found

    async def move(
        self,
        vm: VmRecord,
        targets: Mapping[str, str],
        *,
        path: str | None = None,
        snapshot_path: str | None = None,
        keep: bool = False,
    ) -> VmRecord:
        """Move a VM's files in lab time (``windows.copy_gib``); it runs on, and goes on with the new ones.

        ``targets``: old file -> new file; ``path`` and ``snapshot_path``: where its configuration goes; ``keep``: the
        old virtual disks stay.
        """
        sources = [source for source in self.chains(vm) if full_path(source) in targets]
        for source in sources:
            if self._files.exists(targets[source]):
                raise FileProblem(0x80070050, f"The file '{targets[source]}' exists.")
        made: list[str] = []
        seen = self._written(vm)
        self._machines.mark(vm, PHASE_ONE)
        try:
            for source in sources:
                self._files.mkdir(ntpath.dirname(targets[source]))
                made.append(targets[source])
                await self._files.copy(source, targets[source], shared=True)
            self._machines.mark(vm, PHASE_TWO)
            await self._catch_up(vm, targets, seen)
        except BaseException:
            for copy in made:
                with suppress(FileProblem):
                    self._files.remove(copy)
            self._machines.mark(vm, "")
            raise
        moved = self._switch(self._machines.vms[str(vm.id)], targets, path=path, snapshot_path=snapshot_path)
        for source in () if keep else reversed(sources):
            with suppress(FileProblem):
                self._files.remove(source)
        return moved

    async def _catch_up(self, vm: VmRecord, targets: Mapping[str, str], seen: dict[str, int]) -> None:
        """Copy again what the VM has written meanwhile, until nothing has changed."""
        for _ in range(_PASSES):
            changed = [(leaf, count) for leaf, count in self._written(vm).items() if count != seen.get(leaf, 0)]
            if not changed:
                return
            for leaf, count in changed:
                seen[leaf] = count
                if leaf in targets:
                    await self._files.copy(leaf, targets[leaf], shared=True)
        raise FileProblem(0x80070021, f"'{vm.name}' writes faster than its disks can be moved.")

    def _written(self, vm: VmRecord) -> dict[str, int]:
        running = self._machines.running.get(vm.id)
        disks = running.disks if running is not None else []
        return {full_path(d.drive.path): d.writes for d in disks if d.drive.path}

    def _switch(
        self, vm: VmRecord, targets: Mapping[str, str], *, path: str | None, snapshot_path: str | None
    ) -> VmRecord:
        for source, target in targets.items():
            parent = self._parent(source)
            if parent is not None and parent in targets:
                self._vhds.set_parent(target, targets[parent])

        def moved(drive: DriveRecord) -> DriveRecord:
            return replace(drive, path=targets.get(full_path(drive.path), drive.path)) if drive.path else drive

        machines = self._machines
        old = vm
        for snapshot in machines.snapshots_of(vm):
            machines.configurations.remove_snapshot(snapshot)
            configuration = replace(
                snapshot.configuration,
                drives=tuple(moved(d) for d in snapshot.configuration.drives),
                path=path or snapshot.configuration.path,
                snapshot_path=snapshot_path or snapshot.configuration.snapshot_path,
            )
            changed = replace(snapshot, configuration=configuration)
            machines.snapshots[str(snapshot.id)] = changed
            machines.configurations.write_snapshot(changed)
        placed = replace(vm, path=path or vm.path, snapshot_path=snapshot_path or vm.snapshot_path, status="")
        machines.put(placed)
        if machines.configurations.path(placed) != machines.configurations.path(old):
            machines.configurations.remove(old)
            if placed.open_files or placed.state == "Saved":
                machines.configurations.write_runtime(placed)
        return machines.switch_drives(placed, tuple(moved(d) for d in placed.drives), parent=placed.parent_snapshot)

    def _parent(self, path: str) -> str | None:
        try:
            parent = self._vhds.parent(path, self._vhds.info(path))
        except FileProblem:
            return None
        return full_path(parent) if parent is not None else None
