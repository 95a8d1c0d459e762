"""Sets on cluster shared volumes: one for the VMs of all nodes, or one on each node after the other."""

from __future__ import annotations

import pytest

from .bench import Bench, backup

CSV1, CSV2 = "C:\\ClusterStorage\\Volume1\\", "C:\\ClusterStorage\\Volume2\\"
HYPERV_WRITER, CSV_WRITER = "Microsoft Hyper-V VSS Writer", "Cluster Shared Volume VSS Writer"


def _frozen(bench: Bench, node: str) -> list[str]:
    return [lane for lane, step in bench.trace(node) if step == "freeze"]


@pytest.mark.tr("R-12-02", "R-12-03", "R-12-04", "R-12-05", "R-12-06", "R-12-07", "R-12-12")
@pytest.mark.parametrize("coordinator", ["hv1", "hv2"])
def test_one_distributed_set(cluster: Bench, coordinator: str) -> None:
    """The VMs of both nodes freeze together, one pair of Snapshot copies is made, each node recovers its own VMs."""
    bench = cluster
    before = bench.footprint()
    for vm in ("sql01", "web01", "web02"):
        bench.guest(vm).insert("bb1", 100)
        bench.guest(vm).begin("bb1", 400)
    ran = bench.script(*backup(CSV1), on=coordinator)
    assert ran.code == 0, ran.text
    assert _frozen(bench, "hv1") == ["guest sql01"]
    assert sorted(_frozen(bench, "hv2")) == ["guest web01", "guest web02"]
    first = f"{{{ran.set_id}}}"
    assert bench.snapshots("csv1") == [first, f"{first}_backup"]
    assert bench.snapshots("csv2") == []
    for vm in ("sql01", "web01", "web02"):
        raw = bench.guest_files(bench.image("csv1", first, "/csv1"), f"\\{vm}", vm)
        assert any(raw["F"].read_file("\\SQL\\bb1.ldf")[:8])
        system = bench.image("csv1", f"{first}_backup", f"/csv1_{first}.rws")
        recovered = bench.guest_files(system, f"\\{vm}", vm)
        assert not any(recovered["F"].read_file("\\SQL\\bb1.ldf")[:8])
        assert bench.guest(vm).commit("bb1") == 500
    for node in ("hv1", "hv2"):
        assert set(bench.states(node).values()) == {(1, 0)}
        steps = [step for lane, step in bench.trace(node) if lane == HYPERV_WRITER]
        assert steps[-6:] == [
            "PrepareForBackup", "PrepareForSnapshot", "Freeze", "Thaw", "PostSnapshot", "BackupComplete",
        ]  # fmt: skip
    last = [e.time for n in ("hv1", "hv2") for e in bench.events("labenv", on=n) if e.values[2] == "freeze"]
    assert (max(last) - min(last)).total_seconds() < 10
    assert bench.script("delete shadows all", on=coordinator).code == 0
    assert bench.footprint() == before


def test_the_writers_and_providers_of_a_node(cluster: Bench) -> None:
    """The CSV writer lists the VMs of the other node, and the CSV providers are registered."""
    listed = cluster.script("list writers metadata", on="hv1").text
    vm = str(cluster.hosts["hv2"].vm("web01").id).upper()
    assert f'Component "{CSV_WRITER}:\\hv2\\{vm}"' in listed
    assert f'Component "{HYPERV_WRITER}:\\{vm}"' not in listed
    assert (
        "{400a2ff4-5eb1-44b0-8a05-1fcac0bcf9ff}" in cluster.go(cluster.native("vssadmin.exe", "list", "providers")).text
    )
    assert f"Writer name: '{CSV_WRITER}'" in cluster.vssadmin("writers").text


@pytest.mark.parametrize(("node", "vm", "writer"), [("hv1", "sql01", HYPERV_WRITER), ("hv2", "web01", CSV_WRITER)])
def test_a_guest_of_any_node_can_fail(cluster: Bench, node: str, vm: str, writer: str) -> None:
    """The coordinator sees it in its own writer or in the CSV writer; the other node's writer shows it there."""
    bench = cluster
    before = bench.footprint()
    bench.fault("vss.writer", "error", host=node, phase="PrepareForSnapshot", vm=vm, code_="0x800423f3")
    ran = bench.script("writer verify {1072ae1c-e5a7-4ea1-9e4a-6f7964656570}", *backup(CSV1), on="hv1")
    assert ran.code == 1
    failed = {name: state for name, state in bench.states("hv1").items() if state[1]}
    assert set(failed) == {writer}
    assert failed[writer][0] == 8
    assert bench.states(node)[HYPERV_WRITER][0] == 8
    assert bench.script("delete shadows all", on="hv1").code == 0
    assert bench.footprint() == before
    assert bench.script(*backup(CSV1), on="hv1").code == 0


def test_a_node_goes_down_during_a_set(cluster: Bench) -> None:
    """Its VMs are not in the set; the coordinator's CSV writer fails, and the rest of the lab goes on."""
    bench = cluster
    bench.fault("vss.provider", "delay", phase="EndPrepareSnapshots", seconds_="10")

    async def both() -> object:
        async def cut() -> None:
            await bench.site.clock.sleep(5)
            bench.hosts["hv2"].power_off()

        bench.site.clock.spawn(cut(), name="power cut of hv2")
        return await bench.diskshadow("writer verify {1072ae1c-e5a7-4ea1-9e4a-6f7964656570}", *backup(CSV1), on="hv1")

    ran = bench.go(both())
    assert ran.code == 1  # type: ignore[attr-defined]
    assert bench.states("hv1")[CSV_WRITER][0] == 8
    assert bench.states("hv1")[CSV_WRITER][1] == 0x80042400
    bench.hosts["hv2"].power_on()


def test_a_second_coordinator(cluster: Bench) -> None:
    """Two nodes cannot make sets of one shared volume at the same time."""
    bench = cluster
    codes: list[object] = []

    async def both() -> None:
        done = bench.site.clock.signal()

        async def other() -> None:
            await bench.site.clock.sleep(6)
            codes.append((await bench.diskshadow(*backup(CSV1), on="hv2")).text)
            done.set()

        bench.site.clock.spawn(other(), name="second coordinator")
        codes.append((await bench.diskshadow(*backup(CSV1), on="hv1")).code)
        await done.wait()

    bench.go(both())
    assert "80042316" in str(codes[0]) + str(codes[1])
    assert 0 in codes
    assert bench.script(*backup(CSV1, CSV2), on="hv2").code == 0


def test_a_vm_that_has_moved_away(cluster: Bench) -> None:
    """Metadata is a moment's: a VM that left its node before it was prepared fails the backup."""
    bench = cluster
    host = bench.hosts["hv1"]
    bench.fault("vss.provider", "delay", phase="EndPrepareSnapshots", seconds_="10")
    vm = host.vm("sql01")

    async def both() -> object:
        async def move() -> None:
            await bench.site.clock.sleep(4)
            host.machines.vms.pop(str(vm.id))

        bench.site.clock.spawn(move(), name="the VM moves")
        return await bench.diskshadow(*backup(CSV1), on="hv1")

    ran = bench.go(both())
    assert ran.code == 1  # type: ignore[attr-defined]
    assert bench.states("hv1")[HYPERV_WRITER] == (8, 0x800423F3)


@pytest.mark.tr("R-12-01")
def test_each_node_makes_its_own_set_in_the_oldest_era(old_cluster: Bench) -> None:
    """The volume moves to each node in turn, in redirected access, and every node leaves its own pair of copies."""
    bench = old_cluster
    assert "8004230c" in bench.script(*backup(CSV1), on="hv2").text
    sets = []
    for node in ("hv1", "hv2"):
        name = bench.run_on("hv1", "Get-ClusterSharedVolume")[0].properties["Name"]
        bench.run_on("hv1", "Move-ClusterSharedVolume", Name=name, Node=node)
        assert "8004230c" in bench.script(*backup(CSV1), on=node).text
        bench.run_on("hv1", "Suspend-ClusterResource", Name=name, RedirectedAccess=True)
        ran = bench.script(*backup(CSV1), on=node)
        assert ran.code == 0, ran.text
        sets.append(ran.set_id)
        bench.run_on("hv1", "Resume-ClusterResource", Name=name)
    assert len(bench.snapshots("csv1")) == 4
    assert _frozen(bench, "hv1") == ["guest sql01"]
    assert sorted(_frozen(bench, "hv2")) == ["guest web01", "guest web02"]
    assert CSV_WRITER not in bench.states("hv1")
    first = f"{{{sets[1]}}}"
    assert f"/csv1_{first}.rws" in bench.site.volume_files("csv1", f"{first}_backup")
