"""For each rule a site that breaks it and the same site mended; what is changed is all that differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import healthy as h
from breaks_sites import of_sites

from smhvlab.advisor import facts as f
from smhvlab.advisor.site_facts import Facts

Pair = tuple[Facts, Facts]
TIB = 1 << 40


def hosted(facts: Facts, *, last: bool = False, **changes: Any) -> Facts:
    """The first host (or the last) is otherwise."""
    hosts = list(facts.hosts)
    at = -1 if last else 0
    hosts[at] = replace(hosts[at], **changes)
    return replace(facts, hosts=tuple(hosts))


def machine(facts: Facts, **changes: Any) -> Facts:
    """The first VM is otherwise."""
    return replace(facts, vms=(replace(facts.vms[0], **changes), *facts.vms[1:]))


def vhd(facts: Facts, **changes: Any) -> Facts:
    """The first VM's disk is otherwise."""
    return machine(facts, disks=(replace(facts.vms[0].disks[0], **changes),))


def arrayed(facts: Facts, **changes: Any) -> Facts:
    """The array is otherwise."""
    return replace(facts, array=replace(facts.array, **changes))


def lunned(facts: Facts, **changes: Any) -> Facts:
    """The first LUN is otherwise."""
    return arrayed(facts, luns=(replace(facts.array.luns[0], **changes), *facts.array.luns[1:]))


def volumed(facts: Facts, **changes: Any) -> Facts:
    """The first volume is otherwise."""
    return arrayed(facts, volumes=(replace(facts.array.volumes[0], **changes), *facts.array.volumes[1:]))


def disked(facts: Facts, **changes: Any) -> Facts:
    """The first host's first disk is otherwise."""
    disks = facts.hosts[0].disks
    return hosted(facts, disks=(replace(disks[0], **changes), *disks[1:]))


def noded(facts: Facts, **changes: Any) -> Facts:
    """The first controller is otherwise."""
    return arrayed(facts, nodes=(replace(facts.array.nodes[0], **changes), *facts.array.nodes[1:]))


def clustered(facts: Facts, **changes: Any) -> Facts:
    """The cluster is otherwise."""
    return replace(facts, clusters=(replace(facts.clusters[0], **changes),))


def shared(facts: Facts, **changes: Any) -> Facts:
    """The shared volume is otherwise."""
    return clustered(facts, csvs=(replace(facts.clusters[0].csvs[0], **changes),))


def planned(facts: Facts, **changes: Any) -> Facts:
    """The dataset's policy is otherwise."""
    return replace(facts, datasets=(replace(facts.datasets[0], policies=(h.policy(**changes),)),))


def registered(facts: Facts, key: str, name: str, value: str, *, last: bool = False) -> Facts:
    """One value of a host's registry is set."""
    at = facts.hosts[-1 if last else 0]
    return hosted(facts, last=last, registry={**at.registry, f"{key}\\{name}".casefold(): value})


def snapinfo_at(facts: Facts, folder: str) -> Facts:
    """SnapInfo's folder is another on every host."""
    changed = {**facts.hosts[0].registry, **h.settings(SnapInfoPath=folder)}
    return replace(facts, hosts=tuple(replace(host, registry=changed) for host in facts.hosts))


def without(facts: Facts, part: str) -> Facts:
    """A program is not on the first host."""
    return hosted(facts, software=tuple(p for p in facts.hosts[0].software if part not in p.name))


def with_program(facts: Facts, name: str, version: str) -> Facts:
    """The first host has a program in another version."""
    return hosted(without(facts, name), software=(*without(facts, name).hosts[0].software, h.program(name, version)))


def of_hosts() -> Mapping[str, Pair]:
    """Rules on hosts, and on what is installed there."""
    one, two, old = h.standalone(), h.cluster(), h.standalone("2008r2")
    closed = tuple(replace(port, enabled=port.number != 808) for port in one.hosts[0].ports)
    moved = (replace(one.hosts[0].ports[0], number=809), *one.hosts[0].ports)
    event = f.Event(id=4364, source="Navssprv", time=h.NOW - timedelta(hours=1))
    lost = replace(event, id=12289, source="VSS")
    through = (f.Vhd(path="Disk 3", disk_number=3),)
    service = tuple(replace(s, start="Disabled" if s.name == "VSS" else s.start) for s in one.hosts[0].services)
    shadow = f.Shadow(volume="\\\\?\\Volume{vm}\\", provider="Microsoft Software Shadow Copy provider 1.0")
    late = with_program(h.cluster(), "SnapDrive", "6.5.1")
    return {
        "host-answers": (replace(one, silent=(("hv2", "refused"),)), one),
        "not-readable": (hosted(one, unknown={"events": "access denied"}), one),
        "ports-open": (hosted(one, ports=closed), one),
        "same-port": (hosted(two, last=True, ports=moved), two),
        "services-run": (hosted(one, services=service), one),
        "hardware-provider": (hosted(one, providers=()), one),
        "no-software-shadows": (hosted(one, shadows=(shadow,)), one),
        "slow-commit": (hosted(one, events=(event,)), hosted(one, events=(replace(event, time=old_time()),))),
        "disk-arrives": (hosted(one, events=(lost,)), one),
        "shared-volume-lost": (hosted(two, events=(replace(event, id=5120),)), two),
        "several-paths": (hosted(one, paths={"vm": 1}), one),
        "native-unmap-off": (hosted(one, unmap=True), one),
        "no-odx": (hosted(one, odx=True), one),
        "clone-retries": (registered(one, f.PROVIDER_KEY, "CloneMaxRetryCount", "5"), one),
        "array-credentials": (hosted(one, credentials=frozenset({"other"})), one),
        "console-in-vm": (replace(one, console="SQL01.example.org"), one),
        "bitlocker": (hosted(old, encrypted=("V:\\",)), hosted(old, encrypted=("C:\\",))),
        "initiator-in-igroup": (hosted(one, initiators=("iqn.1991-05.com.microsoft:new",)), one),
        "snapdrive-everywhere": (without(one, "SnapDrive"), one),
        "snapdrive-version": (with_program(one, "SnapDrive", "6.4.1"), one),
        "snapdrive-for-crash": (
            with_program(planned(old, consistency="crash"), "SnapDrive", "6.4.0"),
            planned(old, consistency="crash"),
        ),
        "smhv-version": (with_program(one, "SnapManager 1.2 for Hyper-V", "1.1"), one),
        "same-versions": (late, two),
        "host-system": (hosted(one, caption="Microsoft Windows Server 2012 R2 Datacenter"), one),
        "guest-system": (machine(old, guest_os="Windows 2000"), machine(old, guest_os="Windows Server 2003 SP2")),
        "dsm": (hosted(one, dsm="Data ONTAP DSM"), one),
        "host-utilities": (without(one, "Host Utilities"), one),
        "dotnet-35": (without(one, ".NET"), one),
        "ontap-version": (arrayed(one, version=(8, 1, 0)), one),
        "hotfixes": (hosted(old, hotfixes=frozenset({"KB975921"})), old),
        "hotfix-passthrough": (hosted(machine(one, disks=through), hotfixes=frozenset()), machine(one, disks=through)),
        "reading-c2": (hosted(one, ports=closed), one),
        "reading-c3": (old, hosted(old, dsm="MSDSM")),
        "reading-c4": (with_program(old, "SnapDrive", "6.3.2"), old),
        "reading-c5": (old, hosted(old, dsm="MSDSM")),
        "reading-c6": (with_program(one, "SnapManager 1.2 for Hyper-V", "1.1"), one),
        "reading-c13": (registered(one, f.SMHV_KEY, "snapinfo_snaps_count", "30"), one),
        "reading-c14": (hosted(one, events=(event,)), one),
        "reading-c20": (without(one, ".NET"), one),
    }


def old_time() -> Any:
    """A moment before the days that rules look at."""
    return h.NOW - timedelta(days=30)


def of_storage() -> Mapping[str, Pair]:
    """Rules on LUNs, disks, volumes and the array."""
    one, two = h.standalone(), h.cluster()
    dynamic = vhd(one, type="Dynamic", size=200 * h.GIB, file_size=h.GIB)
    big = [f.Aggregate(name="aggr1", node="cluster1-01", size=300 * h.GIB, used=270 * h.GIB)]
    more = replace(one, vms=(*one.vms, h.vm("web01", "hv1", "V:\\web01")))
    stranger = replace(h.vm("web01", "hv9", "W:\\web01"), clustered=False)
    second = h.host("hv9", (h.disk(4, "vm", "W:\\"),))
    mirror = f.Mirror(source="svm1:vm", destination="svm2:vm")
    both = (mirror, f.Mirror(source="svm1:info", destination="svm2:info"))
    copies = tuple(f.Snapshot(name=f"copy{n}", time=h.NOW) for n in range(210))
    own = f.Snapshot(name="SQL_1", time=h.NOW)
    orphan = f.Snapshot(name="{12345678-1234-1234-1234-123456789012}_backup", time=h.NOW)
    two_luns = h.lun("web", ("hv1",))
    half = replace(
        arrayed(one, luns=(*one.array.luns, two_luns), volumes=(*one.array.volumes, replace(h_volume("web")))),
        datasets=(h.dataset("SQL", ("id-sql01", "id-web01")),),
        vms=(*one.vms, h.vm("web01", "hv1", "W:\\web01")),
    )
    half = hosted(half, disks=(*half.hosts[0].disks, h.disk(5, "web", "W:\\")))
    clone = f.Lun(name="/vol/vm/LUN_{1}.rws", volume="vm", size=h.GIB)
    return {
        "disk-style": (disked(two, style="MBR"), two),
        "no-san-boot": (disked(one, boot=True), one),
        "disk-collision": (disked(one, offline=True, offline_reason="Collision"), one),
        "disk-online": (disked(one, offline=True, offline_reason="Policy"), one),
        "lun-reservation": (lunned(one, reserved=True), one),
        "deduplicate": (volumed(more, dedupe=False), more),
        "thin-overcommitted": (arrayed(one, aggregates=tuple(big)), one),
        "luns-exceed-volume": (lunned(one, size=300 * h.GIB), one),
        "volume-full": (volumed(one, used=199 * h.GIB), one),
        "lun-type": (lunned(one, os_type="linux"), one),
        "allocation-unit": (disked(one, unit=512), one),
        "lun-16tb": (lunned(volumed(one, size=40 * TIB), size=17 * TIB), one),
        "lun-mapped-once": (replace(one, hosts=(*one.hosts, second), vms=(*one.vms, stranger)), one),
        "igroup-type": (arrayed(one, igroups=(replace(one.array.igroups[0], os_type="linux"),)), one),
        "cluster-igroup": (
            arrayed(two, igroups=(replace(two.array.igroups[0], initiators=two.hosts[0].initiators),)),
            two,
        ),
        "dynamic-needs-room": (dynamic, vhd(dynamic, size=20 * h.GIB)),
        "licences": (arrayed(one, licences=one.array.licences - {"snaprestore"}), one),
        "mirror-licence": (
            arrayed(one, mirrors=both, licences=one.array.licences - {"snapmirror"}),
            arrayed(one, mirrors=both),
        ),
        "ha-pair": (noded(one, ha=False), one),
        "controllers-up": (noded(one, taken_over=True), one),
        "lif-on-each-node": (arrayed(one, lifs=tuple(lif for lif in one.array.lifs if lif.name != "iscsi1")), one),
        "svm-management": (arrayed(one, lifs=tuple(lif for lif in one.array.lifs if lif.name != "mgmt")), one),
        "intercluster-lifs": (
            arrayed(one, peers=("c2",), lifs=tuple(lif for lif in one.array.lifs if lif.name != "ic1")),
            arrayed(one, peers=("c2",)),
        ),
        "array-snapshot-policy": (volumed(one, snapshot_policy="default"), one),
        "orphan-copies": (volumed(one, snapshots=(own, orphan)), one),
        "provider-clones": (arrayed(one, luns=(*one.array.luns, clone)), one),
        "busy-copies": (volumed(one, snapshots=(replace(own, owners=("volume_clone",)),)), one),
        "backup-complete": (volumed(one, snapshots=()), one),
        "mirror-healthy": (arrayed(one, mirrors=(replace(mirror, state="broken_off"),)), arrayed(one, mirrors=both)),
        "mirror-late": (arrayed(one, mirrors=(replace(mirror, lag=200_000),)), arrayed(one, mirrors=both)),
        "snapinfo-mirrored": (arrayed(one, mirrors=(mirror,)), arrayed(one, mirrors=both)),
        "dataset-mirrored": (arrayed(half, mirrors=(mirror,)), arrayed(one, mirrors=both)),
        "snapshot-limit": (volumed(one, snapshots=(own, *copies)), volumed(one, snapshots=(own, *copies[:99]))),
        "snapinfo-copies": (
            arrayed(one, volumes=(one.array.volumes[0], replace(one.array.volumes[1], snapshots=copies))),
            one,
        ),
        "reading-c10": (arrayed(one, mirrors=both), one),
        "reading-c11": (
            arrayed(one, mirrors=both),
            arrayed(one, mirrors=(replace(mirror, source_cluster="c1", destination_cluster="c2"),)),
        ),
        "reading-c12": (volumed(one, parent="golden"), one),
    }


def h_volume(name: str) -> f.Volume:
    """A volume of 200 GiB."""
    return f.Volume(name=name, size=200 * h.GIB)


def of_vms() -> Mapping[str, Pair]:
    """Rules on VMs."""
    one, two, old = h.standalone(), h.cluster(), h.standalone("2008r2")
    through = machine(one, disks=(*one.vms[0].disks, f.Vhd(path="Disk 3", disk_number=3)))
    alike = replace(
        one,
        vms=tuple(
            h.vm(name, "hv1", f"V:\\{name}", disks=(f.Vhd(path=f"V:\\{name}\\disk0.vhdx"),))
            for name in ("sql01", "web")
        ),
        datasets=(h.dataset("SQL", ("id-sql01", "id-web")),),
    )
    moving = ("Ok", "MigratingVirtualMachine")
    return {
        "vm-files-on-array": (vhd(one, path="C:\\VMs\\sql01.vhdx"), one),
        "passthrough": (through, one),
        "dynamic-disk": (vhd(one, type="Dynamic"), one),
        "differencing-disk": (vhd(one, type="Differencing"), vhd(one, type="Differencing", path="V:\\sql01\\a.avhdx")),
        "vhd-name": (alike, one),
        "integration-services": (machine(one, vss=False), one),
        "other-integration-services": (machine(one, disabled=("Heartbeat",)), one),
        "heartbeat": (machine(one, heartbeat="NoContact"), machine(one, heartbeat="NoContact", state="Off")),
        "checkpoint-folder-moved": (
            machine(one, checkpoint_folder="S:\\snapshots"),
            machine(one, checkpoint_folder="S:\\snapshots", checkpoints=1),
        ),
        "old-checkpoints": (machine(one, checkpoints=2), one),
        "migrating": (machine(two, status=moving), two),
        "storage-migrating": (machine(one, status=("Ok", "StorageMigrationPhaseOne")), one),
        "vm-name-unique": (replace(one, vms=(*one.vms, replace(one.vms[0], id="other", name="SQL01"))), one),
        "no-smb": (vhd(old, path="\\\\filer\\vms\\sql01.vhd"), old),
        "no-virtual-fibre-channel": (machine(one, fibre_channel=2), one),
        "no-replica": (machine(one, replication="Replicating"), one),
        "reading-c15": (machine(one, state="Off"), one),
        "reading-c17": (machine(two, status=moving), two),
        "reading-c18": (two, replace(two, backups=())),
        "reading-c19": (two, replace(two, vms=two.vms[:1])),
    }


def of_settings() -> Mapping[str, Pair]:
    """Rules on SMHV's settings."""
    one, two = h.standalone(), h.cluster()
    bare = {key: value for key, value in one.hosts[0].registry.items() if "snapinfopath" not in key}
    report = {key: value for key, value in one.hosts[0].registry.items() if "reportpath" not in key}
    mail = {key: value for key, value in one.hosts[0].registry.items() if "smtpserver" not in key}
    dedicated = h.disk(7, "own", "X:\\")
    alone = snapinfo_at(hosted(two, disks=(*two.hosts[0].disks, dedicated)), "X:\\SnapInfo")
    alone = arrayed(alone, luns=(*alone.array.luns, h.lun("own", ("hvc1",))))
    return {
        "snapinfo-set": (hosted(one, registry=bare), one),
        "snapinfo-on-array": (snapinfo_at(one, "C:\\SnapInfo"), one),
        "snapinfo-shared": (alone, two),
        "snapinfo-not-on-csv": (snapinfo_at(two, f"{h.CSV}\\SnapInfo"), two),
        "snapinfo-own-volume": (snapinfo_at(one, "V:\\SnapInfo"), one),
        "report-set": (hosted(one, registry=report), replace(hosted(one, registry=report), reports="C:\\Reports")),
        "report-not-on-csv": (replace(two, reports=f"{h.CSV}\\Reports"), replace(two, reports="C:\\Reports")),
        "notification-set": (hosted(one, registry=mail), replace(hosted(one, registry=mail), notified=True)),
        "settings-alike": (registered(two, f.SMHV_KEY, "ReportPath", "D:\\Reports", last=True), two),
        "export-kept-apart": (
            hosted(one, exports=("C:\\Program Files\\NetApp\\SnapManager for Hyper-V\\configuration.xml",)),
            one,
        ),
        "snapinfo-count": (
            registered(one, f.SMHV_KEY, "snapinfo_snaps_count", "thirty"),
            registered(one, f"{f.SMHV_KEY}\\hv1", "snapinfo_snaps_count", "40"),
        ),
    }


def of_datasets() -> Mapping[str, Pair]:
    """Rules on datasets."""
    one, two, old = h.standalone(), h.cluster(), h.cluster("2008r2")
    more = replace(one, vms=(*one.vms, h.vm("web01", "hv1", "V:\\web01")))
    both = replace(more, datasets=(h.dataset("SQL", ("id-sql01", "id-web01")),))
    split = replace(
        more, datasets=(h.dataset("SQL", ("id-sql01",)), h.dataset("Web", ("id-web01",), h.policy(starts=())))
    )
    mixed = replace(two, vms=(replace(two.vms[0], clustered=False), two.vms[1]))
    other = replace(h.lun("web", ("hv1",)), svm="svm9")
    far = arrayed(
        hosted(both, disks=(*both.hosts[0].disks, h.disk(5, "web", "W:\\"))),
        luns=(*both.array.luns, other),
        volumes=(*both.array.volumes, f.Volume(name="web", svm="svm9")),
    )
    far = replace(far, vms=(far.vms[0], h.vm("web01", "hv1", "W:\\web01")))
    csvs = tuple(
        f.Csv(name=f"Disk {n}", path=f"C:\\ClusterStorage\\Volume{n}", owner="hv1", guid=f"csv{n}")
        for n in range(1, 17)
    )
    wide = clustered(two, csvs=csvs)
    wide = replace(
        wide,
        vms=tuple(h.vm(f"vm{n}", "hv1", f"C:\\ClusterStorage\\Volume{n}\\vm{n}", clustered=True) for n in range(1, 17)),
    )
    wide = replace(wide, datasets=(h.dataset("all", tuple(vm.id for vm in wide.vms)),))
    narrow = replace(wide, datasets=(h.dataset("all", tuple(vm.id for vm in wide.vms[:15])),))
    partly = machine(two, disks=(*two.vms[0].disks, f.Vhd(path="S:\\sql01\\data.vhdx")))
    on_disk = replace(
        old,
        vms=tuple(h.vm(name, "hv1", f"S:\\{name}", clustered=True) for name in ("sql01", "app01")),
    )
    return {
        "unprotected": (more, both),
        "member-gone": (replace(one, datasets=(h.dataset("SQL", ("id-sql01", "gone")),)), one),
        "dedicated-and-shared": (mixed, two),
        "dataset-holds-lun": (more, both),
        "one-dataset-per-volume": (split, both),
        "dataset-in-one-svm": (far, both),
        "fifteen-csvs": (wide, narrow),
        "csv-mix": (partly, two),
        "one-vm-per-lun": (on_disk, replace(on_disk, vms=on_disk.vms[:1])),
        "no-backup-yet": (replace(one, backups=()), one),
    }


def of_policies() -> Mapping[str, Pair]:
    """Rules on policies."""
    one, two, today = h.standalone(), h.cluster(), h.standalone("2022")
    off = machine(one, state="Saved")
    twice = replace(one, datasets=(h.dataset("SQL", ("id-sql01",)), h.dataset("MOSS", ("id-sql01",))))
    later = h.policy(starts=tuple(day * 1440 + 60 for day in range(35)))
    apart = replace(one, datasets=(h.dataset("SQL", ("id-sql01",)), h.dataset("MOSS", ("id-sql01",), later)))
    crash = h.policy("crash", consistency="crash")
    kinds = replace(one, datasets=(h.dataset("SQL", ("id-sql01",), h.policy(), crash),))
    shifted = replace(one, datasets=(h.dataset("SQL", ("id-sql01",), h.policy(), replace(crash, starts=later.starts)),))
    wide = hosted(one, disks=(*one.hosts[0].disks, h.disk(5, "web", "W:\\")))
    wide = arrayed(wide, luns=(*one.array.luns, h.lun("web", ("hv1",))), volumes=(*one.array.volumes, h_volume("web")))
    wide = replace(wide, vms=(*one.vms, h.vm("web01", "hv1", "W:\\web01")))
    side = replace(wide, datasets=(h.dataset("SQL", ("id-sql01",)), h.dataset("Web", ("id-web01",))))
    aside = replace(wide, datasets=(h.dataset("SQL", ("id-sql01",)), h.dataset("Web", ("id-web01",), later)))
    hourly = {"tag": "hourly", "per_day": 24.0}
    month = planned(one, **hourly, keep=None, days=30.0)
    mirrored = (f.Mirror(source="svm1:vm", destination="svm2:vm"),)
    return {
        "saved-state": (off, planned(off, allow_saved=True)),
        "saved-state-allowed": (planned(one, allow_saved=True), one),
        "saved-state-and-crash": (
            planned(one, consistency="crash", allow_saved=True),
            planned(one, consistency="crash"),
        ),
        "distributed-backup": (planned(two, distributed=False), two),
        "same-vm-same-time": (twice, apart),
        "one-backup-per-volume": (twice, apart),
        "not-both-kinds-at-once": (kinds, shifted),
        "one-backup-per-host": (side, aside),
        "crash-is-no-replacement": (replace(planned(one, consistency="crash"), backups=()), one),
        "snapshot-budget": (month, planned(one, **hourly, keep=30)),
        "keep-by-number": (month, planned(one, **hourly, keep=30)),
        "unlimited": (planned(one, keep=None), one),
        "verified-backup": (replace(one, backups=(replace(one.backups[0], verified=False),)), one),
        "backup-age": (replace(one, backups=(replace(one.backups[0], time=old_time()),)), one),
        "too-many-mails": (planned(one, notify="always"), one),
        "variables-in-prescript": (planned(one, pre="copy $VMSnapshot"), planned(one, post="copy $VMSnapshot")),
        "snapinfo-variable": (planned(two, post="$SnapInfoSnapshot"), planned(one, post="$SnapInfoSnapshot")),
        "mirror-to-update": (planned(one, replicate=True), arrayed(planned(one, replicate=True), mirrors=mirrored)),
        "reading-c1": (planned(one, allow_saved=True), one),
        "reading-c7": (kinds, one),
        "reading-c8": (one, today),
        "reading-c9": (planned(two, distributed=False), two),
        "reading-c16": (one, replace(one, backups=())),
    }


def of_clusters() -> Mapping[str, Pair]:
    """Rules on failover clusters."""
    two, old = h.cluster(), h.cluster("2008r2")
    apart = replace(old, vms=(old.vms[0], replace(old.vms[1], host="hv2")))
    own = hosted(two, disks=(*two.hosts[0].disks, h.disk(5, "web", "W:\\")))
    own = arrayed(own, luns=(*two.array.luns, h.lun("web", ("hvc1",))), volumes=(*two.array.volumes, h_volume("web")))
    return {
        "nodes-up": (clustered(two, nodes={"hv1": "Up", "hv2": "Down"}), two),
        "all-nodes-in-profile": (clustered(two, nodes={"hv1": "Up", "hv2": "Up", "hv3": "Up"}), two),
        "quorum-witness": (clustered(two, quorum=""), two),
        "cluster-networks": (clustered(two, networks={"All": "ClusterAndClient"}), two),
        "asymmetric": (hosted(two, last=True, disks=two.hosts[1].disks[1:]), two),
        "redirected": (shared(two, access={"hv1": "FileSystemRedirected", "hv2": "Direct"}), two),
        "csv-online": (shared(two, state="Failed"), two),
        "csv-owners": (apart, old),
        "csv-with-its-vms": (shared(two, owner="hv2"), two),
        "vm-highly-available": (replace(two, vms=(replace(two.vms[0], clustered=False), two.vms[1])), two),
        "vm-on-shared-disk": (
            replace(own, vms=(h.vm("sql01", "hv1", "W:\\sql01", clustered=True), two.vms[1])),
            two,
        ),
    }


def breaks() -> dict[str, Pair]:
    """All of them: rule -> (broken, mended)."""
    found: dict[str, Pair] = {}
    for part in (of_hosts, of_storage, of_vms, of_settings, of_datasets, of_policies, of_clusters, of_sites):
        found |= part()
    return found
