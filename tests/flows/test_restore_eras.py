"""Restores of VMs in every state, by either method, on a host and on a cluster, in three eras (TR 6.7)."""

from __future__ import annotations

import pytest

import smhvlab.site
from smhvlab.restore.state import Method
from smhvlab.site import Site
from smhvlab.vmnames import one_named
from tests.flows.checks import blocks_sound, sound
from tests.flows.conftest import Start
from tests.flows.test_restore_full import THEN, backed_up, rows


def change(site: Site, vm: str, state: str) -> set[str]:
    """Bring a VM into a state; returns the warnings that a restore then asks for."""
    nodes = site.tools().nodes
    machine = one_named(vm, nodes.vms())
    node = nodes[machine.host]
    if state == "running":
        return set()
    if state == "saved":
        node.host.run("Save-VM", {"Name": vm})
        return {"not-running"}
    node.hyperv.ensure_off(machine.id)
    if state == "deleted":
        groups = node.host.run("Get-ClusterGroup", select=("Name",)) if nodes.cluster else []
        if vm in {str(group["Name"]) for group in groups}:
            node.host.run("Remove-ClusterGroup", {"VMId": machine.id, "RemoveResources": True, "Force": True})
        node.hyperv.ensure_removed(machine.id)
    return {"not-running"}


CASES = [
    pytest.param(topology, vm, era, method, marks=pytest.mark.long)
    for topology, vms in (("standalone", ("sql01", "app01")), ("two-node-cluster", ("file01", "sql01")))
    for era in ("2008r2", "2012", "2022")
    for vm, method in zip(vms, Method, strict=True)
]


@pytest.mark.tr("R-6.7-01", "R-6.7-04", "R-6.7-07", "R-6.7-08", "R-6.7-10")
@pytest.mark.parametrize(("topology", "vm", "era", "method"), CASES)
def test_a_vm_comes_back_whatever_its_state(start: Start, topology: str, vm: str, era: str, method: Method) -> None:
    """Running, saved, off, deleted, unprotected by then: the backup's rows, the same id; a role is not made again."""
    lab = start(f"{topology}-{era}")
    with smhvlab.site.connect(lab.profile) as site:
        nodes = site.tools().nodes
        name = backed_up(site, lab, vm)
        then = one_named(vm, nodes.vms()).id
        site.change_dataset(f"Set_{vm}", ["app01" if vm == "sql01" else "sql01"])
        for state in ("running", "saved", "off", "deleted"):
            accept = change(site, vm, state)
            flow = site.restore(name, then if state == "deleted" else vm)
            plan = flow.plan()
            assert {question.key for question in plan.confirmations} == accept
            result = flow.run_sync(plan=plan, accept=accept).result
            assert [lun.method for lun in plan.state.luns] == [method]
            assert one_named(vm, nodes.vms()).id == then
            assert one_named(vm, nodes.vms()).running
            assert rows(lab, vm) == THEN
            assert any("highly available" in line for line in result.checklist) == bool(nodes.cluster)
            lab.guest(vm).insert("aa1", 7)
        assert site.mounts().empty
    sound(lab, vm)
    blocks_sound(lab)
