"""Datasets: which VMs are backed up together (TR 5.2). A VM may be in several; every version stays readable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smhvlab.errors import NameTaken, NotAllowed
from smhvlab.hyperv import Vm
from smhvlab.protection.policy import Policy
from smhvlab.snapinfo import Dataset, DatasetMember
from smhvlab.tables import Tools
from smhvlab.vmnames import one_named


def create(tools: Tools, name: str, vms: Sequence[str], *, description: str = "") -> Dataset:
    """A new dataset. Raises NotAllowed, NotFound."""
    known = {dataset.name.casefold(): dataset for dataset in tools.snapinfo.every_dataset()}
    former = known.get(name.casefold())
    if former is not None and not former.removed:
        raise NotAllowed(
            f"The dataset {name} exists",
            next_action="Choose another name, or change its members: smhvlab dataset --change, site.change_dataset.",
            tr="5.2",
        )
    version = 0 if former is None else former.version
    return tools.snapinfo.write_dataset(Dataset(name, members(tools, vms), description, version))


def remove(tools: Tools, name: str, *, policies: Sequence[Policy]) -> Dataset:
    """Take a dataset away, by a version that says so. Raises NotAllowed: one of the policies backs it up."""
    present = tools.snapinfo.dataset(name)
    users = [policy.name for policy in policies if policy.dataset.casefold() == present.name.casefold()]
    if users:
        raise NotAllowed(
            f"The dataset {present.name} is backed up by {', '.join(users)}",
            next_action=f"Remove first: {'; '.join(f'smhvlab policy remove {user}' for user in users)}.",
            tr="5.2",
        )
    return tools.snapinfo.write_dataset(replace(present, removed=True))


def change(
    tools: Tools, name: str, vms: Sequence[str] | None, *, description: str | None = None, version: int | None = None
) -> Dataset:
    """The next version of a dataset.

    Args:
        vms: its VMs; None: those that it has.
        description: None: that which it has.
        version: that which the change was made from; None: the present one.

    Raises:
        NotFound: there is no such dataset, or no such VM.
        NotAllowed: no VM is left.
        NameTaken: somebody has changed it since that version; ``why`` has what theirs says differently.
    """
    present = tools.snapinfo.dataset(name)
    wanted = Dataset(
        present.name,
        present.members if vms is None else members(tools, vms),
        present.description if description is None else description,
        present.version if version is None else version,
    )
    try:
        return tools.snapinfo.write_dataset(wanted)
    except NameTaken as taken:
        theirs = tools.snapinfo.dataset(name)
        raise NameTaken(
            f"Dataset {theirs.name}: version {wanted.version + 1} is there already, written by another console",
            why="; ".join(differences(wanted, theirs)) or "theirs says the same",
            next_action=f"Nothing was overwritten. Look at theirs, and change it again with version={theirs.version} "
            "if yours still holds.",
            tr="5.2",
        ) from taken


def differences(mine: Dataset, theirs: Dataset) -> list[str]:
    """What two versions of a dataset say differently."""
    one, other = ({member.id: member.name for member in dataset.members} for dataset in (mine, theirs))
    found = [f"only yours has {name}" for vm_id, name in one.items() if vm_id not in other]
    found += [f"only theirs has {name}" for vm_id, name in other.items() if vm_id not in one]
    if mine.description != theirs.description:
        found.append(f"description: yours {mine.description!r}, theirs {theirs.description!r}")
    return found


def members(tools: Tools, names: Sequence[str]) -> tuple[DatasetMember, ...]:
    """VMs by name as members. Raises NotAllowed, NotFound, NotUnique."""
    if not names or isinstance(names, str):
        raise NotAllowed(
            "A dataset needs a list of at least one VM", next_action="Name its VMs, e.g. ['sql01'].", tr="5.2"
        )
    everything = tools.nodes.vms()
    found: list[Vm] = [one_named(name, everything) for name in dict.fromkeys(names)]
    return tuple(DatasetMember(vm.id, vm.name) for vm in found)
