"""Failover clusters and their shared volumes (TR 6.7, 11.2, 11.3, appendix)."""

from __future__ import annotations

from collections.abc import Iterator

from smhvlab.advisor import facts as f
from smhvlab.advisor.rule import Action, Hit, Severity, listed, rule
from smhvlab.advisor.site_facts import Facts

_DIRECT = ("Direct", "")


@rule(
    "nodes-up",
    section="7",
    rows=("R-7-01", "R-3.4-04"),
    severity=Severity.ERROR,
    looks_at="states of the cluster's nodes",
    why="The others carry its VMs; there is less room for the next failure.",
    fix="Start the node's cluster service.",
)
def nodes_up(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        for name, state in cluster.nodes.items():
            if state not in ("Up", "Joining"):
                yield Hit(name, f"The node is {state.casefold()}.")


@rule(
    "all-nodes-in-profile",
    section="6.1",
    rows=("R-6.1-01",),
    severity=Severity.WARNING,
    looks_at="nodes of the cluster; hosts of the profile",
    why="SMHV is on every node; what this console does not know it cannot look after.",
    fix="Add the node to the profile.",
)
def all_nodes_in_profile(facts: Facts) -> Iterator[Hit]:
    known = {*facts.host, *(name.casefold() for name, _ in facts.silent)}
    for cluster in facts.clusters:
        missing = [name for name in cluster.nodes if name.casefold() not in known]
        if missing:
            yield Hit(cluster.name, f"Not in the profile: {listed(missing)}.")


@rule(
    "quorum-witness",
    section="appendix",
    rows=("R-AH-06",),
    severity=Severity.WARNING,
    looks_at="witness of the cluster",
    why="With an even number of nodes and no witness a split leaves no majority.",
    fix="Create a small LUN with SnapDrive and make it the disk witness.",
)
def quorum_witness(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        if not cluster.quorum and len(cluster.nodes) % 2 == 0:
            yield Hit(cluster.name, f"{len(cluster.nodes)} nodes and no witness.")


@rule(
    "cluster-networks",
    section="appendix",
    rows=("R-AH-04",),
    severity=Severity.NOTE,
    looks_at="networks of the cluster and their roles",
    why="Heartbeat, live migration, redirected I/O, clients and iSCSI disturb each other on one network.",
    fix="Give the cluster at least a client and an internal network, and keep iSCSI out of the cluster's use.",
)
def cluster_networks(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        used = [name for name, role in cluster.networks.items() if role != "None"]
        if cluster.networks and len(used) < 2:
            yield Hit(cluster.name, f"The cluster uses only {listed(used) or 'no network'}.")


@rule(
    "asymmetric",
    section="11.3",
    rows=("R-11.3-01",),
    severity=Severity.ERROR,
    looks_at="which nodes see the disk of each shared volume",
    why="VMs on shared volumes that only some of the nodes have are not supported.",
    fix="Map the LUN to all nodes.",
)
def asymmetric(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        nodes = [host for host in facts.known("disks") if host.cluster == cluster.name]
        for csv in cluster.csvs:
            home = facts.home(nodes[0].name, csv.path) if nodes else None
            if home is None or home.disk is None:
                continue
            seen = {node.name for node in nodes if home.disk.unique_id in {d.unique_id for d in node.disks}}
            missing = [node.name for node in nodes if node.name not in seen]
            if missing:
                yield Hit(csv.path, f"{listed(missing)} does not see its disk.")


@rule(
    "redirected",
    section="appendix",
    rows=("R-AR-01",),
    severity=Severity.WARNING,
    looks_at="how each node reaches each shared volume",
    why="Redirected, every write of the node goes over the network to the owner.",
    fix="Resume the volume (Resume-ClusterResource), or mend the node's paths to the array.",
)
def redirected(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        for csv in cluster.csvs:
            bad = [f"{node} {state}" for node, state in csv.access.items() if state not in _DIRECT]
            if bad:
                by_user = any(state == "FileSystemRedirected" for state in csv.access.values())
                action = Action("redirected access", csv.name, "on", "off", cluster.name) if by_user else None
                yield Hit(csv.path, f"{listed(bad)}.", action=action)


@rule(
    "csv-online",
    section="7",
    rows=("R-7-01",),
    severity=Severity.ERROR,
    looks_at="states of the shared volumes",
    why="VMs on it have failed, and it cannot be backed up.",
    fix="Bring the resource online; look at the LUN's maps and state.",
)
def csv_online(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        for csv in cluster.csvs:
            if csv.state != "Online":
                yield Hit(csv.path, f"The shared volume is {csv.state.casefold()}.")


def owners_on(facts: Facts, csv: f.Csv) -> dict[str, list[str]]:
    """Hosts of the VMs on a shared volume, with the names of the VMs."""
    owners: dict[str, list[str]] = {}
    for vm in facts.vms:
        homes = (facts.home(vm.host, path) for _, path in facts.files(vm))
        if any(home is not None and home.csv is not None and home.csv.path == csv.path for home in homes):
            owners.setdefault(vm.host, []).append(vm.name)
    return owners


@rule(
    "csv-owners",
    section="appendix",
    rows=("R-AR-02", "R-12-01"),
    severity=Severity.WARNING,
    eras=("2008r2",),
    looks_at="owners of the VMs on each shared volume",
    why="Each owner needs a shadow copy set and two Snapshot copies of its own, and the volume moves between them.",
    fix="Keep all VMs of a shared volume on one node: one volume per node and tier.",
)
def csv_owners(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        for csv in cluster.csvs:
            owners = owners_on(facts, csv)
            if len(owners) > 1:
                told = listed(f"{host}: {', '.join(names)}" for host, names in sorted(owners.items()))
                yield Hit(csv.path, f"VMs of {len(owners)} nodes ({told}).")


@rule(
    "csv-with-its-vms",
    section="appendix",
    rows=("R-AR-02", "R-AR-01"),
    severity=Severity.NOTE,
    eras=("2008r2", "2012"),
    looks_at="owner of each shared volume and of its VMs",
    why="Metadata of VMs on other nodes goes over the network to the owner.",
    fix="Move the volume to the node that runs its VMs, and give both the same preferred owner.",
)
def csv_with_its_vms(facts: Facts) -> Iterator[Hit]:
    for cluster in facts.clusters:
        for csv in cluster.csvs:
            owners = owners_on(facts, csv)
            if owners and csv.owner.casefold() not in {host.casefold() for host in owners}:
                yield Hit(csv.path, f"{csv.owner} owns it, its VMs run on {listed(sorted(owners))}.")


@rule(
    "vm-highly-available",
    section="6.7",
    rows=("R-6.7-10", "R-8-10"),
    severity=Severity.WARNING,
    looks_at="VMs on shared disks that are no role of the cluster",
    why="SMHV does not restore the cluster's configuration: a restored VM has to be made highly available again.",
    fix="Add-ClusterVirtualMachineRole.",
)
def vm_highly_available(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        homes = (facts.home(vm.host, path) for _, path in facts.files(vm))
        if not vm.clustered and any(home is not None and home.shared for home in homes):
            yield Hit(vm.name, "On a shared disk, and no role of the cluster.")


@rule(
    "vm-on-shared-disk",
    section="6.1",
    rows=("R-6.1-01", "R-3.4-04"),
    severity=Severity.ERROR,
    looks_at="where the files of clustered VMs lie",
    why="A clustered VM on a disk that only one node sees cannot fail over.",
    fix="Move its storage to a shared volume.",
)
def vm_on_shared_disk(facts: Facts) -> Iterator[Hit]:
    for vm in facts.vms:
        if not vm.clustered:
            continue
        own = [
            path
            for _, path in facts.files(vm)
            if (home := facts.home(vm.host, path)) is not None and home.lun is not None and not home.shared
        ]
        if own:
            yield Hit(vm.name, f"On a disk of {vm.host} alone: {listed(own)}.")
