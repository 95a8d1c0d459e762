"""Checkpoints of VMs that serve a backup: made of many at once, found by their name, and merged away again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from smhvlab.errors import BackupFailed
from smhvlab.hyperv import MOVING, Vm
from smhvlab.nodes import Node, Nodes
from smhvlab.snapinfo import BackupVm
from smhvlab.vmnames import is_pattern
from smhvlab.wires.powershell import Output, PowerShellWire, Running
from smhvlab.wires.wave import collect, raise_worst

_LOOKS = 720  # five seconds apart, until checkpoints are merged away
Sender = Callable[[PowerShellWire, Sequence[Vm]], Iterator[Running]]


class Checkpoints:
    """Checkpoints on all hosts of a site. VMs are always looked up by id: they may have moved since."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def present(self, vms: Iterable[BackupVm], name: str) -> dict[str, str]:
        """Ids of the checkpoints of that name, by the VM's id; one request on each host."""
        wanted = {vm.id for vm in vms}
        found: dict[str, str] = {}
        for _, records in self._ask("Get-VMSnapshot", {"VMName": "*"}, ("Id", "VMId", "Name")):
            found.update({str(r["VMId"]): str(r["Id"]) for r in records if r["Name"] == name})
        return {vm_id: snapshot for vm_id, snapshot in found.items() if vm_id in wanted}

    def ensure_types(self, kinds: Mapping[str, str]) -> None:
        """Each VM, by id, makes checkpoints of that kind."""
        for kind in sorted(set(kinds.values()) - {""}):

            def send(host: PowerShellWire, vms: Sequence[Vm], kind: str = kind) -> Iterator[Running]:
                return _batch(host, vms, "Set-VM", {"CheckpointType": kind})

            self._wave([vm for vm in self.nodes.vms() if kinds.get(vm.id) == kind != vm.checkpoint_type], send)

    def make(self, vms: Iterable[BackupVm], name: str) -> dict[str, str]:
        """A checkpoint of that name of each VM, in one wave; ids by the VM's id. Those that fail are left out."""
        present = self.present(vms, name)
        wanted = {vm.id for vm in vms} - set(present)

        def send(host: PowerShellWire, chosen: Sequence[Vm]) -> Iterator[Running]:
            return _batch(host, chosen, "Checkpoint-VM", {"SnapshotName": name})

        self._wave([vm for vm in self.nodes.vms() if vm.id in wanted], send, lenient=True)
        return self.present(vms, name)

    def leaves(self, vms: Iterable[BackupVm]) -> dict[str, dict[str, str]]:
        """For each VM's id the file that each disk of it is written to now, by the file that it had before.

        Raises:
            BackupFailed: a disk of a VM has no leaf, or one over something else.
        """
        known = {vm.id: vm for vm in vms}
        now = [vm for vm in self.nodes.vms() if vm.id in known]
        found: dict[str, dict[str, str]] = {}
        for node, mine in self._by_host(now):
            paths = [disk.path for vm in mine for disk in vm.disks if not disk.passthrough]
            infos = node.host.run("Get-VHD", {"Path": paths}, select=("Path", "ParentPath"))
            below = {str(info["Path"]).casefold(): str(info["ParentPath"] or "") for info in infos}
            for vm in mine:
                found[vm.id] = {below[d.path.casefold()]: d.path for d in vm.disks if not d.passthrough}
        for vm_id, then in known.items():
            parents = {path.casefold() for path in found.get(vm_id, {})}
            if strange := [disk.path for disk in then.disks if disk.path.casefold() not in parents]:
                raise BackupFailed(
                    f"{then.name} does not run from a leaf over {strange[0]}",
                    next_action="Somebody has changed the VM's disks or checkpoints meanwhile: take the backup again.",
                    tr="6.2",
                )
        return found

    def discard(self, vms: Sequence[BackupVm], name: str) -> None:
        """No checkpoint of that name is left, and what it held apart is merged. Raises as ``merged``."""
        for _ in self.merged(vms, name):
            pass

    def merged(self, vms: Sequence[BackupVm], name: str) -> Iterator[BackupVm]:
        """Take the checkpoints of that name away; yields each VM as soon as its disks are merged.

        A VM that is being migrated is waited for: Hyper-V takes no checkpoint away from it.

        Raises:
            BackupFailed: after an hour of the site's time it still is not.
        """
        present = self.present(vms, name)
        resting = self._resting(present)

        def send(host: PowerShellWire, chosen: Sequence[Vm]) -> Iterator[Running]:
            for vm in chosen:
                yield host.begin_pair(("Get-VMSnapshot", {"Id": present[vm.id]}), ("Remove-VMSnapshot", {}))

        self._wave(resting, send)
        before = {vm.id: _leaves(disk.path for disk in vm.disks) for vm in vms}
        for look in range(_LOOKS):
            with ExitStack() as polling:
                for host in self.nodes if look else ():
                    polling.enter_context(self.nodes[host].host.polling())
                left = [vm for vm in self.nodes.vms() if vm.id in before and _split(vm, before[vm.id])]
            yield from (vm for vm in vms if vm.id in before and vm.id not in {one.id for one in left})
            before = {vm.id: before[vm.id] for vm in left}
            if not left:
                return
            self.nodes.own().host.sleep(5)
        raise BackupFailed(
            f"The checkpoint of {left[0].name} is not merged away",
            next_action="Look at Get-VMSnapshot and at the free space of its volume; never begin with Merge-VHD.",
            tr="6.2",
        )

    def _resting(self, wanted: Collection[str]) -> list[Vm]:
        """The VMs of these ids, none of which is being migrated. Raises BackupFailed, as ``merged``."""
        for look in range(_LOOKS):
            with ExitStack() as polling:
                for host in self.nodes if look else ():
                    polling.enter_context(self.nodes[host].host.polling())
                found = [vm for vm in self.nodes.vms() if vm.id in wanted]
            moving = [vm for vm in found if vm.doing in MOVING]
            if not moving:
                return found
            self.nodes.own().host.sleep(5)
        raise BackupFailed(
            f"The checkpoint of {moving[0].name} cannot be taken away: it is being migrated ({moving[0].doing})",
            vms=[vm.name for vm in moving],
            next_action="Wait until the migration has ended, then undo this run: smhvlab doctor.",
            tr="6.6",
        )

    # --- waves over the hosts

    def _by_host(self, vms: Sequence[Vm]) -> Iterator[tuple[Node, list[Vm]]]:
        for name in dict.fromkeys(vm.host for vm in vms):
            yield self.nodes[name], [vm for vm in vms if vm.host == name]

    def _wave(self, vms: Sequence[Vm], send: Sender, *, lenient: bool = False) -> None:
        outputs = collect(one for node, mine in self._by_host(vms) for one in send(node.host, mine))
        if not lenient:
            raise_worst(error for output in outputs for error in output.errors)

    def _ask(self, name: str, parameters: Mapping[str, object], fields: Sequence[str]) -> Iterator[tuple[Node, Output]]:
        nodes = self.nodes.up()
        begun = (node.host.begin(name, parameters, select=fields, error_action="Continue") for node in nodes)
        yield from zip(nodes, collect(begun), strict=True)


def _batch(host: PowerShellWire, vms: Sequence[Vm], name: str, parameters: Mapping[str, object]) -> Iterator[Running]:
    """One request for all VMs whose names name nobody else; one by id for each of the others."""
    everybody = [vm.name.casefold() for vm in vms]
    plain = [vm for vm in vms if not is_pattern(vm.name) and everybody.count(vm.name.casefold()) == 1]
    if plain:
        yield host.begin(name, {"Name": [vm.name for vm in plain], **parameters}, error_action="Continue")
    for vm in vms:
        if vm not in plain:
            yield host.begin_pair(("Get-VM", {"Id": vm.id}), (name, parameters), error_action="Continue")


def _split(vm: Vm, before: Counter[str]) -> bool:
    """Whether a VM still is what a checkpoint has made of it."""
    now = _leaves(disk.path for disk in vm.disks if not disk.passthrough)
    return vm.doing == "MergingDisks" or bool(before - now)


def _leaves(paths: Iterable[str]) -> Counter[str]:
    """The files' names without their folders: a storage migration changes these."""
    return Counter(path.casefold().rpartition("\\")[2] for path in paths)
