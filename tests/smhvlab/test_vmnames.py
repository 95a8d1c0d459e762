"""Names that are not unique, or patterns to Hyper-V: nothing happens to a VM that nobody meant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import NotUnique
from smhvlab.hyperv import VmDisk
from smhvlab.site import Site
from smhvlab.vmnames import alone


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    """The site of a fresh lab, over both real wires."""
    with smhvlab.site.connect(lab.profile) as connected:
        yield connected


def blank(site: Site, name: str, folder: str) -> str:
    """Make a VM without disks and give it any name; returns its id."""
    host = site.tools().host
    made = host.run("New-VM", {"Name": folder, "NoVHD": True, "Generation": 1, "Path": "V:\\"}, select=("Id",))
    host.pair(("Get-VM", {"Id": str(made[0]["Id"])}), ("Set-VM", {"NewVMName": name}))
    return str(made[0]["Id"])


def test_a_disk_goes_to_the_vm_of_the_id(site: Site) -> None:
    """Two VMs have one name, and a third one has a pattern for its name: each gets its own disk only."""
    hyperv, host = site.tools().hyperv, site.tools().host
    wanted = {}
    for name, folder in (("twin", "a"), ("twin", "b"), ("t*", "c")):
        path = wanted[blank(site, name, folder)] = f"V:\\{folder}.vhd"
        host.run("New-VHD", {"Path": path, "SizeBytes": 4 << 20, "Fixed": True})
    for vm in hyperv.vms():
        if vm.id in wanted:
            hyperv.ensure_attached(vm, VmDisk(wanted[vm.id], "IDE", 0, 0))
    assert {vm.id: [d.path for d in vm.disks] for vm in hyperv.vms() if vm.id in wanted} == {
        vm_id: [path] for vm_id, path in wanted.items()
    }


def test_a_name_that_stands_for_others_is_refused_where_only_names_will_do(site: Site) -> None:
    """Some cmdlets take no id: a name that is a pattern of another VM's is told, one with mere brackets is not."""
    hyperv, host = site.tools().hyperv, site.tools().host
    blank(site, "web*", "a")
    boxed = blank(site, "box[2]", "b")
    with pytest.raises(NotUnique, match="stands for web01 too"):
        alone("web*", hyperv.vms())
    assert alone("BOX[2]", hyperv.vms()) == "box[2]"
    host.pair(("Get-VM", {"Id": boxed}), ("Checkpoint-VM", {"SnapshotName": "one"}))
    assert hyperv.with_checkpoints(hyperv.vm("box[2]")).checkpoint_names == ("one",)
