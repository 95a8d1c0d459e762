"""What a failover cluster is made of, before anything has happened on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkSpec:
    """A cluster network.

    Attributes:
        role: 0 not used by the cluster, 1 between the nodes only, 3 also for clients.
        subnet: first three numbers of its addresses, e.g. ``10.10.2``; node n has the address ``.n + 30``.
    """

    name: str
    subnet: str
    role: int
    metric: int


@dataclass(frozen=True)
class FailoverSpec:
    """A failover cluster of Hyper-V hosts.

    Attributes:
        nodes: names of the hosts, in the order of their node numbers.
        address: address of the cluster's name.
        era: ``2008r2``, ``2012`` or ``2022``.
    """

    name: str
    nodes: tuple[str, ...]
    address: str
    era: str = "2012"
    domain: str = "LAB"
    networks: tuple[NetworkSpec, ...] = (
        NetworkSpec("Management", "10.10.0", 3, 70_000),
        NetworkSpec("Cluster and CSV", "10.10.2", 1, 30_000),
        NetworkSpec("Live Migration", "10.10.3", 1, 40_000),
        NetworkSpec("iSCSI", "10.10.1", 0, 80_000),
    )

    @property
    def heartbeat(self) -> float:
        """Lab seconds after which a silent node is taken for dead."""
        return 10.0 if self.era == "2022" else 5.0

    @property
    def dynamic_quorum(self) -> bool:
        """Whether a node that has left loses its vote."""
        return self.era != "2008r2"

    @property
    def csvfs(self) -> bool:
        """Whether shared volumes have a file system of their own (CSVFS) with a volume GUID of its own."""
        return self.era != "2008r2"

    @property
    def functional_level(self) -> int:
        """ClusterFunctionalLevel."""
        return {"2008r2": 7, "2012": 8}.get(self.era, 11)
