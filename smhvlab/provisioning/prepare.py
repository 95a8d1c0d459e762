"""Storage for a Hyper-V host or cluster (TR 2.2 steps 1 and 2, "To connect"; appendix, Quick Steps 2 to 6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from ipaddress import AddressValueError, IPv4Address

from smhvlab.errors import NameTaken, NotAllowed, NotFound, NotUnique
from smhvlab.flow import CHOSEN
from smhvlab.mount.image import Images
from smhvlab.procedure import Procedure
from smhvlab.provisioning.array import DATA, MANAGEMENT, AggregateFacts, ArraySetup, Lif, NewVolume
from smhvlab.provisioning.sessions import Logins, Sessions
from smhvlab.record import Confirmation
from smhvlab.site import own_stamp
from smhvlab.sizes import shown, size_of
from smhvlab.steps import step

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


@dataclass(frozen=True)
class PrepareState:
    """What is used, and what is made because it is not there.

    Attributes:
        disks: of the aggregate that is made on ``node``; 0 if it exists.
        new_svm: whether the Vserver is made; ``new_service``: whether it becomes an iSCSI target.
        lifs: the LIFs that are made.
        igroup: the initiator group of the hosts; ``made_for``: its initiators if it is made.
        portals: where the target answers in the end.
        logins: what each host still needs.
        single: hosts without MPIO.
        over: why the volume could outgrow its aggregate, "" if it cannot.
    """

    volume: str
    size: int
    thin: bool
    aggregate: str
    node: str
    disks: int
    svm: str
    new_svm: bool
    new_service: bool
    lifs: tuple[Lif, ...]
    igroup: str
    made_for: tuple[str, ...]
    portals: tuple[str, ...]
    logins: tuple[Logins, ...]
    single: tuple[str, ...]
    over: str
    mark: str = field(metadata=CHOSEN)

    @property
    def new_volume(self) -> NewVolume:
        """The volume that is made."""
        return NewVolume(self.volume, self.svm, self.aggregate, self.size, self.thin, self.mark)


@dataclass(frozen=True)
class Prepared:
    """Storage on which SnapDrive can make LUNs."""

    volume: str
    svm: str
    aggregate: str
    size: int
    thin: bool
    igroup: str
    portals: tuple[str, ...]
    made: tuple[str, ...]

    def __str__(self) -> str:
        how = "thin" if self.thin else "with a space guarantee"
        return (
            f"Volume {self.volume} ({shown(self.size)}, {how}) of {self.svm} on {self.aggregate}; initiator group "
            f"{self.igroup}; portals {', '.join(self.portals)}; made: {', '.join(self.made)}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


class PrepareStorage(Procedure[PrepareState]):
    """Prepare storage for a Hyper-V host."""

    tr = "2.2"
    _again = False  # whether this goes on with, or takes back, what an earlier process has begun

    def __init__(
        self,
        site: object,
        *,
        volume: str,
        size: str,
        thin: bool = True,
        aggregate: str = "",
        disks: int = 0,
        node: str = "",
        svm: str = "",
        addresses: Sequence[str] | str = "",
        management: str = "",
        netmask: str = "255.255.255.0",
    ) -> None:
        listed = tuple(re.split(r"[\s,]+", addresses.strip(", "))) if isinstance(addresses, str) else tuple(addresses)
        super().__init__(
            site,
            volume=volume,
            size=size,
            thin=thin,
            aggregate=aggregate,
            disks=disks,
            node=node,
            svm=svm,
            addresses=listed,
            management=management,
            netmask=netmask,
        )
        self.volume = volume
        self.size = size
        self.thin = thin
        self.aggregate = aggregate
        self.disks = disks
        self.node = node
        self.svm = svm
        self.addresses = tuple(address for address in listed if address)
        self.management = management
        self.netmask = netmask
        self._theirs: set[str] = set()  # what somebody else has made while this run was on its way

    @contextmanager
    def _first(self, what: str) -> Iterator[None]:
        """What turns out to be made by others is none of this run's, and stays: it can carry no mark."""
        try:
            yield
        except NameTaken:
            self._theirs.add(what)
            raise

    def settle(self, *, lost: bool) -> None:
        """As for every procedure; from now on what is there may be this run's own."""
        super().settle(lost=lost)
        self._again = True

    @property
    def setup(self) -> ArraySetup:
        """What makes aggregates, Vservers and volumes."""
        return ArraySetup(self.storage)

    def survey(self) -> PrepareState:
        """Find what is there, and choose the names of what is not.

        Raises:
            NotFound: no such aggregate, controller or Vserver, or a host has no initiator.
            NotUnique: the hosts use several Vservers and none was named.
            NameTaken: the volume, the aggregate or an address exists.
            NotAllowed: no licence, too little room, an impossible name, size or address, or a target without a LIF.
        """
        self._again, self._theirs = False, set()
        setup = self.setup
        size = size_of(self.size, what="a volume")
        for name, what in ((self.volume, "volume"), (self.aggregate, "aggregate"), (self.svm, "Vserver")):
            _check_name(name, what, needed=what == "volume")
        licences = self.storage.licences()
        if licences and "iscsi" not in licences:
            raise NotAllowed(
                f"{self.site.profile.storage.name} has no licence for iSCSI",
                next_action="Install the licence; it has " + ", ".join(sorted(licences)) + ".",
                tr="App/4",
            )
        images = Images(self.storage, self.nodes.own(), self.nodes)
        initiators = images.initiators(everywhere=True)
        if not initiators:
            raise NotFound(
                "The host has no iSCSI initiator", next_action="Start the service MSiSCSI on the host.", tr="2.2"
            )
        svm, new_svm = self._svm(setup, initiators)
        aggregates = setup.aggregates()
        aggregate, node = self._aggregate(setup, aggregates)
        if not new_svm and self.storage.volume(self.volume, svm=svm) is not None:
            raise NameTaken(f"The SVM {svm} has a volume {self.volume}", next_action="Choose another name.", tr="2.2/2")
        lifs = self._lifs(setup, svm)
        portals = () if new_svm else setup.portals(svm)
        portals = tuple(sorted({*portals, *(lif.address for lif in lifs if lif.policy == DATA)}))
        if not portals:
            raise NotAllowed(
                f"The SVM {svm} has no data LIF that is up",
                next_action="Give the addresses of one on each controller: addresses=['10.10.1.21', '10.10.1.22'].",
                tr="App/5",
            )
        igroup, made_for = images.igroup(svm, initiators)
        sessions = [Sessions(node) for node in self.nodes.up()]
        logins = tuple(one.missing(portals) for one in sessions)
        return PrepareState(
            volume=self.volume,
            size=size,
            thin=self.thin,
            aggregate=aggregate,
            node=node,
            disks=self.disks,
            svm=svm,
            new_svm=new_svm,
            new_service=new_svm or not setup.target(svm),
            lifs=lifs,
            igroup=igroup,
            made_for=made_for,
            portals=portals,
            logins=tuple(login for login in logins if login.connect),
            single=tuple(one.name for one in sessions if not one.multipath()),
            over=self._room(aggregates, aggregate, size),
            mark=f"made by smhvlab {own_stamp(self.site.now())}",
        )

    def _svm(self, setup: ArraySetup, initiators: Sequence[str]) -> tuple[str, bool]:
        """The Vserver, and whether it is made."""
        if self.svm:
            found = self.svm in setup.svms()
            if not found and not self.addresses:
                raise NotFound(
                    f"There is no SVM {self.svm}",
                    next_action=f"There is {', '.join(setup.svms()) or 'none'}; to have it made give the addresses of "
                    "its data LIFs, one on each controller.",
                    tr="App/3",
                )
            return self.svm, not found
        known = setup.svms_of(initiators)
        if len(known) == 1:
            return known[0], False
        if known:
            raise NotUnique(
                f"The hosts use the SVMs {', '.join(known)}", next_action="Name the one that is meant.", tr="2.2"
            )
        raise NotFound(
            "No SVM has an initiator group with the initiators of this site",
            next_action=f"Name the SVM: there is {', '.join(setup.svms()) or 'none yet'}.",
            tr="2.2",
        )

    def _aggregate(self, setup: ArraySetup, aggregates: Sequence[AggregateFacts]) -> tuple[str, str]:
        """The aggregate and its controller."""
        found = next((one for one in aggregates if one.name == self.aggregate), None)
        if self.disks:
            if not self.aggregate or found is not None or self.disks < 0:
                problem = f"there is an aggregate {self.aggregate}" if found else "a new aggregate needs a name"
                error = NameTaken if found else NotAllowed
                raise error(
                    f"No aggregate can be made of {self.disks} disks: {problem}",
                    next_action="Give a new name and a number of disks, or leave the number out.",
                    tr="2.2/1",
                )
            nodes = setup.nodes()
            if self.node and self.node not in nodes:
                raise NotFound(
                    f"There is no controller {self.node}", next_action=f"There is {', '.join(nodes)}.", tr="2.2/1"
                )
            held = [one.node for one in aggregates]
            return self.aggregate, self.node or min(nodes, key=lambda name: (held.count(name), name))
        if self.aggregate and found is None:
            raise NotFound(
                f"There is no aggregate {self.aggregate}",
                next_action=f"There is {', '.join(one.name for one in aggregates) or 'none'}; disks=N makes it.",
                tr="2.2/1",
            )
        if not aggregates:
            raise NotFound(
                "The array has no aggregate", next_action="Have one made: aggregate='aggr1', disks=24.", tr="2.2/1"
            )
        chosen = found or max(aggregates, key=lambda one: (one.available, one.name))
        return chosen.name, chosen.node

    def _room(self, aggregates: Sequence[AggregateFacts], name: str, size: int) -> str:
        """Why the aggregate may become full, "" if it cannot. Raises NotAllowed for what cannot be set aside now."""
        found = next((one for one in aggregates if one.name == name), None)
        if found is None or size <= found.available:
            return ""
        room = f"{name} has {shown(found.available)} free, the volume is to have {shown(size)}"
        if not self.thin:
            raise NotAllowed(
                f"The aggregate {name} is too small for {self.volume}",
                why=room,
                next_action="Choose another aggregate or a smaller size, or make it thin.",
                tr="2.2/2",
            )
        return f"{room}: when the aggregate is full, every write to its volumes fails"

    def _lifs(self, setup: ArraySetup, svm: str) -> tuple[Lif, ...]:
        """The LIFs to be made: data LIFs on the controllers in turn, and one for management."""
        wanted = [(DATA, address) for address in self.addresses]
        wanted += [(MANAGEMENT, self.management)] if self.management else []
        if not wanted:
            return ()
        present = setup.lifs()
        used = {str(lif["ip"]["address"]): str(lif["name"]) for lif in present}
        names = {lif["name"] for lif in present if lif.get("svm", {}).get("name") == svm}
        nodes = setup.nodes()
        free = (name for number in range(1, 1000) if (name := f"{svm}_iscsi_{number}") not in names)
        found: list[Lif] = []
        for number, (policy, address) in enumerate(wanted):
            try:
                IPv4Address(address)
            except AddressValueError:
                raise NotAllowed(
                    f"{address!r} is no IPv4 address", next_action="Write it like 10.10.1.21.", tr="App/5"
                ) from None
            if address in used or address in {lif.address for lif in found}:
                raise NameTaken(
                    f"The address {address} is that of the LIF {used.get(address, 'named before it')}",
                    next_action="Give an address that is free.",
                    tr="App/5",
                )
            name = next(free) if policy == DATA else f"{svm}_mgmt"
            if name in names:
                raise NameTaken(f"{svm} has a LIF {name}", next_action="Leave management out.", tr="App/5")
            found.append(Lif(name, address, self.netmask, nodes[number % len(nodes)], policy))
        return tuple(found)

    def confirmations(self, state: PrepareState) -> Sequence[Confirmation]:
        """That an aggregate can become full, and that a host without MPIO loses its disks with one path."""
        asked = []
        if state.over:
            asked.append(Confirmation(key="overcommit", text=state.over, tr="2.2/2"))
        if state.single:
            text = f"{', '.join(state.single)}: MPIO is not installed; with one session the disks go with one path"
            asked.append(Confirmation(key="no-mpio", text=text, tr="7.2"))
        return asked

    @step(
        "Create the aggregate",
        tr="2.2/1",
        items=lambda s: (f"{s.aggregate}: {s.disks} disks on {s.node}",),
        when=lambda s: s.disks > 0,
        otherwise="it exists",
    )
    def make_aggregate(self, s: PrepareState) -> None:
        with self._first("aggregate"):
            self.setup.ensure_aggregate(s.aggregate, node=s.node, disks=s.disks, again=self._again)

    @make_aggregate.undo
    def drop_aggregate(self, s: PrepareState) -> None:
        if "aggregate" not in self._theirs:
            self.setup.discard_aggregate(s.aggregate)

    @step(
        "Create the Vserver",
        tr="App/3",
        items=lambda s: (s.svm,),
        when=lambda s: s.new_svm,
        otherwise="it exists",
    )
    def make_svm(self, s: PrepareState) -> None:
        self.setup.ensure_svm(s.svm, aggregate=s.aggregate, mark=s.mark)

    @make_svm.undo
    def drop_svm(self, s: PrepareState) -> None:
        self.setup.discard_svm(s.svm, mark=s.mark)

    @step(
        "Create the iSCSI service",
        tr="App/4",
        items=lambda s: (s.svm,),
        when=lambda s: s.new_service,
        otherwise="the Vserver is an iSCSI target",
    )
    def make_service(self, s: PrepareState) -> None:
        with self._first("service"):
            self.setup.ensure_service(s.svm, again=self._again)

    @make_service.undo
    def drop_service(self, s: PrepareState) -> None:
        if "service" not in self._theirs:
            self.setup.discard_service(s.svm)

    @step(
        "Create the data and management LIFs",
        tr="App/5",
        items=lambda s: s.lifs,
        when=lambda s: bool(s.lifs),
        otherwise="no address was given",
    )
    def make_lifs(self, s: PrepareState) -> None:
        with self._first("LIFs"):
            self.setup.ensure_lifs(s.lifs, svm=s.svm, again=self._again)

    @make_lifs.undo
    def drop_lifs(self, s: PrepareState) -> None:
        if "LIFs" not in self._theirs:
            self.setup.discard_lifs(s.lifs, svm=s.svm)

    @step(
        "Create the volume",
        tr="2.2/2",
        items=lambda s: (f"{s.volume} on {s.aggregate}: {shown(s.size)}{', thin' if s.thin else ''}",),
        counts=lambda s: {"ontap.volume.create": 1},
    )
    def make_volume(self, s: PrepareState) -> None:
        self.setup.ensure_volume(s.new_volume)

    @make_volume.undo
    def drop_volume(self, s: PrepareState) -> None:
        self.setup.discard_volume(s.new_volume)

    @step(
        "Create the initiator group",
        tr="2.2",
        items=lambda s: (f"{s.igroup}: {', '.join(s.made_for)}",),
        when=lambda s: bool(s.made_for),
        otherwise="there is one with these initiators",
    )
    def make_igroup(self, s: PrepareState) -> None:
        self.storage.ensure_igroup(s.igroup, s.made_for, svm=s.svm, mark=s.mark)

    @make_igroup.undo
    def drop_igroup(self, s: PrepareState) -> None:
        self.storage.discard_igroup(s.igroup, svm=s.svm, mark=s.mark)

    @step(
        "Establish the iSCSI sessions",
        tr="2.2",
        items=lambda s: s.logins,
        when=lambda s: bool(s.logins),
        otherwise="every host has a session to each portal",
    )
    def log_in(self, s: PrepareState) -> None:
        target = self.setup.target(s.svm)
        for logins in self.track(s.logins):
            Sessions(self.nodes[logins.host]).ensure(logins, target, multipath=logins.host not in s.single)

    @log_in.undo
    def log_out(self, s: PrepareState) -> None:
        target = self.setup.target(s.svm)
        for logins in s.logins:
            Sessions(self.nodes[logins.host]).discard(logins, target)

    def result(self, state: PrepareState) -> Prepared:
        """What is there now."""
        made = [f"aggregate {state.aggregate}"] if state.disks else []
        made += [f"Vserver {state.svm}"] if state.new_svm else []
        made += [f"{len(state.lifs)} LIFs"] if state.lifs else []
        made += ["the volume"]
        made += [f"initiator group {state.igroup}"] if state.made_for else []
        made += [f"sessions of {', '.join(one.host for one in state.logins)}"] if state.logins else []
        return Prepared(
            state.volume,
            state.svm,
            state.aggregate,
            state.size,
            state.thin,
            state.igroup,
            state.portals,
            tuple(made),
        )


def _check_name(name: str, what: str, *, needed: bool) -> None:
    """Raise NotAllowed for what cannot name a volume, an aggregate or a Vserver."""
    if (name or needed) and not _NAME.fullmatch(name):
        raise NotAllowed(
            f"{name!r} cannot name a {what}",
            next_action="Use letters, digits and underscores, with a letter or underscore first.",
            tr="2.2",
        )
