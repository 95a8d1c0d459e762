"""The array itself: controllers, interfaces, licences, mirrors, and what backups left (TR 5.4, 6, 7, 8, appendix)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smhvlab.advisor import facts as f
from smhvlab.advisor.rule import Action, Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts

_LICENCES = {
    "snapmanagersuite": "SMHV itself, if it is licensed by storage",
    "flexclone": "mounting and recovering backups",
    "snaprestore": "restoring VMs",
}
_GUID = re.compile(r"\{[0-9a-fA-F-]{36}\}(_backup)?\Z")
_LATE = 24 * 60 * 60
MIRRORED = ("snapmirrored", "in_sync", "synchronizing")
"""States of a relationship that brings data."""


@rule(
    "licences",
    section="5.4",
    rows=("R-5.4-02",),
    severity=Severity.ERROR,
    looks_at="licences of the array",
    why="With storage-based licences every array needs SMHV's; FlexClone and SnapRestore do its work.",
    fix="Add the licence, or license SMHV on the hosts.",
)
def licences(facts: Facts) -> Iterator[Hit]:
    known = facts.array.licences
    if not known:
        return
    # ONTAP One holds them all under other names
    for name, what in _LICENCES.items():
        if name not in known and "ontap_one" not in known:
            yield Hit(facts.array.name, f"The licence {name} is missing ({what}).")


@rule(
    "mirror-licence",
    section="5.4",
    rows=("R-5.4-02", "R-3.4-03"),
    severity=Severity.ERROR,
    looks_at="licences of the array; policies that update mirrors",
    why="Backups cannot be mirrored without SnapMirror.",
    fix="Add the licence snapmirror.",
)
def mirror_licence(facts: Facts) -> Iterator[Hit]:
    wanted = bool(facts.mirrors) or any(p.replicate for d in facts.datasets for p in d.policies)
    if wanted and facts.array.licences and "snapmirror" not in facts.array.licences:
        yield Hit(facts.array.name, "The licence snapmirror is missing.")


@rule(
    "ha-pair",
    section="7.1",
    rows=("R-7.1-01", "R-13-03"),
    severity=Severity.WARNING,
    looks_at="high availability of each controller",
    why="One controller is a single point of failure for every VM on it.",
    fix="Use pairs of controllers, and enable storage failover.",
)
def ha_pair(facts: Facts) -> Iterator[Hit]:
    for node in facts.array.nodes:
        if not node.ha:
            yield Hit(node.name, "High availability is off.")


@rule(
    "controllers-up",
    section="7.1",
    rows=("R-7-01", "R-7.1-01"),
    severity=Severity.ERROR,
    looks_at="state of each controller",
    why="While a controller is down its partner carries both, and nobody carries the partner.",
    fix="Mend the controller, and give back.",
)
def controllers_up(facts: Facts) -> Iterator[Hit]:
    for node in facts.array.nodes:
        if not node.up:
            yield Hit(node.name, "It is down.")
        elif node.taken_over:
            yield Hit(node.name, "It has taken its partner over, and has not given back.")


@rule(
    "lif-on-each-node",
    section="7.1",
    rows=("R-7.1-01", "R-AC-01"),
    severity=Severity.WARNING,
    looks_at="iSCSI interfaces of the SVMs that serve LUNs, and their controllers",
    why="iSCSI interfaces do not move in a takeover: without one on the partner all paths are lost.",
    fix="Give the SVM an iSCSI interface on each controller of the pair.",
)
def lif_on_each_node(facts: Facts) -> Iterator[Hit]:
    nodes = [node.name for node in facts.array.nodes]
    for svm in sorted({lun.svm for lun in facts.array.luns}):
        mine = [lif for lif in facts.array.lifs if lif.svm == svm and any("iscsi" in s for s in lif.services)]
        missing = [name for name in nodes if name not in {lif.node for lif in mine if lif.up}]
        if mine and missing:
            yield Hit(svm, f"No iSCSI interface that is up on {listed(missing)}.")


@rule(
    "svm-management",
    section="appendix",
    rows=("R-AC-01", "R-AH-05"),
    severity=Severity.WARNING,
    looks_at="management interfaces of the SVMs that serve LUNs",
    why="SnapDrive reaches the SVM over its management interface.",
    fix="Give the SVM a management interface.",
)
def svm_management(facts: Facts) -> Iterator[Hit]:
    for svm in sorted({lun.svm for lun in facts.array.luns}):
        mine = [lif for lif in facts.array.lifs if lif.svm == svm]
        if mine and not any("management" in service for lif in mine for service in lif.services if lif.up):
            yield Hit(svm, "No management interface that is up.")


@rule(
    "intercluster-lifs",
    section="8",
    rows=("R-8-17", "R-AC-03"),
    severity=Severity.ERROR,
    looks_at="intercluster interfaces of each controller; peers and mirrors to other clusters",
    why="Mirrors between clusters need at least one intercluster interface on every controller.",
    fix="Create one on a data port or on a port of its own.",
)
def intercluster_lifs(facts: Facts) -> Iterator[Hit]:
    for array in (facts.array, *([facts.partner.array] if facts.partner is not None else [])):
        having = {lif.node for lif in array.lifs if lif.up and any("intercluster" in s for s in lif.services)}
        missing = [node.name for node in array.nodes if node.name not in having]
        if array.peers and missing and "lifs" not in array.unknown:
            yield Hit(array.name, f"No intercluster interface on {listed(missing)}.")


@rule(
    "array-snapshot-policy",
    section="appendix",
    rows=("R-AG-01", "R-6.3-05", "R-6.3-02"),
    severity=Severity.WARNING,
    looks_at="Snapshot policy of volumes with LUNs of VMs",
    why="The array's own Snapshot copies count to the limit, and one of them in the middle of a backup fails it.",
    fix="Set the Snapshot policy of the volume to none.",
)
def array_snapshot_policy(facts: Facts) -> Iterator[Hit]:
    used = {(lun.svm, lun.volume) for lun in (*facts.vms_on, *facts.snapinfo_luns())}
    for key in sorted(used):
        volume = facts.volume.get(key)
        if volume is not None and volume.type == "rw" and volume.snapshot_policy not in ("none", ""):
            action = Action("Snapshot policy", volume.name, volume.snapshot_policy, "none", volume.svm)
            yield Hit(volume.name, f"Its Snapshot policy is {volume.snapshot_policy}.", action=action)


@rule(
    "orphan-copies",
    section="12",
    rows=("R-12-08",),
    severity=Severity.WARNING,
    looks_at="names of Snapshot copies",
    why="A name in braces is a shadow copy set whose requestor died before it was renamed: no backup knows it.",
    fix="Delete it, unless a backup runs at this moment.",
)
def orphan_copies(facts: Facts) -> Iterator[Hit]:
    known = {name for backup in facts.backups for name in backup.snapshots}
    for volume in facts.array.volumes:
        names = [s.name for s in volume.snapshots if _GUID.match(s.name) and s.name not in known]
        if names:
            yield Hit(volume.name, f"{listed(names)} of no backup.")


@rule(
    "provider-clones",
    section="6.2",
    rows=("R-6.2-08", "R-6.2-06"),
    severity=Severity.WARNING,
    looks_at="LUNs named as the provider names its clones",
    why="A clone that is left keeps its Snapshot copy, and looks like its parent to every host it is mapped to.",
    fix="Unmap and delete it, unless a backup runs at this moment.",
)
def provider_clones(facts: Facts) -> Iterator[Hit]:
    for lun in facts.array.luns:
        if lun.name.endswith(".rws"):
            yield Hit(lun.name, f"A clone of the VSS provider, mapped to {listed(lun.igroups) or 'nothing'}.")


@rule(
    "busy-copies",
    section="6.8",
    rows=("R-6.8-10",),
    severity=Severity.NOTE,
    looks_at="owners of Snapshot copies of backups",
    why="A mounted backup keeps its Snapshot copy and those before it from being deleted.",
    fix="Unmount the backup when it is not used.",
)
def busy_copies(facts: Facts) -> Iterator[Hit]:
    known = {(volume, name) for backup in facts.backups for volume in backup.volumes for name in backup.snapshots}
    for volume in facts.array.volumes:
        for copy in volume.snapshots:
            owners = [owner for owner in copy.owners if "clone" in owner.casefold()]
            if owners and (f"{volume.svm}:{volume.name}", copy.name) in known:
                yield Hit(f"{volume.name} {copy.name}", f"Busy: {listed(owners)}.")


@rule(
    "backup-complete",
    section="6.7",
    rows=("R-6.7-06", "R-11.7-01"),
    severity=Severity.ERROR,
    looks_at="backups of SnapInfo; Snapshot copies on the array",
    why="SnapInfo offers a backup whose Snapshot copy is gone or whose volume was renamed: it cannot be restored.",
    fix="Delete the backup; take another.",
)
def backup_complete(facts: Facts) -> Iterator[Hit]:
    there = {(f"{v.svm}:{v.name}", s.name) for v in facts.array.volumes for s in v.snapshots}
    for backup in facts.backups:
        missing = [v for v in backup.volumes if not any((v, name) in there for name in backup.snapshots)]
        if missing:
            yield Hit(backup.name, f"No Snapshot copy of it in {listed(missing)}.")


def mirrors_of(facts: Facts) -> Iterator[tuple[f.Mirror, str]]:
    """Mirrors of this array's volumes, with ``svm:volume``."""
    for mirror in facts.mirrors:
        svm, _, name = mirror.source.partition(":")
        if (svm, name) in facts.volume and mirror.source_cluster in ("", facts.array.name):
            yield mirror, mirror.source


@rule(
    "mirror-healthy",
    section="8",
    rows=("R-8-05", "R-8-07"),
    severity=Severity.ERROR,
    looks_at="state and health of SnapMirror relationships",
    why="A mirror that is not updated is a second site with old data.",
    fix="Resynchronise or mend the relationship.",
)
def mirror_healthy(facts: Facts) -> Iterator[Hit]:
    for mirror in facts.mirrors:
        if mirror.state and (not mirror.healthy or mirror.state not in MIRRORED):
            health = "" if mirror.healthy else ", unhealthy"
            yield Hit(mirror.destination, f"Mirror of {mirror.source}: {mirror.state}{health}.")


@rule(
    "mirror-late",
    section="8",
    rows=("R-8-05",),
    severity=Severity.WARNING,
    looks_at="lag of SnapMirror relationships",
    why="The lag is what is lost when this site is.",
    fix="Update mirrors after each backup.",
)
def mirror_late(facts: Facts) -> Iterator[Hit]:
    for mirror in facts.mirrors:
        if mirror.lag is not None and mirror.lag > _LATE and mirror.state == "snapmirrored":
            yield Hit(mirror.destination, f"{mirror.lag // 3600} hours behind {mirror.source}.")


@rule(
    "snapinfo-mirrored",
    section="8",
    rows=("R-8-05", "R-8-08"),
    severity=Severity.ERROR,
    looks_at="mirrors of VM volumes and of the SnapInfo volume",
    why="Without SnapInfo the other site has Snapshot copies of VMs that nobody can restore.",
    fix="Mirror the SnapInfo volume too, and update it after each backup.",
)
def snapinfo_mirrored(facts: Facts) -> Iterator[Hit]:
    mirrored = {source for _, source in mirrors_of(facts)}
    data = [f"{lun.svm}:{lun.volume}" for lun in facts.vms_on]
    if not mirrored & set(data):
        return
    for info in facts.snapinfo_luns():
        if f"{info.svm}:{info.volume}" not in mirrored:
            yield Hit(info.volume, "VMs are mirrored, SnapInfo is not.")


@rule(
    "dataset-mirrored",
    section="8",
    rows=("R-8-05",),
    severity=Severity.WARNING,
    looks_at="mirrors of the volumes of each dataset",
    why="A dataset of which only a part is mirrored cannot be failed over.",
    fix="Mirror all volumes of the dataset.",
)
def dataset_mirrored(facts: Facts) -> Iterator[Hit]:
    mirrored = {source for _, source in mirrors_of(facts)}
    for dataset in facts.datasets:
        volumes = {f"{svm}:{name}" for svm, name in facts.volumes_of(dataset)}
        missing = sorted(volumes - mirrored)
        if missing and missing != sorted(volumes):
            yield Hit(dataset.name, f"Not mirrored, unlike the others: {listed(missing)}.")
