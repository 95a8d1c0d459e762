"""A site: one storage cluster and one Hyper-V host or failover cluster, as tables to look at and flows to run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from smhvlab import profile as profiles
from smhvlab.advisor.on_site import Advised
from smhvlab.errors import ProfileError, SmhvLabError
from smhvlab.frames import frame
from smhvlab.hyperv import HyperV
from smhvlab.mount.on_site import SiteImages
from smhvlab.nodes import Node, Nodes
from smhvlab.panels.on_site import Shown
from smhvlab.profile import HostEndpoint, Profile
from smhvlab.provisioning.on_site import SiteProvisioning
from smhvlab.secrets import Endpoint, Secret, Secrets
from smhvlab.snapdrive import SnapDrive
from smhvlab.snapinfo import name_of
from smhvlab.sql import Sql
from smhvlab.storage import Storage
from smhvlab.tables import Tools
from smhvlab.wires.control import Seam, WireControl
from smhvlab.wires.log import WireLog
from smhvlab.wires.ontap import OntapWire
from smhvlab.wires.powershell import PowerShellWire

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.dr.on_site import DisasterRecovery
    from smhvlab.flow import Flow
    from smhvlab.restore.vm import RestoreVm


ENDPOINTS = "endpoints.json"
"""What a lab's state folder has for those who connect to it."""


class Site(SiteImages, SiteProvisioning, Advised, Shown):
    """One site. Tables read it, flows change it; ``log`` has every request of both wires.

    Args:
        profile: who to connect to.
        secrets: where passwords come from; by default the profile, the environment, the keyring, a prompt.
        seam: called around each request (kill tests).
        keep: something that has to live as long as the site (the lab it runs against).

    ``partner`` is the other site of a pair (``smhvlab.dr.sites.couple``), None for a site that stands alone.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        secrets: Secrets | None = None,
        seam: Seam | None = None,
        keep: object = None,
    ) -> None:
        self.profile = profile
        self.log = WireLog()
        self.control = WireControl(seam=seam)
        self._secrets = secrets or Secrets(profile)
        self.keep = keep
        self.partner: Site | None = None
        self._threads: dict[int, Tools] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        hosts = ", ".join(h.name for h in self.profile.hyperv)
        mode = ", read only" if self.profile.read_only else ""
        return f"Site({self.name}: {self.profile.storage.name}, {hosts}{mode})"

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.profile.name

    @property
    def servers(self) -> frozenset[str]:
        """Names of its hosts and of their cluster, in lower case."""
        return frozenset(name.casefold() for host in self.profile.hyperv for name in (host.name, host.cluster) if name)

    @property
    def read_only(self) -> bool:
        """Whether every change is refused."""
        return self.profile.read_only

    @property
    def journals(self) -> Path | None:
        """Where this site's runs are journaled; None: the user's state folder."""
        return self.profile.journals

    # --- connections

    def tools(self) -> Tools:
        """The wires of the calling thread, opened when first used."""
        me = threading.get_ident()
        with self._lock:
            found = self._threads.get(me)
        if found is None:
            found = self._open()
            with self._lock:
                self._threads[me] = found
        return found

    def _open(self) -> Tools:
        profile = self.profile
        rest = OntapWire(
            profile.storage,
            self._secrets.of(profile.storage),
            log=self.log,
            control=self.control,
            read_only=profile.read_only,
            proxy=profile.proxy,
            sleep=lambda seconds: nodes.own().host.sleep(seconds),
        )
        storage = Storage(rest)
        nodes = Nodes(profile.hyperv, lambda endpoint: self._node(endpoint, storage))
        return Tools(rest, nodes, storage)

    def _node(self, endpoint: HostEndpoint, storage: Storage) -> Node:
        host = PowerShellWire(
            endpoint,
            self._secrets.of(endpoint),
            log=self.log,
            control=self.control,
            read_only=self.profile.read_only,
            proxy=self.profile.proxy,
        )
        return Node(endpoint.name, host, SnapDrive(host, storage), HyperV(host), Sql(host, endpoint, self._secrets))

    def _on_node(self, name: str, action: Callable[[Node], object]) -> object:
        return action(self.tools().nodes[name])

    def secret(self, endpoint: Endpoint) -> Secret:
        """The password of something that the site talks to besides its two wires. Raises SecretMissing."""
        return self._secrets.of(endpoint)

    def release(self) -> None:
        """Close the wires of the calling thread, the partner's too."""
        for site in (self, self.partner):
            if site is not None:
                with site._lock:
                    tools = site._threads.pop(threading.get_ident(), None)
                if tools is not None:
                    tools.close()

    def disconnect(self) -> None:
        """Close every connection, of all threads; the next request opens a new one."""
        with self._lock:
            everything, self._threads = list(self._threads.values()), {}
        for tools in everything:
            tools.close()

    def close(self) -> None:
        """Close every connection, and end a lab that was started for this site."""
        self.disconnect()
        down = getattr(self.keep, "down", None)
        if down is not None:
            down()

    def check(self) -> pd.DataFrame:
        """What is reachable and permitted, before any flow: one row per endpoint.

        Columns: endpoint, wire, ok, finding, next.
        """
        from netapp_ontap.resources.aggregate import Aggregate
        from netapp_ontap.resources.cluster import Cluster

        rows: list[tuple[str, str, bool, str, str]] = []

        def look(endpoint: str, wire: str, finding: str, action: Callable[[], object]) -> bool:
            try:
                rows.append((endpoint, wire, True, finding.format(action()), ""))
            except SmhvLabError as error:
                rows.append((endpoint, wire, False, error.message, error.next_action))
            return rows[-1][2]

        storage = self.profile.storage.name

        def version() -> str:
            record: Mapping[str, Any] = self.tools().rest.read(Cluster(), fields="version")
            full: str = record["version"]["full"]
            return full

        look(storage, "REST", "{}", version)
        look(storage, "REST", "{} aggregates visible", lambda: len(self.tools().rest.collect(Aggregate)))
        looks: Mapping[str, Callable[[Node], object]] = {
            "time {}": lambda node: node.host.now().isoformat(" ", "seconds"),
            "{} VMs": lambda node: len(node.hyperv.vms()),
            "initiator {}": lambda node: node.snapdrive.initiator(),
        }
        for endpoint in self.profile.hyperv:
            for finding, action in looks.items():
                if not look(endpoint.name, "PowerShell", finding, partial(self._on_node, endpoint.name, action)):
                    break  # the others would say the same
        names = self.profile.hyperv[0].name if len(self.profile.hyperv) == 1 else self.profile.hyperv[0].cluster
        look(str(names), "PowerShell", "SnapInfo in {}", lambda: self.tools().snapinfo.folder())
        types = {"endpoint": "str", "wire": "str", "ok": "bool", "finding": "str", "next": "str"}
        return frame([dict(zip(types, row, strict=True)) for row in rows], types)

    def now(self) -> datetime:
        """The site's time: that of its Hyper-V host, UTC."""
        return self.tools().host.now()

    def sleep(self, seconds: float) -> None:
        """Wait in the site's time."""
        self.tools().host.sleep(seconds)

    # --- settings

    def set_snapinfo(self, folder: str) -> None:
        """Keep SnapInfo in a folder of the host; files of an earlier folder are not moved (TR 5.4).

        Raises NotAllowed for one on an SMB share (TR 11.8).
        """
        from smhvlab.backup.unsupported import refuse_share

        refuse_share(folder)
        self.tools().snapinfo.set_folder(folder)

    # --- flows

    @property
    def dr(self) -> DisasterRecovery:
        """The flows of disaster recovery (TR 8): replicate, fail over, fail back, rehearse."""
        from smhvlab.dr.on_site import DisasterRecovery

        return DisasterRecovery(self)

    def backup(
        self,
        dataset: str,
        *,
        consistency: Literal["application", "crash"] = "application",
        distributed: bool | None = None,
        allow_saved_state: bool = False,
        policy: str = "",
    ) -> Flow[Any]:
        """A backup of a dataset (TR 6.2, 9, 10, 12): a Flow; nothing has happened yet.

        An application-consistent backup is made by what the hosts can do: through production checkpoints from Windows
        Server 2016 on, else through VSS with the Data ONTAP hardware provider. It never becomes a crash-consistent one.

        Args:
            distributed: one set for the VMs of all nodes. By default where that is possible: on cluster shared volumes
                of Windows Server 2012.
            allow_saved_state: back up VMs, too, that cannot take part while they run: these are saved meanwhile (TR
                6.4).
            policy: the policy whose scripts, mirrors and retention go with it, and whose options count; "" for a backup
                that stays (TR 6.3).

        Raises:
            NotAllowed: no such type, or an option that does not belong to it (TR 6.4, 12).
        """
        from smhvlab.backup.engine import backup_flow

        return backup_flow(
            self,
            dataset,
            consistency=consistency,
            distributed=distributed,
            allow_saved_state=allow_saved_state,
            policy=policy,
        )

    def restore(
        self,
        backup: str,
        vm: str,
        *,
        to_host: str = "",
        verify_snapshot: bool = True,
        safety_backup: bool = False,
        script: str = "",
        script_parameters: Mapping[str, Any] | None = None,
    ) -> RestoreVm:
        """A restore of one VM from a backup (TR 6.7): a Flow; nothing has happened yet.

        Args:
            vm: its name or id in the backup, also of one that is deleted or in no dataset any more.
            to_host: an alternate host that shall have it (application-consistent backups only).
            verify_snapshot: False accepts a disk of another GUID (-DisableVerifySnapshot).
            safety_backup: take a crash-consistent backup of the VM as it is now first (TR 10).
            script: a cmdlet to run on the host in the end.
            script_parameters: of that cmdlet, by name.
        """
        from smhvlab.restore.vm import RestoreVm

        return RestoreVm(
            self,
            backup=name_of(backup),
            vm=vm,
            to_host=to_host,
            verify_snapshot=verify_snapshot,
            safety_backup=safety_backup,
            script=script,
            script_parameters=script_parameters,
        )


def connect(
    target: str | Path | Profile | Mapping[str, object],
    *,
    read_only: bool = False,
    site: str | None = None,
    secrets: Secrets | None = None,
    seam: Seam | None = None,
) -> Site:
    """Connect to a site.

    Args:
        target: the name of a saved profile, a profile, a lab's ``endpoints.json`` or its folder, or ``"lab:NAME"`` for
            a fresh lab of that topology (``"lab:NAME@STATE"`` for one that is kept in a state folder). A lab of several
            sites: ``#B`` at the end takes the site B; without it the first.
        read_only: refuse every change.
        site: which site of a lab that has several (topology ``dr-pair``: ``"A"`` or ``"B"``); the first by default.

    Raises:
        ProfileError: there is no such profile, or it cannot be used.
        NotFound: the lab has no such site.
    """
    keep: object = None
    chosen_site = ""
    if isinstance(target, str):
        if "#" in target and not Path(target).exists():  # a path may well have that sign in it
            target, _, chosen_site = target.rpartition("#")
        scheme, colon, rest = target.partition(":")
        providers = {e.name: e for e in entry_points(group="smhvlab.sites")}
        if colon and scheme in providers:
            target, keep = provided(providers[scheme], rest)
        elif target.endswith(".json") or (Path(target) / ENDPOINTS).is_file():
            target = Path(target)
        else:
            target = profiles.load(target)
    if isinstance(target, Path) and target.is_dir():
        target = target / ENDPOINTS
    if isinstance(target, Profile):
        chosen = target
    else:
        chosen = profiles.from_endpoints(target, read_only=read_only, site=chosen_site or site)
    if read_only and not chosen.read_only:
        chosen = replace(chosen, read_only=True)
    if not chosen.hyperv:
        raise ProfileError(f"The profile {chosen.name} has no host", next_action="Add a [[hyperv]] table to it.")
    return Site(chosen, secrets=secrets, seam=seam, keep=keep)


def provided(provider: EntryPoint, name: str) -> tuple[Path, Any]:
    """The endpoints that a provider of sites gives, and what has to live as long as the site."""
    try:
        endpoints, keep = provider.load()(name)
    except Exception as error:  # whatever another package raises becomes one of our errors
        raise ProfileError(
            f"The site {provider.name}:{name} cannot be reached or started",
            why=str(error),
            next_action="Mend the cause, then try again.",
        ) from error
    return Path(endpoints), keep


def stamp(moment: datetime) -> str:
    """The time stamp of backup names: ``MM-dd-yyyy_HH.mm.ss`` (TR 8)."""
    return moment.astimezone(UTC).strftime("%m-%d-%Y_%H.%M.%S")


def own_stamp(moment: datetime) -> str:
    """As ``stamp``, and a part of its own: what names things of one run that no other run may take for its own."""
    return f"{stamp(moment)}_{uuid4().hex[:6]}"
