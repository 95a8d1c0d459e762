"""Which VMs belong together in a dataset (TR 5.2, 6.1, 6.2, 12)."""

from __future__ import annotations

from collections.abc import Iterator

from smhvlab.advisor.rule import Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts

MOST_CSVS = 15


@rule(
    "unprotected",
    section="5.2",
    rows=("R-5.2-08", "R-6.7-08"),
    severity=Severity.WARNING,
    looks_at="VMs with files on the array; members of all datasets",
    why="A VM in no dataset is in no backup.",
    fix="Add the VM to a dataset.",
)
def unprotected(facts: Facts) -> Iterator[Hit]:
    protected = {identity for dataset in facts.datasets for identity in dataset.members}
    if not facts.plans:
        return
    for vm in facts.vms:
        if vm.id not in protected and facts.luns(vm):
            yield Hit(vm.name, "It is in no dataset.")


@rule(
    "member-gone",
    section="6.7",
    rows=("R-6.7-07", "R-5.2-01"),
    severity=Severity.ERROR,
    looks_at="members of each dataset; VMs by id",
    why="SMHV knows a VM by its id: one that was made anew under the old name is another, and is not backed up.",
    fix="Change the dataset: take the old id out, and the new VM in.",
)
def member_gone(facts: Facts) -> Iterator[Hit]:
    if facts.silent:
        return  # a VM of a host that does not answer is not gone
    for dataset in facts.datasets:
        gone = [identity for identity in dataset.members if identity not in facts.vm]
        if gone:
            yield Hit(dataset.name, f"No VM has the id {listed(gone)} any more.")


@rule(
    "dedicated-and-shared",
    section="6.1",
    rows=("R-6.1-03",),
    severity=Severity.ERROR,
    looks_at="members of each dataset and whether they are clustered",
    why="A backup of dedicated and shared VMs of one cluster together can fail.",
    fix="Make two datasets.",
)
def dedicated_and_shared(facts: Facts) -> Iterator[Hit]:
    for dataset in facts.datasets:
        for cluster in facts.clusters:
            nodes = {name.casefold() for name in cluster.nodes}
            members = [vm for vm in facts.members(dataset) if vm.host.casefold() in nodes]
            shared = [vm.name for vm in members if vm.clustered]
            dedicated = [vm.name for vm in members if not vm.clustered]
            if shared and dedicated:
                yield Hit(dataset.name, f"Shared: {listed(shared)}; dedicated: {listed(dedicated)}.")


@rule(
    "dataset-holds-lun",
    section="6.2",
    rows=("R-6.2-17", "R-13-03", "R-6.2-15"),
    severity=Severity.WARNING,
    looks_at="VMs of each LUN; members of each dataset",
    why="One Snapshot copy serves all VMs of a LUN: if some are in another dataset there are twice as many.",
    fix="Put all VMs of the LUN into one dataset.",
)
def dataset_holds_lun(facts: Facts) -> Iterator[Hit]:
    for dataset in facts.datasets:
        members = {vm.id for vm in facts.members(dataset)}
        luns = {lun: None for vm in facts.members(dataset) for lun in facts.luns(vm)}
        for lun in luns:
            missing = [vm.name for vm in facts.vms_on[lun] if vm.id not in members]
            if missing:
                yield Hit(f"{dataset.name} {lun.name}", f"Not in it, though on the same LUN: {listed(missing)}.")


@rule(
    "one-dataset-per-volume",
    section="appendix",
    rows=("R-AG-01", "R-6.2-17"),
    severity=Severity.WARNING,
    looks_at="volumes of each dataset",
    why="While a backup recovers on a LUN clone no other Snapshot copy of that volume can be made.",
    fix="Collect all VMs of a volume in one dataset; otherwise keep the schedules apart.",
)
def one_dataset_per_volume(facts: Facts) -> Iterator[Hit]:
    users: dict[tuple[str, str], list[str]] = {}
    for dataset in facts.datasets:
        for key in sorted(facts.volumes_of(dataset)):
            users.setdefault(key, []).append(dataset.name)
    for (_, volume), names in sorted(users.items()):
        if len(names) > 1:
            yield Hit(volume, f"VMs of {listed(names)} share it.")


@rule(
    "dataset-in-one-svm",
    section="6.2",
    rows=("R-6.2-19",),
    severity=Severity.NOTE,
    looks_at="SVMs of each dataset",
    why="VMs of one application in one SVM are backed up, restored and failed over as one.",
    fix="Move the VMs' LUNs into one SVM.",
)
def dataset_in_one_svm(facts: Facts) -> Iterator[Hit]:
    for dataset in facts.datasets:
        svms = sorted({svm for svm, _ in facts.volumes_of(dataset)})
        if len(svms) > 1:
            yield Hit(dataset.name, f"Its VMs lie in {listed(svms)}.")


@rule(
    "fifteen-csvs",
    section="12",
    rows=("R-12-11",),
    severity=Severity.ERROR,
    eras=("2012", "2022"),
    looks_at="shared volumes of each dataset",
    why="With more than 15 CSVFS LUNs of one array the renaming of their Snapshot copies fails.",
    fix="Split the dataset evenly; the layout planner says how.",
)
def fifteen_csvs(facts: Facts) -> Iterator[Hit]:
    for dataset in facts.datasets:
        paths = {
            home.csv.path
            for vm in facts.members(dataset)
            for _, path in facts.files(vm)
            if (home := facts.home(vm.host, path)) is not None and home.csv is not None
        }
        if len(paths) > MOST_CSVS:
            yield Hit(dataset.name, f"{len(paths)} cluster shared volumes; {MOST_CSVS} at most.")


@rule(
    "csv-mix",
    section="12",
    rows=("R-12-10",),
    severity=Severity.ERROR,
    eras=("2012", "2022"),
    looks_at="where each VHD of a clustered VM lies",
    why="A VM with disks on CSVFS and on other shared disks cannot be backed up.",
    fix="Move all its VHDs to shared volumes.",
)
def csv_mix(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        homes = [facts.home(vm.host, disk.path) for disk in vm.disks if not disk.passthrough]
        kinds = {home.csv is not None for home in homes if home is not None and home.lun is not None}
        if len(kinds) > 1:
            others = [
                disk.path
                for disk, home in zip((d for d in vm.disks if not d.passthrough), homes, strict=True)
                if home is not None and home.csv is None
            ]
            yield Hit(vm.name, f"On shared volumes, but for {listed(others)}.")


@rule(
    "one-vm-per-lun",
    section="13",
    rows=("R-13-01",),
    severity=Severity.WARNING,
    eras=("2008r2",),
    looks_at="shared disks that are no CSV, and the VMs on them",
    why="On ordinary shared storage a disk moves with its VM; two VMs on it have to move together.",
    fix="Give each VM a LUN of its own, or make the disk a cluster shared volume.",
)
def one_vm_per_lun(facts: Facts) -> Iterator[Hit]:
    for lun, vms in facts.vms_on.items():
        clustered = [vm.name for vm in vms if vm.clustered]
        homes = (facts.home(vm.host, path) for vm in vms for _, path in facts.files(vm))
        shared = any(home is not None and home.lun == lun and home.cluster_disk is not None for home in homes)
        if shared and len(clustered) > 1:
            yield Hit(lun.name, f"{listed(clustered)} share it.")


@rule(
    "no-backup-yet",
    section="6.2",
    rows=("R-5.2-04",),
    severity=Severity.WARNING,
    looks_at="datasets; backups in SnapInfo",
    why="A dataset that was never backed up protects nobody.",
    fix="Run a backup, and give the dataset a policy with a schedule.",
)
def no_backup_yet(facts: Facts) -> Iterator[Hit]:
    done = {backup.dataset for backup in facts.backups}
    for dataset in facts.datasets:
        if dataset.name not in done and dataset.members:
            yield Hit(dataset.name, "It has no backup.")
