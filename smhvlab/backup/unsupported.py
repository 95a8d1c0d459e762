"""What Windows Server 2012 brought and SnapManager for Hyper-V does not support (TR 11.8): refused, or reported.

A feature that keeps a VM's data off the LUNs, or hands its disks to somebody else, is refused: such a backup would lack
what it promises. One that only makes work harder for the array is reported in the backup's record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from smhvlab.advisor.facts import FILE_SYSTEM_KEY
from smhvlab.errors import NotAllowed
from smhvlab.hyperv import Vm
from smhvlab.nodes import Node
from smhvlab.wires.wave import collect

_FILE_SERVER_AGENT = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\fssagent"


class Feature(StrEnum):
    """The seven features of the TR's list."""

    HYPERV_OVER_SMB = "Hyper-V over SMB 3.0"
    SMB_SHARES = "SMB over remote file shares"
    REMOTE_VSS = "SMB VSS for remote file shares (remote VSS)"
    VIRTUAL_FIBRE_CHANNEL = "virtual Fibre Channel"
    REPLICA = "Hyper-V Replica"
    NATIVE_THIN_PROVISIONING = "Windows Server 2012 native thin provisioning"
    ODX = "offloaded data transfer (ODX)"


def refuse_features(machines: Iterable[Vm]) -> None:
    """Refuse VMs with files on shares, virtual Fibre Channel or replication. Raises NotAllowed."""
    for vm in machines:
        for feature, what in _of_vm(vm):
            raise NotAllowed(
                f"{vm.name} {what}",
                next_action="Take the VM out of the dataset, or do without that feature for it.",
                why=f"SnapManager for Hyper-V does not support {feature}",
                tr="11.8",
            )


def refuse_share(snapinfo: str) -> None:
    """Refuse SnapInfo on a share. Raises NotAllowed."""
    if _on_share(snapinfo):
        raise NotAllowed(
            f"The SnapInfo folder {snapinfo} is on an SMB share",
            next_action="Put it on a LUN of its own: site.set_snapinfo(...).",
            why=f"SnapManager for Hyper-V does not support {Feature.SMB_SHARES}",
            tr="11.8",
        )


def _of_vm(vm: Vm) -> Iterator[tuple[Feature, str]]:
    for path in (*(disk.path for disk in vm.disks), *vm.parents, vm.configuration):
        if _on_share(path):
            yield Feature.HYPERV_OVER_SMB, f"lies on an SMB share ({path})"
    if _on_share(vm.checkpoints):
        yield Feature.SMB_SHARES, f"keeps its checkpoints on an SMB share ({vm.checkpoints})"
    if vm.fibre_channel:
        yield Feature.VIRTUAL_FIBRE_CHANNEL, "has a virtual Fibre Channel adapter"
    if vm.replicated:
        yield Feature.REPLICA, "is replicated by Hyper-V Replica"


def _on_share(path: str) -> bool:
    return path.startswith("\\\\") and not path.startswith("\\\\?\\Volume{")


def features_in_use(nodes: Sequence[Node]) -> list[str]:
    """Sentences on what hosts of Windows Server 2012 have switched on and should not; one request on each."""
    wanted = {"LiteralPath": [FILE_SYSTEM_KEY, _FILE_SERVER_AGENT]}
    answers = collect(node.host.begin("Get-ItemProperty", wanted, error_action="Continue") for node in nodes)
    found = []
    for node, records in zip(nodes, answers, strict=True):
        values: dict[str, str] = {}
        for record in records:
            values.update({name.casefold(): str(value) for name, value in record.items()})
        if values.get("disabledeletenotification") == "0":
            found.append(
                _report(node, Feature.NATIVE_THIN_PROVISIONING, "DisableDeleteNotification is 0", "set it to 1")
            )
        if values.get("filtersupportedfeaturesmode") == "0":
            found.append(_report(node, Feature.ODX, "FilterSupportedFeaturesMode is 0", "set it to 1"))
        if values.get("start", "4") != "4":
            found.append(_report(node, Feature.REMOTE_VSS, "its agent service is installed", "disable it"))
    return found


def _report(node: Node, feature: Feature, sign: str, remedy: str) -> str:
    return f"{node.name}: {feature} is not supported (TR 11.8), and {sign}; {remedy}"
