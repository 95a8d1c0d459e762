"""Where the TR contradicts itself or is damaged (C1-C20): both readings, and which one is followed.

Each is a rule: it speaks up, as a note, on a site that is concerned by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from smhvlab.advisor import facts as f
from smhvlab.advisor.compatibility import smhv_of, version_of
from smhvlab.advisor.facts import ERAS
from smhvlab.advisor.rule import Hit, Rule, Severity, listed
from smhvlab.advisor.rules.clusters import owners_on
from smhvlab.advisor.rules.policies import policies
from smhvlab.advisor.site_facts import Facts

_2008R2: Final = ("2008r2",)


@dataclass(frozen=True)
class Contradiction:
    """Two readings of the TR.

    Attributes:
        id: C1 to C20.
        one, other: what it says where.
        followed: the reading that smhvlab follows, and why.
        concerns: names of the things of a site that are concerned.
    """

    id: str
    section: str
    rows: tuple[str, ...]
    one: str
    other: str
    followed: str
    concerns: Callable[[Facts], Iterable[str]]
    eras: tuple[str, ...] = ERAS

    def check(self, facts: Facts) -> Iterator[Hit]:
        """One finding with all things that are concerned."""
        names = dict.fromkeys(self.concerns(facts))
        if names:
            yield Hit(listed(names), f"One reading: {self.one} The other: {self.other} Followed: {self.followed}")


def _early_smhv(facts: Facts) -> list[str]:
    return [host.name for host in facts.hosts if smhv_of(host) < (1, 2)]


def _saved(facts: Facts) -> list[str]:
    return [dataset.name for dataset, policy in policies(facts) if policy.allow_saved]


def _ports(facts: Facts) -> list[str]:
    return [
        host.name for host in facts.known("ports") if 808 not in {port.number for port in host.ports if port.enabled}
    ]


def _dsm(facts: Facts) -> list[str]:
    return [host.name for host in facts.hosts if host.dsm.startswith("Data ONTAP DSM")]


def _appendix_software(facts: Facts) -> list[str]:
    wanted = {"SnapDrive": (6, 3), "Data ONTAP DSM": (3, 4), "Host Utilities": (5, 3)}
    return [
        host.name
        for host in facts.hosts
        if any((p := host.program(name)) and version_of(p.version)[:2] == version for name, version in wanted.items())
    ]


def _parallel(facts: Facts) -> list[str]:
    return [
        dataset.name
        for dataset in facts.datasets
        if len({policy.consistency for policy in dataset.policies}) > 1 and len(dataset.policies) > 1
    ]


def _application_backups(facts: Facts) -> list[str]:
    return sorted({backup.dataset for backup in facts.backups if backup.consistency == "application"})


def _distributed(facts: Facts) -> list[str]:
    return [dataset.name for dataset, policy in policies(facts) if policy.distributed is False]


def _intra(facts: Facts) -> list[str]:
    return [
        mirror.destination
        for mirror in facts.mirrors
        if mirror.source_cluster == mirror.destination_cluster or not mirror.source_cluster
    ]


def _golden(facts: Facts) -> list[str]:
    return sorted({volume.parent for volume in facts.array.volumes if volume.parent})


def _count_key(facts: Facts) -> list[str]:
    names = ("snapinfo_snaps_count",)
    return [
        host.name
        for host in facts.hosts
        for name in names
        for key in (f.SMHV_KEY, f.CLUSTER_KEY)
        if host.value(key, name)
    ]


def _slow(facts: Facts) -> list[str]:
    return [host.name for host in facts.hosts if any(event.id == 4364 for event in host.events)]


def _datasets_with_backups(facts: Facts) -> list[str]:
    return sorted({backup.dataset for backup in facts.backups})


def _moving(facts: Facts) -> list[str]:
    return [vm.name for vm in facts.vms if "MigratingVirtualMachine" in vm.status]


def _clustered_backups(facts: Facts) -> list[str]:
    backed = {identity for backup in facts.backups for identity in backup.vms}
    return [vm.name for vm in facts.vms if vm.clustered and vm.id in backed]


def _shared_csvs(facts: Facts) -> list[str]:
    return [
        csv.path
        for cluster in facts.clusters
        for csv in cluster.csvs
        if sum(map(len, owners_on(facts, csv).values())) > 1
    ]


def _without_dotnet(facts: Facts) -> list[str]:
    return [host.name for host in facts.known("software") if host.program(".NET Framework 3.5") is None]


CONTRADICTIONS: Final = (
    Contradiction(
        "C1",
        "6.4",
        ("R-6.4-04", "R-13-03"),
        "6.4 disables saved-state backups for mission-critical VMs.",
        "13 enables them.",
        "6.4, because saving a VM is downtime.",
        _saved,
    ),
    Contradiction(
        "C2",
        "5.3",
        ("R-5.3-01",),
        "5.3: port 808 is that of SMHV and SnapDrive.",
        "13: it is that of SnapDrive alone.",
        "5.3: 808 is open on every host, for both.",
        _ports,
        ("2008r2", "2012"),
    ),
    Contradiction(
        "C3",
        "7.2",
        ("R-7.2-02",),
        "7.2 sends the reader to Table 3 for the DSM.",
        "Table 3 is about virtual disks; the DSM is in Table 1.",
        "Table 1.",
        _dsm,
        _2008R2,
    ),
    Contradiction(
        "C4",
        "appendix",
        ("R-AH-03",),
        "The appendix installs SnapDrive 6.3 P2, MPIO 3.4 and Host Utilities 5.3.",
        "5.1 and Table 1 want SnapDrive 6.4 and DSM 3.5 for clustered Data ONTAP.",
        "5.1 and Table 1; the appendix describes a 7-Mode installation.",
        _appendix_software,
        ("2008r2", "2012"),
    ),
    Contradiction(
        "C5",
        "7.2",
        ("R-7.2-02", "R-11.1-01"),
        "7.2: Data ONTAP DSM 3.2R1 or later.",
        "Table 1: 3.5 for clustered Data ONTAP; 11.1: none on Windows Server 2012.",
        "Each for its own era: 3.5 on 2008 R2, MSDSM on 2012.",
        _dsm,
        ("2008r2", "2012"),
    ),
    Contradiction(
        "C6",
        "11",
        ("R-5.4-06", "R-11-01"),
        "5.4: SMHV must run on Windows Server 2008 R2.",
        "11: it runs on Windows Server 2012.",
        "5.4 for SMHV 1.1, 11 for SMHV 1.2.",
        _early_smhv,
        ("2012",),
    ),
    Contradiction(
        "C7",
        "10",
        ("R-6.2-11", "R-10-03", "R-AG-01"),
        "6.2: one backup on a host at a time; the guidelines: never application and crash together.",
        "10: crash-consistent backups run beside others.",
        "One application-consistent backup on a host, one of any kind on a volume; crash elsewhere may run beside.",
        _parallel,
    ),
    Contradiction(
        "C8",
        "6.3",
        ("R-6.3-08", "R-6.5-02"),
        "6.3: a backup leaves two Snapshot copies.",
        "With LUN clones on clustered Data ONTAP the first is deleted, and only the one with _backup stays.",
        "6.3: both are counted, so that a budget is never too small.",
        _application_backups,
        ("2008r2", "2012"),
    ),
    Contradiction(
        "C9",
        "11.2",
        ("R-12-09",),
        "11.2 sends the reader to 11.3 for distributed backups.",
        "11.3 is about asymmetric clusters.",
        "12, which describes them.",
        _distributed,
        ("2012",),
    ),
    Contradiction(
        "C10",
        "8",
        ("R-8-09", "R-8-13"),
        'The steps of 8 refer to "step 5", "step 6" and "step 3".',
        "The numbers are off by one or more.",
        "The meaning: VM ids from Get-VMsFromBackup, names from Get-Backup, LUNs connected in step 5.",
        lambda facts: [mirror.destination for mirror in facts.mirrors],
    ),
    Contradiction(
        "C11",
        "appendix",
        ("R-T2-01", "R-8-17"),
        "Table 2: intracluster replication is between two clusters.",
        "8: within a cluster; between clusters it is intercluster.",
        "8.",
        _intra,
    ),
    Contradiction(
        "C12",
        "2.2",
        ("R-2.2-01", "R-6.8-08"),
        '"Three steps" to a single file are five, and the steps of 2.2 go on to 10 and begin again.',
        "The figure and the headings count by phase.",
        "The order in which the steps are printed.",
        _golden,
    ),
    Contradiction(
        "C13",
        "6.3",
        ("R-6.3-15",),
        "6.3 sets snapinfo_snaps_count in the key Server.",
        "Later documents have a sub-key with the name of the host or cluster below it.",
        "6.3; the value is read in the sub-key too.",
        _count_key,
    ),
    Contradiction(
        "C14",
        "9",
        ("R-9-08",),
        "9: the provider has to initiate the Snapshot copy within 10 seconds.",
        "VSS holds writes for at most 10 seconds: it has to be finished.",
        "Finished: CommitSnapshots is measured from begin to end.",
        _slow,
    ),
    Contradiction(
        "C15",
        "6.7",
        ("R-6.7-05",),
        'A warning of 6.7 reads "The VM is not [currently running]", which may mean that it does not exist.',
        "It may also mean that it is switched off.",
        "It does not run on this host: off, elsewhere, or gone.",
        lambda facts: [
            vm.name
            for vm in facts.vms
            if vm.state != "Running" and any(vm.id in backup.vms for backup in facts.backups)
        ],
    ),
    Contradiction(
        "C16",
        "8",
        ("R-8-02",),
        "8 names the backup with -backup.",
        "Later releases call the parameter -BackupName.",
        "Both are understood.",
        _datasets_with_backups,
    ),
    Contradiction(
        "C17",
        "6.6",
        ("R-6.6-01",),
        "6.6 is printed as a best practice.",
        "It states a limit: a VM that is being moved is not backed up.",
        "The limit: the VM is left out, with an error, and the others are backed up.",
        _moving,
    ),
    Contradiction(
        "C18",
        "6.7",
        ("R-6.7-04", "R-6.7-10"),
        "6.7: the writer deletes and registers the VM.",
        "The writer knows nothing of clusters: the role's resources must be offline before.",
        "The role is taken offline first, and made anew if it is gone.",
        _clustered_backups,
    ),
    Contradiction(
        "C19",
        "13",
        ("R-13-01", "R-AR-02"),
        "13: one VM on a LUN.",
        "The appendix and 6.2: many VMs on a cluster shared volume.",
        "One VM on ordinary shared disks, many on cluster shared volumes.",
        _shared_csvs,
    ),
    Contradiction(
        "C20",
        "11.1",
        ("R-11.1-03", "R-AP-01"),
        "11.1 asks for .NET 3.5.1, and the appendix for the command Vssadminlist.",
        ".NET 3.5 is what Windows Server 2012 has; the command is vssadmin list.",
        ".NET 3.5 and vssadmin list; slips of the pen are read as what they mean.",
        _without_dotnet,
        ("2012",),
    ),
)
"""All of them, in order."""


def rules() -> list[Rule]:
    """The contradictions as rules."""
    return [
        Rule(
            id=f"reading-{each.id.casefold()}",
            section=each.section,
            rows=each.rows,
            severity=Severity.NOTE,
            eras=each.eras,
            looks_at="what of the site is concerned by a contradiction of the TR",
            why=f"{each.one} {each.other}",
            fix=f"Nothing has to be done: {each.followed}",
            check=each.check,
        )
        for each in CONTRADICTIONS
    ]
