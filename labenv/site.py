"""A lab's site, assembled: clock, state, blocks, storage clusters and hosts, and what a power cut does to them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from labenv.causes.book import Causes
from labenv.clock import Clock
from labenv.costs import Costs
from labenv.fabric import Fabric
from labenv.faults import Faults
from labenv.ids import Ids
from labenv.interconnect import Interconnect
from labenv.ontap.array import Array
from labenv.ontap.blocks.reader import FileReader
from labenv.ontap.blocks.space import VolumeUsage
from labenv.ontap.blocks.store import BlockStore
from labenv.ontap.core import Login
from labenv.ontap.spec import AggregateSpec, ClusterSpec, LifSpec, SvmSpec
from labenv.populate import populate
from labenv.state import State, StateFolderMismatch
from labenv.topology import Cluster, Failover, HyperVHost, Topology
from labenv.windows.cluster.cluster import FailoverCluster
from labenv.windows.cluster.spec import FailoverSpec
from labenv.windows.host import Host
from labenv.windows.inventory import WINRM
from labenv.windows.machines import VmNotRunning
from labenv.windows.remoting.endpoint import Remoting
from labenv.windows.remoting.transport import connection_of
from labenv.windows.spec import HostSpec

App = Callable[[Any, Any, Any], Awaitable[None]]
log = logging.getLogger("labenv")


class LabSite:
    """Everything in one lab process. ``open`` loads or creates it; ``apps`` are what answers on the wires."""

    def __init__(
        self,
        folder: Path,
        *,
        topology: Topology,
        seed: int | None,
        realtime: float | None,
        endpoints: Mapping[str, Any],
    ) -> None:
        """``seed`` None: that of the folder, or 1. Raises StateFolderMismatch: the folder holds another lab."""
        self.folder = folder
        self.topology = topology
        self.failures: list[str] = []
        self._requests: set[asyncio.Task[Any]] = set()
        self._serving = asyncio.Event()
        self._serving.set()
        self._restoring = asyncio.Lock()
        self.state = State(folder / "state.db")
        self._settings = self.state.table("lab", int)
        try:
            self.seed = self._same_lab(seed)
        except StateFolderMismatch:
            self.state.db.close()
            raise
        self.clock = Clock(topology.start)  # nobody waits in real time while the site is built
        self._realtime = realtime
        if "now" in self._settings:
            self.clock.set(self._settings["now"])
        self.state.before_commit(self._keep_time)
        self.state.after_restore(self._recall_time)
        self.clock.on_failure = self._failed
        self.costs = Costs.load()
        self.faults = Faults(self.clock)
        self.ids = Ids(self.seed, self.state)
        capacity = sum(c.spares + sum(a.size for a in c.aggregate) for c in topology.cluster)
        self.blocks = BlockStore(folder / "blocks", self.state, capacity=capacity)
        self.fabric = Fabric()
        self.interconnect = Interconnect(self.state)
        self.arrays = [self._array(c, entry) for c, entry in zip(topology.cluster, endpoints["storage"], strict=True)]
        for array in self.arrays:
            self.fabric.attach(array)
        for array in self.arrays:
            array.before_snapshot(self._settle)
            array.logins(self._logins)
        self.hosts = [self._host(h, entry) for h, entry in zip(topology.host, endpoints["hyperv"], strict=True)]
        self.failover = [self._failover(f) for f in topology.failover]
        self.causes = Causes(self)
        self._remoting = [
            Remoting(
                host=host,
                clock=self.clock,
                ids=self.ids,
                faults=self.faults,
                users={entry["user"]: entry["password"]},
                commit=self.state.commit,
                listens=partial(host.inventory.runs, WINRM),
            )
            for host, entry in zip(self.hosts, endpoints["hyperv"], strict=True)
        ]

    def _same_lab(self, seed: int | None) -> int:
        """The lab's seed, when the folder is new or holds a lab of this topology and seed."""
        names = self.state.table("lab.topology", str)
        digest = hashlib.sha256(repr(self.topology).encode()).hexdigest()
        kept = names.setdefault("name", self.topology.name)
        other = "name another folder with --state, or delete this one"
        if kept != self.topology.name:
            raise StateFolderMismatch(
                f"{self.folder} holds a lab of topology {kept}, not {self.topology.name}: {other}"
            )
        if names.setdefault("digest", digest) != digest:
            raise StateFolderMismatch(
                f"the topology {kept} is no longer what the lab in {self.folder} was made from: {other}"
            )
        found = self._settings.setdefault("seed", 1 if seed is None else seed)
        if seed not in (None, found):
            raise StateFolderMismatch(f"{self.folder} holds a lab of seed {found}, not {seed}: {other}")
        return found

    def _array(self, cluster: Cluster, entry: Mapping[str, Any]) -> Array:
        passwords = {s["name"]: s["password"] for s in entry["svms"]}
        spec = ClusterSpec(
            name=cluster.name,
            version=cluster.version,
            nodes=cluster.nodes,
            aggregates=tuple(AggregateSpec(a.name, a.node, int(a.size)) for a in cluster.aggregate),
            svms=tuple(
                SvmSpec(
                    s.name,
                    iscsi=s.iscsi,
                    lifs=tuple(LifSpec(i.name, i.address, i.node, i.service) for i in s.lif),
                    password=passwords[s.name],
                )
                for s in cluster.svm
            ),
            admin_password=entry["password"],
            licences=cluster.licences,
            snapshot_limit=cluster.snapshot_limit,
            lifs=(
                LifSpec("cluster_mgmt", cluster.management, cluster.nodes[0], "management"),
                *(LifSpec(i.name, i.address, i.node, i.service) for i in cluster.lif),
            ),
        )
        return Array(
            spec=spec,
            clock=self.clock,
            state=self.state,
            ids=self.ids,
            blocks=self.blocks,
            costs=self.costs,
            faults=self.faults,
            interconnect=self.interconnect,
        )

    def _host(self, host: HyperVHost, entry: Mapping[str, Any]) -> Host:
        failover = self.topology.failover_of(host.name)
        spec = HostSpec(
            name=host.name,
            address=host.address,
            iqn=host.iqn,
            era=self.topology.era,
            cluster=failover.name if failover is not None else None,
            inventory=self.topology.inventory_of(host.name),
            user=entry["user"].rpartition("\\")[2],
            password=entry["password"],
        )
        made = Host(
            spec=spec,
            folder=self.folder / "hosts",
            clock=self.clock,
            state=self.state,
            ids=self.ids,
            fabric=self.fabric,
            costs=self.costs,
            faults=self.faults,
        )
        made.logins.add(entry["sql"]["user"], entry["sql"]["password"])
        if "guest" in entry:
            made.guest_logins.add(entry["guest"]["user"], entry["guest"]["password"])
        for array in self.arrays:
            self._provider_login(made, array)
        return made

    def _failover(self, failover: Failover) -> FailoverCluster:
        return FailoverCluster(
            spec=FailoverSpec(
                name=failover.name, nodes=failover.nodes, address=failover.address, era=self.topology.era
            ),
            hosts=[h for h in self.hosts if h.name in failover.nodes],
            clock=self.clock,
            state=self.state,
            ids=self.ids,
            costs=self.costs,
        )

    def _power_cut(self) -> None:
        """Every host loses what it caches, and starts again."""
        for host in self.hosts:
            host.power_cut()
        for cluster in self.failover:
            cluster.power_cut()

    @staticmethod
    def _provider_login(host: Host, array: Array) -> None:
        """What an administrator enters into SnapDrive: an SVM's management address, user and password."""
        for svm in array.spec.svms:
            address = next((lif.address for lif in svm.lifs if lif.service == "management"), None)
            if address is not None and svm.iscsi:
                host.vss.settings.add(svm.name, address=address, user=svm.user, password=svm.password)

    def _keep_time(self) -> None:
        if self._settings.get("now") != self.clock.now:
            self._settings["now"] = self.clock.now

    def _recall_time(self) -> None:
        self.clock.set(self._settings["now"])

    def _settle(self, _volume: str) -> None:
        """Before a Snapshot copy: the guests' load has run up to this moment."""
        for host in self.hosts:
            host.settle()

    def _logins(self) -> Iterator[Login]:
        """The iSCSI sessions of every host."""
        for host in self.hosts:
            for session in host.initiator.sessions.values():
                yield Login(host.spec.iqn, session.target, session.portal, session.initiator_portal, session.identifier)

    def _failed(self, error: BaseException) -> None:
        log.error("a lab task failed", exc_info=error)
        self.failures.append(f"{type(error).__name__}: {error}")

    async def open(self) -> None:
        """Create the site's first contents, or continue after whatever ended the last process."""
        if "fresh" in self.state.checkpoints():
            self._power_cut()
        else:
            await populate(self)
            await self.checkpoint("fresh")
        self.clock.keep_pace(self._realtime)

    def apps(self) -> list[App]:
        """The ASGI apps in the topology's order: storage clusters, then hosts."""
        hosts = [_while_on(h, r.app) for h, r in zip(self.hosts, self._remoting, strict=True)]
        apps: list[App] = [*(a.app for a in self.arrays), *hosts]
        return [self._gate(app) for app in apps]

    def _gate(self, app: App) -> App:
        """The same app, whose requests a restore ends; later ones wait until it is done."""

        async def gated(scope: Any, receive: Any, send: Any) -> None:
            await self._serving.wait()
            task = asyncio.current_task()
            assert task is not None
            self._requests.add(task)
            try:
                await app(scope, receive, send)
            finally:
                self._requests.discard(task)

        return gated

    async def checkpoint(self, name: str) -> None:
        """Keep the whole site under a name; the guests' caches are written out first."""
        for host in self.hosts:
            host.flush()
        self.state.checkpoint(name)

    async def restore(self, name: str) -> None:
        """Back to a checkpoint: a power cut for the hosts, running commands end, the array's tables go back."""
        async with self._restoring:
            self._serving.clear()
            try:
                await self._end_work()
                self._power_cut()
                self.state.restore(name)
                self.faults.clear()
                self.costs.reset()
                self.failures.clear()
            finally:
                self._serving.set()

    async def _end_work(self) -> None:
        """End what is under way; it belongs to a past that is about to be replaced."""
        await self.clock.cancel_tasks()
        for remoting in self._remoting:
            await remoting.close()
        requests = list(self._requests)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        await self.clock.cancel_tasks()

    async def close(self) -> None:
        """Stop cleanly enough for the next start: what a power cut leaves, committed."""
        await self.clock.cancel_tasks()
        self._power_cut()
        for host in self.hosts:
            host.close()
        for array in self.arrays:
            array.close()
        self.state.close()  # commits, and the block store takes part in that
        self.blocks.close()

    def vm_states(self) -> dict[str, str]:
        """State of every VM by name."""
        return {vm.name: vm.state if h.powered else "Off" for h in self.hosts for vm in h.vms.values()}

    def guest_action(self, vm: str, action: str, arguments: Mapping[str, Any]) -> dict[str, object]:
        """Act inside a running VM, as somebody logged in there would. Raises ValueError."""
        off: VmNotRunning | None = None
        for host in self.hosts:  # after a failover two hosts know the VM
            if vm in (record.name for record in host.vms.values()):
                try:
                    guest = host.guest(vm)
                except VmNotRunning as error:
                    off = error
                    continue
                result = guest.do(action, **arguments)
                for record in [record for record in host.vms.values() if record.name == vm]:
                    host.machines.look_after(record)
                self.state.commit()
                return {"result": result}
        if off is not None:
            raise ValueError(f"the VM {vm} is not running: start it first") from off
        raise ValueError(f"no VM {vm!r}: one of {', '.join(self.vm_states())}")

    async def host_action(self, name: str, action: str, arguments: Mapping[str, Any]) -> dict[str, object]:
        """Do something to a host from outside. Raises ValueError."""
        host = next((h for h in self.hosts if h.name == name), None)
        if host is None:
            raise ValueError(f"no host {name!r}: one of {', '.join(h.name for h in self.hosts)}")
        if action in ("power_off", "power_on"):
            if host.powered == (action == "power_on"):
                raise ValueError(f"the host {name} is switched {'on' if host.powered else 'off'} already")
            with self.clock.request():
                await self.switch(host, on=action == "power_on")
        elif action in ("cut_path", "mend_path"):
            portal = str(arguments.get("portal"))
            if portal not in host.initiator.paths():
                raise ValueError(f"{name} has no session to {portal!r}: {', '.join(host.initiator.paths()) or 'none'}")
            host.initiator.cut(portal, cut=action == "cut_path")
        elif action != "paths":
            raise ValueError(f"no action {action!r}: power_off, power_on, cut_path, mend_path or paths")
        self.state.commit()
        return {"paths": host.initiator.paths()}

    def storage_action(self, name: str, action: str, arguments: Mapping[str, Any]) -> dict[str, object]:
        """Do something to a storage cluster from outside. Raises ValueError."""
        network = self.interconnect
        others = [cluster for cluster in network.clusters if cluster != name]
        if name not in network.clusters:
            raise ValueError(f"no storage cluster {name!r}: one of {', '.join(network.clusters)}")
        if action in ("power_off", "power_on"):
            if network.is_down(name) == (action == "power_off"):
                raise ValueError(f"the storage cluster {name} is switched {action.removeprefix('power_')} already")
            network.set_down(name, action == "power_off")
        elif action in ("cut_link", "mend_link"):
            peer = str(arguments.get("peer"))
            if peer not in others:
                raise ValueError(f"{name} has no link to {peer!r}: {', '.join(others) or 'there is no other cluster'}")
            network.set_cut(name, peer, action == "cut_link")
        elif action != "links":
            raise ValueError(f"no action {action!r}: power_off, power_on, cut_link, mend_link or links")
        self.state.commit()
        return {"links": {other: network.is_reachable(name, other) for other in others}}

    async def switch(self, host: Host, *, on: bool) -> None:
        """Cut a host's power or give it back, on its cluster's behalf too."""
        if not on:  # whoever is connected loses the connection, and what runs there ends
            await self._remoting[self.hosts.index(host)].close()
        membership = host.cluster.membership if host.cluster is not None else None
        if membership is not None:
            (membership.boot if on else membership.crash)(host.name)
        elif on:
            host.power_on()
        else:
            host.power_off()

    def block_file(self, volume: str, path: str, snapshot: str | None) -> FileReader:
        """A LUN or file by volume name and path in the volume, in the active file system or a Snapshot copy."""
        files = self._files(volume, snapshot)
        if path not in files:
            raise ValueError(f"no file {path!r} in {volume}: one of {', '.join(files)}")
        return files[path]

    def volume_files(self, volume: str, snapshot: str | None) -> dict[str, int]:
        """Paths and sizes in a volume or one of its Snapshot copies."""
        return {path: file.size for path, file in self._files(volume, snapshot).items()}

    def _files(self, volume: str, snapshot: str | None) -> Mapping[str, FileReader]:
        blocks = self.blocks.volume(self._volume_key(volume))
        if snapshot is None:
            return blocks.files
        if snapshot not in blocks.snapshots:
            raise ValueError(f"no Snapshot copy {snapshot!r} of {volume}: one of {', '.join(blocks.snapshots)}")
        return blocks.snapshots[snapshot].files

    def volume_usage(self, volume: str) -> VolumeUsage:
        """Space of a volume."""
        return self.blocks.volume(self._volume_key(volume)).usage

    def _volume_key(self, name: str) -> str:
        """Key of a volume by name, or by ``cluster:name`` where several clusters have one of that name."""
        cluster, _, volume = name.rpartition(":")
        for array in self.arrays:
            key = array.volume_key(volume) if cluster in ("", array.spec.name) else None
            if key is not None:
                return key
        raise ValueError(f"no volume {name!r}")


def _while_on(host: Host, app: App) -> App:
    """A host's app, which answers nobody while the host is off."""

    async def switched(scope: Any, receive: Any, send: Any) -> None:
        if host.powered:
            await app(scope, receive, send)
            return
        connection = connection_of(scope)
        if connection is not None:
            connection.abort()

    return switched
