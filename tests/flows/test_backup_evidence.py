"""What a backup's record says of how consistent it is, in every era (TR 6.2, 6.4, 9, 10)."""

from __future__ import annotations

import pytest

import smhvlab.site
from smhvlab.errors import BackupFailed
from smhvlab.protection.budget import era_of
from smhvlab.protection.estimate import copies_per_backup
from smhvlab.vss import parse_components
from tests.flows.checks import lun_clone, picture
from tests.flows.conftest import Start


@pytest.mark.tr("R-6.2-14", "R-6.2-16", "R-10-02")
@pytest.mark.parametrize("topology", ["two-node-cluster-2008r2", "standalone-2022"])
def test_a_crash_consistent_backup_uses_vss_for_metadata_only(start: Start, topology: str) -> None:
    """The writers' metadata is beside the record and names each VM; no set is made; today VSS is not asked at all."""
    lab = start(topology)
    with smhvlab.site.connect(lab.profile) as site:
        names = ["sql01", "web01"]
        site.create_dataset("Set", names)
        since = site.now()
        backup = site.backup("Set", consistency="crash").run_sync().result.backup
        snapinfo = site.tools().snapinfo
        kept = [path for path in snapinfo.files("Backups") if path.endswith(".txt")]
        asked = topology.endswith("2008r2")
        assert backup.writers == (("hv1", "hv2") if asked else ())
        assert len(kept) == len(backup.writers)
        told = {one.vm_id for text in snapinfo.read_all(kept, "#") for one in parse_components(text.splitlines())}
        assert ({vm.id for vm in backup.vms} <= told) is asked
        for node in site.tools().nodes.up():
            assert smhvlab.vss.Vss(node.host).provider_events(since) == []
        assert {vm.evidence.frozen for vm in backup.vms if vm.evidence is not None} == {0.0}
        snapinfo.forget([backup])
        assert snapinfo.files("Backups") == []


@pytest.mark.tr("R-6.2-14")
def test_a_vm_that_no_writer_knows_fails_the_crash_consistent_backup_too(start: Start) -> None:
    """Without its metadata there is no record of the VM's files: nothing is taken, nothing stays."""
    lab = start("standalone-2012")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["app01"])
        before = picture(site)
        lab.faults.cause("service-does-not-start", service="vmms", times=0)
        with pytest.raises(BackupFailed, match="No VSS writer of hv1 knows app01"):
            site.backup("Set", consistency="crash").run_sync()
        assert picture(site) == before


@pytest.mark.tr("R-6.4-03", "R-9-02")
@pytest.mark.parametrize("era", ["2008r2", "2012", "2022"])
def test_time_frozen_and_downtime_are_in_the_record(start: Start, era: str) -> None:
    """Of a VM that took part how long its writers were frozen, at most at least; of one that was saved its downtime."""
    lab = start("standalone" if era == "2008r2" else f"standalone-{era}")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["sql01", "app01"])
        if era == "2022":
            site.tools().hyperv.ensure_off(site.tools().hyperv.vm("app01").id)
        else:
            lab.faults.cause("integration-service-off", vm="app01")
        done = site.backup("Set", allow_saved_state=True).run_sync().result
        found = {vm.name: vm.evidence for vm in done.backup.vms}
        online, other = found["sql01"], found["app01"]
        assert online is not None
        assert other is not None
        assert online.frozen_most is not None
        assert 0 < online.frozen_most <= 60
        assert f"sql01: {online.why}; frozen for " in str(done)
        if era == "2022":
            assert (other.how, other.downtime) == ("off", None)
        else:
            assert online.frozen is not None
            assert online.frozen <= online.frozen_most
            assert other.how == "saved"
            assert other.downtime is not None
            assert other.downtime > 0
            assert f"did not run for {other.downtime:g} s" in str(done)


@pytest.mark.tr("R-4.1-02", "R-9-05")
@pytest.mark.parametrize("consistency", ["application", "crash"])
def test_disks_of_a_guest_s_initiator_are_listed_today_too(start: Start, consistency: str) -> None:
    """Guests tell the host their computer names, which are in those of their initiators: the record names the VM."""
    lab = start("standalone-2022")
    guest = lab.guest("app01")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["sql01", "app01"])
        storage = site.tools().storage
        storage.ensure_igroup("app01_guest", [guest.initiator()], svm="svm1")
        inside = lun_clone(storage, "/vol/vm_sql01/inside", source="/vol/vm_sql01/golden", svm="svm1")
        storage.ensure_map(inside, "app01_guest")
        guest.connect_portal("10.10.1.21")
        backup = site.backup("Set", consistency=consistency).run_sync().result.backup  # type: ignore[arg-type]
        assert backup.excluded == ("app01: /vol/vm_sql01/inside, connected inside the guest",)


@pytest.mark.tr("R-12-01", "R-12-02", "R-12-12", "R-6.3-08")
@pytest.mark.parametrize(
    ("topology", "distributed"),
    [
        ("two-node-cluster-2008r2", None),
        ("two-node-cluster-2012", None),
        ("two-node-cluster-2012", False),
        ("standalone-2012", None),
        ("standalone-2022", None),
    ],
)
def test_a_backup_leaves_as_many_copies_as_the_budget_counts(
    start: Start, topology: str, distributed: bool | None
) -> None:
    """Two a volume, two for each node in 2008 R2 and without a distributed set, one today and of a crash one."""
    lab = start(topology)
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["sql01", "web01"])
        hosts = set(site.vms().query("name in ['sql01', 'web01']")["host"])
        era = era_of(site.tools())
        volumes = {lun.volume for lun in site.backup("Set").plan().state.luns}
        before = len(site.snapshots().query("volume in @volumes"))
        done = site.backup("Set", distributed=distributed).run_sync().result
        left = len(site.snapshots().query("volume in @volumes")) - before
        each = copies_per_backup("application", nodes=len(hosts), era=era, distributed=distributed)
        assert left == each * len(volumes)
        assert len(done.backup.sets) == (len(hosts) if each > 2 else 1)
        assert done.backup.common_point is (each <= 2)
        site.backup("Set", consistency="crash").run_sync()
        assert len(site.snapshots().query("volume in @volumes")) - before - left == len(volumes)
