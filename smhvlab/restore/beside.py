"""What else is at work on a VM that shall be restored, from this station or another (TR 6.2, 6.7).

Other stations' journals are out of reach. A restore is announced in SnapInfo; a backup shows by what it has for as long
as it works: its writers' metadata without a record, DiskShadow's script on a host, a checkpoint named after it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from smhvlab.backup.refusals import CHECKPOINTS
from smhvlab.doctor import Unfinished
from smhvlab.errors import NotAllowed
from smhvlab.hyperv import Vm
from smhvlab.restore.announced import Announced
from smhvlab.snapinfo import BackupVm
from smhvlab.tables import Tools
from smhvlab.wires.wave import collect

_NAME = r"(?P<name>(?P<dataset>[A-Za-z0-9_-]+)_\d\d-\d\d-\d{4}_\d\d\.\d\d\.\d\d)"
_METADATA = re.compile(rf"{_NAME}\.(?P<host>[^\\]+)\.(?:txt|cab)\Z")
_SCRIPT = re.compile(rf"smhvlab_{_NAME}(?:_[^\\]*)?\.dsh\Z")
_CHECKPOINT = re.compile(rf"{CHECKPOINTS}{_NAME}(?:_.*)?\Z")
_TEMPORARY = "C:\\Windows\\Temp"


def need_no_restore(vm: BackupVm, announced: Sequence[Announced], own: Sequence[Unfinished], *, seat: str) -> None:
    """Nobody has announced a restore of the VM. Raises NotAllowed; ``own``: unfinished runs of this seat."""
    for one in announced:
        if one.vm != vm.id:
            continue
        for run in own:
            if one.seat == seat and run.run == one.run and not run.alive:
                raise NotAllowed(
                    f"A restore of {vm.name} was interrupted at {run.step or 'its start'}",
                    next_action=f"smhvlab doctor --{run.allowed[0]} {run.run}, then try again."
                    if run.allowed
                    else "Look at it with smhvlab doctor.",
                    tr="6.7",
                )
        raise one.refusal("a VM can be restored by one run at a time", tr="6.7")


def need_no_backup(tools: Tools, vm: BackupVm, now: Vm | None, listed: Sequence[str]) -> None:
    """No station makes a backup of the VM now; ``listed``: the files of SnapInfo. Raises NotAllowed."""
    signs = [*_unregistered(listed, {name.casefold() for name in tools.nodes.names}), *_scripts(tools)]
    members: dict[str, set[str]] = {}
    if signs:
        members = {d.name.casefold(): {member.id for member in d.members} for d in tools.snapinfo.datasets()}
    for match, path in signs:
        if vm.id in members.get(match["dataset"].casefold(), ()):
            raise _under_way(vm, match["name"], path, f"delete {path}")
    for name in now.checkpoint_names if now is not None else ():
        if checkpoint := _CHECKPOINT.match(name):
            raise _under_way(
                vm, checkpoint["name"], f"the checkpoint {name}", "remove the checkpoint (Remove-VMSnapshot)"
            )


def _unregistered(listed: Sequence[str], hosts: Collection[str]) -> Iterator[tuple[re.Match[str], str]]:
    """Metadata of these hosts, of backups without a record, which comes last. Mirrored metadata counts for nothing."""
    known = {path.removesuffix(".json") for path in listed if path.endswith(".json")}
    for path in listed:
        folder, _, leaf = path.rpartition("\\")
        match = _METADATA.match(leaf)
        if match and match["host"].casefold() in hosts and f"{folder}\\{match['name']}" not in known:
            yield match, path


def _scripts(tools: Tools) -> Iterator[tuple[re.Match[str], str]]:
    wanted = {"LiteralPath": _TEMPORARY, "Filter": "smhvlab_*.dsh", "File": True}
    nodes = tools.nodes.up()
    select = ("FullName",)
    answers = collect(n.host.begin("Get-ChildItem", wanted, select=select, error_action="Continue") for n in nodes)
    for node, records in zip(nodes, answers, strict=True):
        for record in records:
            path = str(record["FullName"])
            if match := _SCRIPT.match(path.rpartition("\\")[2]):
                yield match, f"{path} on {node.name}"


def _under_way(vm: BackupVm, name: str, sign: str, remedy: str) -> NotAllowed:
    return NotAllowed(
        f"A backup of {vm.name} is under way: {name}",
        next_action="Wait for its end. If it was interrupted: smhvlab doctor on the station that began it; if nobody "
        f"will ever do that, {remedy}.",
        why=f"{sign} is there only while it is made; what is restored under it would be neither the one nor the other",
        tr="6.2, 6.7",
    )
