"""A simulated storage cluster: its state, its REST API, and the logical units that hosts see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from labenv.clock import Clock
from labenv.devices import DeviceGone, OutOfSpace, ReadOnlyDevice, data_ranges
from labenv.fabric import App, LogicalUnit, Target
from labenv.ids import Ids
from labenv.interconnect import Interconnect
from labenv.ontap import setup
from labenv.ontap.background import Background
from labenv.ontap.core import Core, CostBook, Login
from labenv.ontap.events import emit
from labenv.ontap.fence import FenceTimeouts
from labenv.ontap.ha import Giveback
from labenv.ontap.jobs import Jobs
from labenv.ontap.operations import EFFECTS
from labenv.ontap.policies import PolicySnapshots
from labenv.ontap.pool import Pool, PoolFile
from labenv.ontap.records import Igroup, Lif, LunMap, User
from labenv.ontap.rest.api import collections
from labenv.ontap.rest.app import FaultRules, RestApp
from labenv.ontap.rest.call import GENERAL, Call, parse_path
from labenv.ontap.rest.dispatch import Dispatcher
from labenv.ontap.rest.network import lif_up
from labenv.ontap.rest.reporting_nodes import nodes_of
from labenv.ontap.snapmirror_policies import install_policies
from labenv.ontap.snapmirror_tasks import MirrorTasks
from labenv.ontap.spec import ClusterSpec
from labenv.state import State


class Array:
    """One storage cluster; implements ``fabric.StorageSystem``.

    The cluster is made from ``spec`` if the state does not hold it yet, else it is as it was.

    Attributes:
        app: ASGI application with all routes under ``/api``.
        dispatcher: the routes; ``labenv coverage`` lists its collections.
    """

    def __init__(
        self,
        *,
        spec: ClusterSpec,
        clock: Clock,
        state: State,
        ids: Ids,
        blocks: Pool,
        costs: CostBook,
        faults: FaultRules | None = None,
        interconnect: Interconnect | None = None,
    ) -> None:
        self.spec = spec
        self.core = Core(
            spec=spec, clock=clock, state=state, ids=ids, blocks=blocks, costs=costs, interconnect=interconnect
        )
        setup.install(self.core)
        install_policies(self.core)
        setup.sweep(self.core)
        setup.install_users(self.core)
        state.commit()
        self._background = Background(self.core, (FenceTimeouts(), PolicySnapshots(), Giveback()))
        self._jobs = Jobs(self.core, EFFECTS, after=self._background.plan)
        self._mirrors = MirrorTasks(self.core)
        self.dispatcher = Dispatcher(self.core, self._jobs, collections(self.core), changed=self._background.plan)
        self._devices: dict[str, LunDevice] = {}
        self.app = RestApp(self.core, self.dispatcher, faults=faults, wake=self._wake)
        state.after_restore(self._restored)
        self.resume()

    def resume(self) -> None:
        """Go on with jobs that a stop of the lab has interrupted; done by itself with the first request too."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # no event loop yet: the first request does it
        self._wake()

    def _wake(self) -> None:
        self._jobs.resume()
        self._background.plan()
        self._mirrors.resume()

    def _restored(self) -> None:
        self._devices.clear()
        self.core.topology += 1
        self._jobs.forget_tasks()
        self._background.forget_tasks()
        self._mirrors.forget_tasks()
        setup.install_users(self.core)
        self._tell_authorities()
        self.resume()

    def close(self) -> None:
        """Forget what is cached; everything that counts is in the state."""
        self._devices.clear()

    def before_snapshot(self, callback: Callable[[str], None] | None) -> None:
        """Call back with a volume's uuid right before each Snapshot copy of it (guest load is settled then)."""
        self.core.before_snapshot = callback

    def logins(self, callback: Callable[[], Iterable[Login]] | None) -> None:
        """Ask for the hosts' iSCSI sessions, which the API lists."""
        self.core.logins = callback

    def trusts(self, callback: Callable[[str], None]) -> None:
        """Tell of every authority (PEM) whose client certificates are a login, those to come included.

        The server has to ask clients for a certificate and to accept it in the handshake; who it is is decided here.
        """
        self.core.trusts = callback
        self._tell_authorities()

    def _tell_authorities(self) -> None:
        for authority in self.core.authorities.values():
            self.core.trusts(authority.pem)

    def refuse_empty_changes(self) -> None:
        """Answer a PATCH that changes nothing with an error (code 2), where ONTAP is content with it."""
        self.dispatcher.strict = True

    def volume_key(self, name: str, *, svm: str | None = None) -> str | None:
        """Key in the block store (uuid) of a volume by name; None if there is none."""
        for volume in self.core.volumes.values():
            if volume.name == name and svm in (None, self.core.svms[volume.svm].name):
                return volume.uuid
        return None

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        user: str | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """The API without HTTP: same routes, answers and costs. The caller holds ``clock.request()`` or is a task.

        Args:
            path: with or without ``/api``.
            user: login name; the cluster's administrator if None.

        Returns:
            HTTP status and JSON body.
        """
        self._wake()
        segments = parse_path(path.encode("utf-8"))
        if segments and segments[0] == "api":
            segments = segments[1:]
        who = self._user(user)
        parameters = dict(query or {})
        call = Call(
            method=method,
            segments=segments,
            user=who,
            query={k: v for k, v in parameters.items() if k not in GENERAL},
            general={k: v for k, v in parameters.items() if k in GENERAL},
            body=dict(body or {}),
            svm=who.svm,
            hal=False,
        )
        reply = await self.dispatcher.answer(call)
        return reply.status, reply.body

    def _user(self, name: str | None) -> User:
        wanted = self.spec.admin_user if name is None else name
        for user in self.core.users.values():
            if user.name == wanted:
                return user
        raise KeyError(name)

    # fabric.StorageSystem ---------------------------------------------------------------------------------------------

    def targets(self, portal: str) -> Sequence[Target]:
        """Targets that answer discovery at a portal address."""
        core = self.core
        for lif in core.lifs.values():
            if lif.address == portal and lif.svm is not None and lif_up(core, lif) and _is_san(lif.service_policy):
                svm = core.svms[lif.svm]
                if svm.target and svm.iscsi_enabled:
                    return (Target(svm.target, tuple(lif.address for lif in self._interfaces(svm.uuid))),)
        return ()

    def management(self, address: str) -> App | None:
        """What answers HTTPS at a management address of the cluster or of one of its SVMs."""
        core = self.core
        for lif in core.lifs.values():
            if lif.address == address and lif_up(core, lif) and _is_management(lif.service_policy):
                return self._served_at(lif.svm or "")
        return None

    def _served_at(self, owner: str) -> App:
        """The API at an interface of an SVM (of the cluster: ""), where only accounts of that owner log in."""

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            state = {**scope.get("state", {}), "login_at": owner}
            await self.app.serve({**scope, "state": state}, receive, send)

        return serve

    def _interfaces(self, svm: str) -> list[Lif]:
        """iSCSI interfaces of an SVM that are up."""
        core = self.core
        return [
            lif for lif in core.lifs.values() if lif.svm == svm and _is_san(lif.service_policy) and lif_up(core, lif)
        ]

    def logical_units(self, initiator: str, target: str) -> Sequence[LogicalUnit]:
        """LUNs mapped to an initiator behind a target, by logical unit number."""
        core = self.core
        svm = next((s for s in core.svms.values() if s.target == target), None)
        if svm is None or not svm.iscsi_enabled:
            return ()
        interfaces = self._interfaces(svm.uuid)
        if not interfaces:
            return ()
        groups = [
            g
            for g in core.igroups.values()
            if g.svm == svm.uuid
            and g.protocol != "fcp"
            and any(i.name.lower() == initiator.lower() for i in g.initiators)
        ]
        units = []
        mappings = [(m, g) for g in groups for m in core.maps_by_igroup[g.uuid]]
        for mapping, group in sorted(mappings, key=lambda pair: pair[0].number):
            if not self._shown(mapping, group, interfaces):
                continue
            lun = core.luns[mapping.lun]
            device = self._device(lun.uuid)
            units.append(LogicalUnit(lun.serial_number, lun.uuid, mapping.number, lun.size, device.online, device))
        return units

    def _shown(self, mapping: LunMap, group: Igroup, interfaces: Sequence[Lif]) -> bool:
        """Whether one of the interfaces is on a reporting node of the map and in the portset of the group."""
        nodes = {node.name for node in nodes_of(self.core, mapping)}
        portset = self.core.portsets.get(group.portset or "")
        return any(lif.node in nodes and (portset is None or lif.uuid in portset.interfaces) for lif in interfaces)

    def _device(self, uuid: str) -> LunDevice:
        device = self._devices.get(uuid)
        if device is None:
            device = self._devices[uuid] = LunDevice(self.core, uuid)
        return device


def _is_san(policy: str) -> bool:
    return "data_iscsi" in setup.SERVICES.get(policy, ())


def _is_management(policy: str) -> bool:
    return "management_https" in setup.SERVICES.get(policy, ())


class LunDevice:
    """A LUN's bytes as an initiator sees them: the same object whatever is restored into the LUN."""

    def __init__(self, core: Core, uuid: str) -> None:
        self._core = core
        self._uuid = uuid
        self._traffic = core.traffic[uuid]
        self._topology = -1
        self._file: PoolFile | None = None
        self._size = 0
        self._read_only = False

    def _look(self) -> PoolFile:
        """The blocks behind the LUN now; raises ``DeviceGone`` if it is offline or deleted."""
        core = self._core
        if self._topology != core.topology:
            self._topology = core.topology
            self._file = None
            lun = core.luns.get(self._uuid)
            if lun is not None:
                volume = core.volumes[lun.volume]
                self._size = lun.size
                self._read_only = volume.type == "dp"
                powered = not core.interconnect.is_down(core.spec.name)
                if powered and lun.enabled and not lun.space_error and volume.state == "online":
                    self._file = core.pool(volume.uuid).files.get(lun.path)
        if self._file is None:
            raise DeviceGone(f"LUN {self._uuid} is offline or deleted")
        return self._file

    @property
    def online(self) -> bool:
        """Whether the LUN takes I/O."""
        try:
            self._look()
        except DeviceGone:
            return False
        return True

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        self.online  # noqa: B018 - refreshes the size
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        file = self._look()
        self._traffic.reads += 1
        self._traffic.read_bytes += length
        return file.read(offset, length)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that may hold data (what a host asks with Get LBA Status)."""
        return data_ranges(self._look(), offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes. A thin LUN whose volume is full goes offline, unless it reports space to the host."""
        file = self._writable()
        try:
            file.write(offset, data)
        except OutOfSpace:
            self._out_of_space()
            raise
        self._traffic.writes += 1
        self._traffic.written_bytes += len(data)

    def unmap(self, offset: int, length: int) -> None:
        """Give the space of a range back."""
        self._writable().unmap(offset, length)
        self._traffic.others += 1

    def flush(self) -> None:
        """Nothing to do: the array answers a write when it is safe."""
        self._look()

    def _writable(self) -> PoolFile:
        file = self._look()
        if self._read_only:
            raise ReadOnlyDevice(f"LUN {self._uuid} is in a data protection volume")
        return file

    def _out_of_space(self) -> None:
        core = self._core
        lun = core.luns[self._uuid]
        if lun.space_allocation:
            return
        core.change_lun(lun, space_error=True)
        volume = core.volumes[lun.volume]
        name = core.lun_name(lun)
        emit(
            core,
            "lun.offline",
            severity="error",
            text=f"{name} of SVM {core.svms[lun.svm].name} is offline: there is no space for a write to it",
            node=core.node_of(volume).name,
            path=name,
            volume=volume.name,
            aggregate=core.aggregates[volume.aggregate].name,
        )
