"""The network between storage clusters: who reaches whom, and what is broken on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labenv.state import State

if TYPE_CHECKING:
    from labenv.ontap.core import Core


class LinkDown(Exception):
    """A cluster cannot be reached; the text says what is missing."""


class Interconnect:
    """All storage clusters of a lab as they reach each other.

    What is down or cut is part of the state: it outlives a restart and goes back with a restore.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._cores: dict[str, Core] = {}
        self._down = state.table("interconnect.down", bool)
        self._cut = state.table("interconnect.cut", bool)

    def attach(self, core: Core) -> None:
        """Connect a cluster, once; its name is that of its description."""
        self._cores[core.spec.name] = core

    @property
    def clusters(self) -> list[str]:
        """Names of all clusters in the order of the topology."""
        return list(self._cores)

    def peek(self, cluster: str) -> Core | None:
        """A cluster's records, whether it can be reached or not (what was known of it); None if there is none."""
        return self._cores.get(cluster)

    def at_address(self, address: str) -> Core | None:
        """The cluster that has an interface with an address."""
        for core in self._cores.values():
            if any(lif.address == address for lif in core.lifs.values()):
                return core
        return None

    def reach(self, here: Core, cluster: str) -> Core:
        """The records of a cluster, seen from another one; a cluster always reaches itself.

        Raises:
            LinkDown: it is down, the link is cut, or one of the two has no intercluster interface that is up.
        """
        if cluster == here.spec.name:
            return here
        there = self._cores.get(cluster)
        if there is None:
            raise LinkDown(f"cluster {cluster} does not answer")
        for core in (here, there):
            if self.is_down(core.spec.name):
                raise LinkDown(f"cluster {core.spec.name} is down")
        if self.is_cut(here.spec.name, cluster):
            raise LinkDown(f"there is no route between {here.spec.name} and {cluster}")
        for core in (here, there):
            if not intercluster_addresses(core):
                raise LinkDown(f"cluster {core.spec.name} has no operational intercluster interface")
        return there

    def is_reachable(self, here: str, there: str) -> bool:
        """Whether two clusters reach each other now; raises KeyError for a name that there is not."""
        try:
            self.reach(self._cores[here], there)
        except LinkDown:
            return False
        return True

    # what an instructor breaks ----------------------------------------------------------------------------------------

    def is_down(self, cluster: str) -> bool:
        """Whether a whole cluster is without power."""
        return self._down.get(cluster, False)

    def set_down(self, cluster: str, down: bool = True) -> None:
        """Take the power from a cluster, or give it back: no API, no iSCSI, no peers. The caller commits.

        Raises:
            KeyError: there is no such cluster.
        """
        self._cores[cluster].topology += 1
        if down:
            self._down[cluster] = True
        else:
            self._down.pop(cluster, None)

    def is_cut(self, one: str, other: str) -> bool:
        """Whether the link between two clusters is cut."""
        return self._cut.get(_pair(one, other), False)

    def set_cut(self, one: str, other: str, cut: bool = True) -> None:
        """Cut the link between two clusters, or mend it. The caller commits.

        Raises:
            KeyError: there is no such cluster.
        """
        for name in (one, other):
            if name not in self._cores:
                raise KeyError(name)
        if cut:
            self._cut[_pair(one, other)] = True
        else:
            self._cut.pop(_pair(one, other), None)


def _pair(one: str, other: str) -> str:
    return "\x1f".join(sorted((one, other)))


def intercluster_addresses(core: Core) -> list[str]:
    """Addresses of a cluster's intercluster interfaces that are up."""
    up = {name for name in (node.name for node in core.nodes.values()) if core.node(name).state == "up"}
    return [
        lif.address
        for lif in core.lifs.values()
        if lif.service_policy == "default-intercluster" and lif.enabled and lif.node in up
    ]
