"""Whether this program runs inside a VM that it is asked to restore: it would switch itself off (TR appendix)."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from smhvlab.errors import NotAllowed
from smhvlab.hyperv import Vm
from smhvlab.nodes import Node

_ADAPTERS = Path("/sys/class/net")


def own_addresses() -> set[str]:
    """The hardware addresses of this machine, as twelve upper-case digits."""
    found = {f"{uuid.getnode():012X}"}
    if _ADAPTERS.is_dir():  # elsewhere the one that uuid finds has to do
        found |= {_plain(path.read_text("ascii")) for path in _ADAPTERS.glob("*/address")}
    return found - {"0" * 12, ""}


def need_elsewhere(node: Node, vm: Vm) -> None:
    """This program does not run in that VM. Raises NotAllowed if it does."""
    adapters = node.host.run("Get-VMNetworkAdapter", {"VMName": "*"}, select=("VMId", "MacAddress"))
    mine = own_addresses()
    for adapter in adapters:
        if str(adapter["VMId"]) == vm.id and _plain(str(adapter["MacAddress"] or "")) in mine:
            raise NotAllowed(
                f"This program runs inside the VM {vm.name}",
                next_action="Restore it from another computer: a VM must not manage the host that runs it.",
                why="a restore switches the VM off and removes it first",
                tr="Appendix",
            )


def _plain(address: str) -> str:
    return re.sub(r"[^0-9A-F]", "", address.strip().upper())
