"""Names of VMs: people tell VMs apart by them, Hyper-V does not, and some of its cmdlets take nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from smhvlab.errors import NotFound, NotUnique

if TYPE_CHECKING:
    from smhvlab.hyperv import Vm

_WILDCARD = re.compile(r"[*?\[\]]")


def is_pattern(name: str) -> bool:
    """Whether Hyper-V's cmdlets take the name for a pattern."""
    return bool(_WILDCARD.search(name))


def one_named(name: str, vms: Iterable[Vm]) -> Vm:
    """The VM of a name among these. Raises NotFound, NotUnique."""
    matches = [vm for vm in vms if vm.name.casefold() == name.casefold()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise NotUnique(
            f"{len(matches)} VMs are named {name}",
            next_action="Rename all but one of them: SMHV tells VMs apart by id, people do not.",
            tr="5.2",
        )
    raise NotFound(f"There is no VM {name}", next_action="List the VMs with site.vms().", tr="5.2")


def alone(name: str, vms: Iterable[Vm]) -> str:
    """The name, for cmdlets that take no id: as a pattern, which it is to them, it stands for one of these VMs.

    Raises NotFound, NotUnique.
    """
    known = list(vms)
    vm = one_named(name, known)
    pattern = name.casefold()
    if others := [one.name for one in known if one.id != vm.id and fnmatchcase(one.name.casefold(), pattern)]:
        raise NotUnique(
            f"{name} stands for {', '.join(others)} too: Hyper-V's cmdlets take it as a pattern",
            next_action="Rename the VM: leave * ? and [ ] out of its name.",
            tr="5.2",
        )
    return vm.name
