"""Virtual switches that VMs know by name, and that the host where they are registered may lack (TR 8).

Hyper-V registers no VM whose switch is missing. Which switches a VM knows is in its configuration: on the site where it
is registered, or in the LUN once that is connected.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from smhvlab.errors import NotAllowed, PowerShellError
from smhvlab.nodes import Node, Nodes
from smhvlab.snapinfo import BackupVm
from smhvlab.wires.wave import collect

NO_SWITCH = 33012
"""What Compare-VM calls it that a virtual switch is not there."""

_QUOTED = re.compile(r"['\"‘“„«]([^'\"’”“»]+)['\"’”“»]")  # the name; the words around it are in the host's language
_WAVE = 10


def switches(node: Node) -> set[str]:
    """Names of a host's virtual switches."""
    return {str(record["Name"]) for record in node.host.run("Get-VMSwitch", select=("Name",))}


def known_switches(nodes: Nodes, vms: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The virtual switches that registered VMs, given by their ids, are connected to; one request on each host."""
    wanted = {"VMName": "*"}
    answers = collect(
        node.host.begin("Get-VMNetworkAdapter", wanted, select=("VMId", "SwitchName")) for node in nodes.up()
    )
    found: dict[str, set[str]] = {}
    for record in (record for records in answers for record in records):
        if str(record["VMId"]) in vms and record["SwitchName"]:
            found.setdefault(str(record["VMId"]), set()).add(str(record["SwitchName"]))
    return {vm: tuple(sorted(names)) for vm, names in found.items()}


def missing_switches(node: Node, configurations: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The virtual switches that the VMs of these configuration files need and a host lacks, by the VM's id.

    Raises:
        PowerShellError: a file cannot be read.
    """
    found = {}
    ids = tuple(configurations)
    for part in (ids[start : start + _WAVE] for start in range(0, len(ids), _WAVE)):
        reports = collect(
            node.host.begin("Compare-VM", {"Path": configurations[vm]}, select=("Incompatibilities",)) for vm in part
        )
        for vm, report in zip(part, reports, strict=True):
            misfits = (misfit for record in report for misfit in record["Incompatibilities"] or ())
            texts = [str(misfit["Message"]) for misfit in misfits if int(misfit["MessageId"]) == NO_SWITCH]
            if texts:
                found[vm] = tuple(dict.fromkeys(_named(text) for text in texts))
    return found


def _named(text: str) -> str:
    quoted = _QUOTED.search(text)
    return quoted[1] if quoted else text


def register_all_possible(node: Node, configurations: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Register VMs in place; those whose virtual switch is missing are left out, and told with its name.

    Raises:
        PowerShellError: a VM cannot be registered for another reason.
    """
    try:
        node.hyperv.ensure_all_registered(configurations)
    except PowerShellError:
        here = {vm.id for vm in node.hyperv.vms()}
        missing = missing_switches(node, {vm: path for vm, path in configurations.items() if vm not in here})
        if not missing:
            raise
        node.hyperv.ensure_all_registered({vm: path for vm, path in configurations.items() if vm not in missing})
        return missing
    return {}


def told_missing(vms: Iterable[BackupVm], missing: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Which VM needs which switch."""
    return tuple(f"{vm.name} needs {', '.join(map(repr, missing[vm.id]))}" for vm in vms if vm.id in missing)


def refuse_missing(node: Node, vms: Iterable[BackupVm], missing: Mapping[str, Sequence[str]]) -> None:
    """Raise NotAllowed for VMs that could not be registered."""
    if not missing:
        return
    names = sorted({name for lacked in missing.values() for name in lacked})
    raise NotAllowed(
        f"{node.name} lacks virtual switches; not registered: {'; '.join(told_missing(vms, missing))}",
        why="Hyper-V registers no VM whose virtual switch is not there; all other VMs are at work",
        next_action=f"Make the switch there (New-VMSwitch -Name {names[0]!r}), or give one this name "
        "(Rename-VMSwitch); then resume this run (smhvlab doctor).",
        tr="8/FO4-6",
    )


# --- switches for a while


def ensure_lent(node: Node, names: Iterable[str], *, mark: str) -> None:
    """Switches of these names are there, isolated, and marked as made for a while."""
    present = switches(node)
    for name in names:
        if name not in present:
            node.host.run("New-VMSwitch", {"Name": name, "SwitchType": "Internal", "Notes": mark})


def discard_lent(node: Node, names: Iterable[str], *, mark: str) -> None:
    """Of these switches those are gone that ``ensure_lent`` has made; one that somebody else made since stays."""
    records = node.host.run("Get-VMSwitch", select=("Name", "Notes"))
    made = {str(record["Name"]) for record in records if str(record["Notes"] or "") == mark}
    for name in names:
        if name in made:
            node.host.run("Remove-VMSwitch", {"Name": name, "Force": True})
