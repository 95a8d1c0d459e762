"""When backups run, how consistent they are, and how long they stay (TR 5.2, 6.2-6.5, 10, 12, appendix)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import combinations

from smhvlab.advisor import facts as f
from smhvlab.advisor import plans as p
from smhvlab.advisor.rule import Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts
from smhvlab.protection.estimate import copies_per_backup

_VARIABLES = ("$VMSnapshot", "$SnapInfoName", "$SnapInfoSnapshot")
_WEEK = timedelta(days=7)


def policies(facts: Facts) -> Iterator[tuple[p.Dataset, p.Policy]]:
    """Every policy with its dataset."""
    return ((dataset, policy) for dataset in facts.datasets for policy in dataset.policies)


def per_backup(facts: Facts, dataset: p.Dataset, policy: p.Policy, volume: tuple[str, str]) -> int:
    """Snapshot copies that one backup leaves in a volume."""
    nodes = {vm.host for vm in facts.members(dataset) if volume in {(lun.svm, lun.volume) for lun in facts.luns(vm)}}
    return copies_per_backup(
        policy.consistency, nodes=max(1, len(nodes)), era=facts.era, distributed=policy.distributed
    )


@rule(
    "saved-state",
    section="6.4",
    rows=("R-6.4-01", "R-6.4-02"),
    severity=Severity.ERROR,
    looks_at="states of the VMs; policies with application-consistent backups",
    why="A VM that is saved or off cannot be backed up online, and the whole backup fails with it.",
    fix="Move the VM to a dataset whose policy allows saved-state backups, or start it.",
)
def saved_state(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        if policy.consistency == "application" and not policy.allow_saved:
            names = [vm.name for vm in facts.members(dataset) if vm.state in ("Off", "Saved", "Paused")]
            if names:
                yield Hit(dataset.name, f"{listed(names)} not running, and {policy.name} does not allow that.")


@rule(
    "saved-state-allowed",
    section="6.4",
    rows=("R-6.4-03", "R-6.4-04"),
    severity=Severity.WARNING,
    looks_at="policies that allow saved-state backups; running VMs",
    why="A VM whose guest cannot be quiesced is then saved for its backup, which is downtime.",
    fix="Disable it for datasets with mission-critical VMs (the TR's 6.4; its 13 says the opposite).",
)
def saved_state_allowed(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        running = [vm.name for vm in facts.members(dataset) if vm.state == "Running"]
        if policy.consistency == "application" and policy.allow_saved and running:
            yield Hit(f"{dataset.name} {policy.name}", f"{listed(running)} may be saved during a backup.")


@rule(
    "saved-state-and-crash",
    section="6.4",
    rows=("R-6.4-05",),
    severity=Severity.NOTE,
    looks_at="policies with crash-consistent backups",
    why="A crash-consistent backup takes the VM as it is; the option has no meaning there.",
    fix="Clear the option.",
)
def saved_state_and_crash(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        if policy.consistency == "crash" and policy.allow_saved:
            yield Hit(f"{dataset.name} {policy.name}", "Crash-consistent, and saved-state backups are allowed.")


@rule(
    "distributed-backup",
    section="12",
    rows=("R-12-09",),
    severity=Severity.WARNING,
    eras=("2012", "2022"),
    looks_at="policies of datasets with clustered VMs",
    why="Without it every node makes a set of its own: slower, and as many Snapshot copies as nodes.",
    fix="Enable distributed backup for application-consistent policies of clustered VMs.",
)
def distributed_backup(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        shared = any(vm.clustered for vm in facts.members(dataset))
        if shared and policy.consistency == "application" and policy.distributed is False:
            yield Hit(f"{dataset.name} {policy.name}", "Distributed backup is off.")


@rule(
    "same-vm-same-time",
    section="6.2",
    rows=("R-6.2-11", "R-5.2-02"),
    severity=Severity.ERROR,
    looks_at="VMs in several datasets; their schedules",
    why="Only one backup of a VM can run at a time; the other fails.",
    fix="Keep the schedules apart.",
)
def same_vm_same_time(facts: Facts) -> Iterator[Hit]:
    for one, other in combinations(facts.datasets, 2):
        both = sorted(set(one.members) & set(other.members) & facts.vm.keys())
        pairs = [f"{a.name} and {b.name}" for a in one.policies for b in other.policies if a.overlaps(b)]
        if both and pairs:
            names = listed(facts.vm[identity].name for identity in both)
            yield Hit(f"{one.name} {other.name}", f"{names} in both, and {listed(pairs)} overlap.")


@rule(
    "one-backup-per-volume",
    section="appendix",
    rows=("R-AG-01", "R-AG-02", "R-6.2-17"),
    severity=Severity.ERROR,
    looks_at="volumes of each dataset; schedules",
    why='It ends with "Snapshot operation not allowed due to clones backed by snapshots.", after many retries.',
    fix="Keep the schedules apart, or collect the VMs of the volume in one dataset.",
)
def one_backup_per_volume(facts: Facts) -> Iterator[Hit]:
    for one, other in combinations(facts.datasets, 2):
        both = sorted(name for _, name in facts.volumes_of(one) & facts.volumes_of(other))
        pairs = [f"{a.name} and {b.name}" for a in one.policies for b in other.policies if a.overlaps(b)]
        if both and pairs:
            yield Hit(f"{one.name} {other.name}", f"Both use {listed(both)}, and {listed(pairs)} overlap.")


@rule(
    "not-both-kinds-at-once",
    section="appendix",
    rows=("R-AG-01", "R-10-03"),
    severity=Severity.ERROR,
    looks_at="schedules of one dataset",
    why="Application- and crash-consistent backups of the same volumes must not start together.",
    fix="Start them at different times.",
)
def not_both_kinds_at_once(facts: Facts) -> Iterator[Hit]:
    for dataset in facts.datasets:
        for a, b in combinations(dataset.policies, 2):
            if a.consistency != b.consistency and a.overlaps(b):
                yield Hit(dataset.name, f"{a.name} ({a.consistency}) and {b.name} ({b.consistency}) overlap.")


@rule(
    "one-backup-per-host",
    section="6.2",
    rows=("R-6.2-11",),
    severity=Severity.WARNING,
    looks_at="hosts of each dataset's VMs; schedules of application-consistent policies",
    why="VSS makes one shadow copy set on a host at a time; the second waits or fails.",
    fix="Keep the schedules of datasets on the same host apart.",
)
def one_backup_per_host(facts: Facts) -> Iterator[Hit]:
    for one, other in combinations(facts.datasets, 2):
        if facts.volumes_of(one) & facts.volumes_of(other):
            continue  # the rule on volumes tells
        hosts = {vm.host for vm in facts.members(one)} & {vm.host for vm in facts.members(other)}
        pairs = [
            f"{a.name} and {b.name}"
            for a in one.policies
            for b in other.policies
            if a.consistency == b.consistency == "application" and a.overlaps(b)
        ]
        if hosts and pairs:
            yield Hit(f"{one.name} {other.name}", f"Both on {listed(sorted(hosts))}; {listed(pairs)} overlap.")


@rule(
    "crash-is-no-replacement",
    section="10",
    rows=("R-10-04",),
    severity=Severity.WARNING,
    looks_at="kinds of backups of each dataset",
    why="Crash-consistent backups are frequent points in between; databases need application-consistent ones.",
    fix="Add an application-consistent policy, less often.",
)
def crash_is_no_replacement(facts: Facts) -> Iterator[Hit]:
    for dataset in facts.datasets:
        kinds = {policy.consistency for policy in dataset.policies}
        kinds |= {backup.consistency for backup in facts.backups if backup.dataset == dataset.name}
        if kinds == {"crash"}:
            yield Hit(dataset.name, "All its backups are crash-consistent.")


@rule(
    "snapshot-budget",
    section="6.3",
    rows=("R-6.3-02", "R-6.3-04", "R-6.3-08", "R-6.3-09", "R-6.3-12"),
    severity=Severity.ERROR,
    looks_at="what the policies of all datasets on a volume will keep, and the limit",
    why="When a volume holds as many Snapshot copies as it can, every later backup fails.",
    fix="Keep fewer backups, by number instead of by age, or make them less often.",
)
def snapshot_budget(facts: Facts) -> Iterator[Hit]:
    kept: dict[tuple[str, str], float] = {}
    for dataset, policy in policies(facts):
        for volume in facts.volumes_of(dataset):
            if not policy.unlimited:
                kept[volume] = kept.get(volume, 0) + policy.kept * per_backup(facts, dataset, policy, volume)
    for volume, count in sorted(kept.items()):
        if count > facts.snapshot_limit:
            text = f"Its policies keep {count:.0f} Snapshot copies; {facts.snapshot_limit} are possible."
            yield Hit(volume[1], text)


@rule(
    "keep-by-number",
    section="6.3",
    rows=("R-6.3-09", "R-6.3-07"),
    severity=Severity.WARNING,
    looks_at="hourly policies that keep by age",
    why="30 days of hourly backups are 1,440 Snapshot copies: the limit is reached on the sixth day.",
    fix="Keep hourly backups by number.",
)
def keep_by_number(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        if policy.days is not None and policy.keep is None and policy.per_day >= 12:
            copies = policy.kept * copies_per_backup(policy.consistency, era=facts.era)
            yield Hit(f"{dataset.name} {policy.name}", f"{policy.days:g} days: about {copies:.0f} Snapshot copies.")


@rule(
    "unlimited",
    section="6.3",
    rows=("R-6.3-11", "R-6.3-06"),
    severity=Severity.WARNING,
    looks_at="policies that delete nothing",
    why="Such backups stay, and count, until somebody deletes them.",
    fix="Give the policy a retention, or delete its backups by hand in time.",
)
def unlimited(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        if policy.unlimited:
            yield Hit(f"{dataset.name} {policy.name}", f"{policy.per_day:g} backups a day, and none is deleted.")


@rule(
    "verified-backup",
    section="6.3",
    rows=("R-6.3-10", "R-13-03"),
    severity=Severity.WARNING,
    looks_at="backups of each dataset and which were verified",
    why="Without a verified backup on the volume nobody knows whether any of them can be used.",
    fix="Verify a backup, and keep at least one verified.",
)
def verified_backup(facts: Facts) -> Iterator[Hit]:
    for dataset in facts.datasets:
        mine = [backup for backup in facts.backups if backup.dataset == dataset.name]
        if mine and not any(backup.verified for backup in mine):
            yield Hit(dataset.name, f"No backup of {len(mine)} was verified.")


@rule(
    "backup-age",
    section="5.2",
    rows=("R-5.2-06",),
    severity=Severity.WARNING,
    looks_at="the last backup of each dataset",
    why="What happened since then is lost in a restore.",
    fix="Find out why the schedule does not run; run a backup.",
)
def backup_age(facts: Facts) -> Iterator[Hit]:
    for dataset in facts.datasets:
        times = [backup.time for backup in facts.backups if backup.dataset == dataset.name and backup.time]
        if times and facts.now - max(times) > _WEEK:
            yield Hit(dataset.name, f"Its last backup is {(facts.now - max(times)).days} days old.")


@rule(
    "too-many-mails",
    section="5.2",
    rows=("R-5.2-07",),
    severity=Severity.NOTE,
    looks_at="notification of each policy",
    why="Nobody reads a mail after every backup; the one that tells of an error is lost among them.",
    fix="Notify on errors and warnings.",
)
def too_many_mails(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        if policy.notify == "always":
            yield Hit(f"{dataset.name} {policy.name}", "A mail after every backup.")


@rule(
    "variables-in-prescript",
    section="6.5",
    rows=("R-6.5-03", "R-6.5-02"),
    severity=Severity.WARNING,
    looks_at="arguments of scripts before the backup",
    why="The names exist only after the backup: a script before it gets the variable's name instead.",
    fix="Use the variables in the script after the backup.",
)
def variables_in_prescript(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        found = [name for name in _VARIABLES if name.casefold() in policy.pre.casefold()]
        if found:
            yield Hit(f"{dataset.name} {policy.name}", f"The script before the backup uses {listed(found)}.")


@rule(
    "snapinfo-variable",
    section="6.5",
    rows=("R-6.5-04",),
    severity=Severity.WARNING,
    looks_at="arguments of scripts after the backup; clustered VMs",
    why="$SnapInfoSnapshot is supported for dedicated VMs only; on a cluster it is empty.",
    fix="Find the Snapshot copy on the array instead.",
)
def snapinfo_variable(facts: Facts) -> Iterator[Hit]:
    for dataset, policy in policies(facts):
        shared = any(vm.clustered for vm in facts.members(dataset))
        if shared and _VARIABLES[2].casefold() in policy.post.casefold():
            yield Hit(f"{dataset.name} {policy.name}", "$SnapInfoSnapshot with clustered VMs.")


@rule(
    "mirror-to-update",
    section="6.2",
    rows=("R-6.2-09", "R-5.2-04"),
    severity=Severity.WARNING,
    looks_at="policies that update mirrors; SnapMirror relationships of their volumes",
    why="There is nothing to update: the other site does not get the backups.",
    fix="Create a SnapMirror relationship for the volume, and for that of SnapInfo.",
)
def mirror_to_update(facts: Facts) -> Iterator[Hit]:
    mirrored = {mirror.source for mirror in facts.mirrors}
    for dataset, policy in policies(facts):
        missing = [name for svm, name in sorted(facts.volumes_of(dataset)) if f"{svm}:{name}" not in mirrored]
        if policy.replicate and missing:
            yield Hit(f"{dataset.name} {policy.name}", f"No mirror of {listed(missing)}.")


def limit_of(facts: Facts, volume: f.Volume) -> float:
    """How much of its limit a volume uses."""
    return len(volume.snapshots) / facts.snapshot_limit


@rule(
    "snapshot-limit",
    section="6.3",
    rows=("R-6.3-02",),
    severity=Severity.ERROR,
    looks_at="Snapshot copies that volumes with LUNs hold now",
    why="The limit counts all of them, whoever made them; at the limit every backup fails.",
    fix="Delete backups that are no longer needed, through SMHV.",
)
def snapshot_limit(facts: Facts) -> Iterator[Hit]:
    for key in sorted({(lun.svm, lun.volume) for lun in facts.array.luns}):
        volume = facts.volume.get(key)
        if volume is not None and limit_of(facts, volume) > 0.8:
            yield Hit(volume.name, f"{len(volume.snapshots)} of {facts.snapshot_limit} Snapshot copies.")
