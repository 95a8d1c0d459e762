"""Verification of a backup: its images on the side, every virtual disk read, every database checked (TR 6.3, 6.8).

A database can only be checked by its engine. A VM that runs one lends it: each virtual disk is hot-added to it through
a differencing disk, its databases are attached under other names, checked with DBCC CHECKDB and detached again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape

from smhvlab.errors import NotAllowed, NotFound, NotVerified, PowerShellError
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm
from smhvlab.mount.image import FOLDER, Image, Images, clone_name, disk_guid
from smhvlab.mount.mounts import Mounts
from smhvlab.mount.vhdimage import DiskImage, GuestFile, VirtualDisks, disk_images, used_places
from smhvlab.nodes import Node
from smhvlab.procedure import Procedure
from smhvlab.site import own_stamp
from smhvlab.snapinfo import Backup, BackupLun
from smhvlab.sql import Sql
from smhvlab.steps import step

_SYSTEM = frozenset({"master", "model", "modeldev", "msdbdata", "mssqlsystemresource", "tempdb", "distmdl"})
_ATTEMPTS = 12


@dataclass(frozen=True)
class FoundDatabase:
    """A database in a backup: its files by virtual disk (place in the state's ``disks``) and path inside the volume."""

    vm: str
    name: str
    data_disk: int
    data: str
    log_disk: int
    log: str

    def __str__(self) -> str:
        return f"{self.vm}: {self.name}"


@dataclass(frozen=True)
class Finding:
    """What was found of one database, or of one virtual disk; ``finding`` is empty when it is sound."""

    what: str
    finding: str = ""


@dataclass(frozen=True)
class VerifyState:
    """What one verification looks at.

    Attributes:
        server: name and id of the VM that lends its database engine, both "" if databases are not checked.
        mark: part of this run's own in the names under which databases are attached there.
    """

    backup: str
    host: str
    vms: tuple[str, ...]
    server: str
    server_id: str
    sources: tuple[str, ...]
    images: tuple[Image, ...] = field(metadata=CHOSEN)
    disks: tuple[DiskImage, ...] = field(metadata=CHOSEN)
    files: int = 0
    databases: tuple[FoundDatabase, ...] = ()
    findings: tuple[Finding, ...] = ()
    dataset: str = ""
    mark: str = field(default="", metadata=CHOSEN)

    @property
    def borrowed(self) -> str:
        """How the names begin under which the run attaches databases: another run may do so in the same VM."""
        return f"smhvlab_verify_{self.mark}_"

    @property
    def roots(self) -> tuple[str, ...]:
        """Where the images are."""
        return tuple(image.access_path for image in self.images)


@dataclass(frozen=True)
class Verified:
    """A backup that was looked at. ``marked``: SnapInfo says that it was verified."""

    backup: str
    marked: bool
    evidence: tuple[str, ...]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        head = f"{self.backup} {'was verified' if self.marked else 'was read, its databases were not checked'}"
        return "\n".join([head, *(f"  {line}" for line in self.evidence)])

    def _repr_html_(self) -> str:
        head, *lines = str(self).splitlines()
        items = "".join(f"<li>{escape(line.strip())}</li>" for line in lines)
        return f"<p><b>{escape(head)}</b></p><ul>{items}</ul>"


class VerifyBackup(Procedure[VerifyState]):
    """Verify a backup."""

    tr = "6.3, 6.8"

    def __init__(self, site: object, *, backup: str, server: str = "", databases: bool = True, host: str = "") -> None:
        super().__init__(site, backup=backup, server=server, databases=databases, host=host)
        self.backup = backup
        self.server = server
        self.databases = databases
        self.on = host

    def survey(self) -> VerifyState:
        """Find the images and a VM whose database engine can check them.

        Raises:
            NotFound: no such backup or VM, or a Snapshot copy of the backup is gone.
            NotAllowed: no running VM of the host offers a database engine, or it is lent to another verification.
        """
        backup = self.snapinfo.backup(self.backup)
        node = self.nodes[self.on] if self.on else self.nodes.own()
        images = Images(self.storage, node, self.nodes)
        places = used_places(backup, backup.vms)
        mark = f"verify_{own_stamp(self.site.now())}"
        shown = show_images(images, places, mark)
        server = self._server(node, backup) if self.databases else None
        return VerifyState(
            backup=backup.name,
            host=node.name,
            vms=tuple(vm.name for vm in backup.vms),
            server="" if server is None else server.name,
            server_id="" if server is None else server.id,
            sources=tuple(f"{image.parent}/{image.snapshot}{image.path}" for image in shown),
            images=shown,
            disks=tuple(disk_images(backup, backup.vms, shown, places)),
            dataset=backup.dataset,
            mark=mark.rpartition("_")[2],
        )

    def _server(self, node: Node, backup: Backup) -> Vm:
        """The VM that lends its engine: the one named, else a running one, rather one that is not in the backup."""
        if self.server:
            vm = node.hyperv.vm(self.server)
            if not vm.running:
                raise NotAllowed(
                    f"The VM {vm.name} cannot lend its database engine: it is {vm.state}",
                    next_action="Start it, or name another VM with server=.",
                    tr="6.3",
                )
            self._need_alone(vm)
            node.sql.databases(vm.name)
            return vm
        own = {vm.id for vm in backup.vms}
        busy: NotAllowed | None = None
        for vm in sorted(node.hyperv.vms(), key=lambda vm: (vm.id in own, vm.name)):
            if not vm.running or not _answers(node.sql, vm.name):
                continue
            try:
                self._need_alone(vm)
            except NotAllowed as error:
                busy = busy or error
                continue
            return vm
        if busy is not None:
            raise busy
        raise NotAllowed(
            f"No running VM of {node.name} offers a database engine to check the backup's databases with",
            next_action="Start one and name it with server=, or read the disks only with databases=False.",
            tr="6.3",
        )

    def _need_alone(self, vm: Vm) -> None:
        """A VM has no disk of any image: drives that come and go with it could be taken for those of this backup."""
        roots = (FOLDER, *(mount.image.access_path for mount in Mounts(self.snapinfo).all()))
        if others := [disk.path for disk in vm.disks if _below(disk.path, roots)]:
            raise NotAllowed(
                f"The VM {vm.name} cannot lend its database engine: it has {others[0]}",
                why="that is a disk of another verification, or of a mounted backup, and a database on it could be "
                "taken for one of this backup",
                next_action="Wait until that verification has ended, take the disk away with site.detach(MOUNT), "
                "or name another VM with server=.",
                tr="6.3",
            )

    def _node(self, s: VerifyState) -> Node:
        return self.nodes[s.host]

    def _virtual(self, s: VerifyState) -> VirtualDisks:
        return VirtualDisks(self._node(s).host)

    @step(
        "FlexClones of the backup's volumes, mounted on the side",
        tr="6.8",
        items=lambda s: s.images,
        counts=lambda s: {"ontap.volume.clone": len({i.clone for i in s.images}), "windows.rescan": len(s.images)},
    )
    def show(self, s: VerifyState) -> None:
        images = Images(self.storage, self._node(s), self.nodes)
        for image in self.track(s.images):
            images.ensure_shown(image)

    @show.undo
    def drop_images(self, s: VerifyState) -> None:
        Images(self.storage, self._node(s), self.nodes).discard_all(s.images)

    @step("Attach each virtual disk, read-only, and read it", tr="6.8", items=lambda s: s.disks)
    def read(self, s: VerifyState) -> VerifyState:
        virtual = self._virtual(s)
        virtual.discard_attached(*(disk.shown for disk in s.disks))  # of an interrupted try: two may have one signature
        found: list[GuestFile] = []
        for number, disk in enumerate(self.track(s.disks)):
            virtual.need_chain(disk.shown, s.roots)
            volumes = virtual.volumes(virtual.ensure_attached(disk.shown, read_only=True))
            if not volumes:
                raise NotVerified(
                    f"{disk.path} of {disk.vm} holds no volume that can be read",
                    next_action="Take another backup; look at the disk in the mounted backup: site.mount(...).",
                    tr="6.3",
                )
            for volume in volumes:
                found += virtual.files(number, volume)
            virtual.discard_attached(disk.shown)
        return replace(s, files=len(found), databases=tuple(_databases(s.disks, found)))

    @read.undo
    def drop_attached(self, s: VerifyState) -> None:
        self._virtual(s).discard_attached(*(disk.shown for disk in s.disks))

    @step(
        "Check the databases in a VM that has their engine",
        tr="6.3",
        items=lambda s: s.databases or ((f"in {s.server}",) if s.server else ()),
        when=lambda s: bool(s.server) and (bool(s.databases) or not s.files),
        otherwise="there is none, or they shall not be checked",
    )
    def check(self, s: VerifyState) -> VerifyState:
        self._give_back(s)  # of an interrupted try: a disk that is there already would get no new letter
        findings: list[Finding] = []
        number = 0
        for vm in s.vms:
            mine = [database for database in s.databases if database.vm == vm]
            wanted = sorted({n for database in mine for n in (database.data_disk, database.log_disk) if n >= 0})
            if wanted:
                self._need_alone(self._lender(s))
            letters = {disk: self._lend(s, disk) for disk in wanted}
            for database in self.track(mine):
                number += 1
                findings.append(Finding(str(database), self._sound(s, database, letters, f"{s.borrowed}{number}")))
            self._give_back(s)
        return replace(s, findings=tuple(findings))

    @check.undo
    def take_back(self, s: VerifyState) -> None:
        self._give_back(s)

    def _lend(self, s: VerifyState, number: int) -> str:
        """Hot-add a virtual disk; returns the letter that its volume has in the guest, "" if it gets none."""
        node, virtual = self._node(s), self._virtual(s)
        child = s.disks[number].child(number)
        known = self._places(s)
        before = node.sql.drives(s.server)
        virtual.ensure_child(s.disks[number], child)
        virtual.ensure_added(node.hyperv, s.server_id, child)
        for _ in range(_ATTEMPTS):
            new = node.sql.drives(s.server) - before
            if new:
                self._need_only(s, child, known)
                if node.sql.drives(s.server) - before == new:  # there before and after that look: the disk's own
                    return min(new)
            node.host.sleep(5)
        return ""

    def _need_only(self, s: VerifyState, child: str, known: frozenset[tuple[str, int, int]]) -> None:
        """The VM has got no other disk than this since. Raises NotAllowed."""
        if len(self._places(s) - known) > 1:
            raise NotAllowed(
                f"The VM {s.server} got another disk while it was lent {child}",
                why="nobody can tell which of the new drives is whose",
                next_action="Verify the backup again when nobody adds disks to it, or name another VM with server=.",
                tr="6.3",
            )

    def _lender(self, s: VerifyState) -> Vm:
        vm = self._node(s).hyperv.by_id(s.server_id)
        if vm is None:
            raise NotFound(
                f"The VM {s.server} is no longer on {s.host}",
                next_action="Verify the backup again, on the host that has it now, or name another VM with server=.",
                tr="6.3",
            )
        return vm

    def _places(self, s: VerifyState) -> frozenset[tuple[str, int, int]]:
        """Where the VM has disks: unlike a path, a place stays the same while somebody takes a checkpoint."""
        disks = self._lender(s).disks
        return frozenset((d.controller_type, d.controller_number, d.controller_location) for d in disks)

    def _sound(self, s: VerifyState, database: FoundDatabase, letters: dict[int, str], name: str) -> str:
        """What the engine has against a database, "" if nothing."""
        if database.log_disk < 0:
            return f"{database.data} has no log file beside it"
        data, log = letters[database.data_disk], letters[database.log_disk]
        if not data or not log:
            return f"the guest of {s.server} did not bring the disk online"
        sql = self._node(s).sql
        attached = sql.attach(s.server, name, data=f"{data}:{database.data}", log=f"{log}:{database.log}")
        if not attached.ok:
            return attached.finding  # an engine keeps no database that it could not attach
        finding = sql.checkdb(s.server, name).finding
        sql.detach(s.server, name)
        return finding

    def _give_back(self, s: VerifyState) -> None:
        """The VM has neither databases nor disks of the backup any more."""
        if not s.server:
            return
        node, virtual = self._node(s), self._virtual(s)
        server = node.hyperv.by_id(s.server_id)
        if server is not None and server.running and any(_below(disk.path, s.roots) for disk in server.disks):
            for name in node.sql.databases(s.server):
                if name.casefold().startswith(s.borrowed):
                    node.sql.detach(s.server, name)
        virtual.discard_added(node.hyperv, s.server_id, s.roots)
        for number, disk in enumerate(s.disks):
            virtual.discard_file(disk.child(number))

    @step("Unmount the FlexClones and delete them", tr="6.8", items=lambda s: tuple({i.clone: None for i in s.images}))
    def clean_up(self, s: VerifyState) -> None:
        self.drop_images(s)

    @step(
        "Record in SnapInfo that the backup was verified",
        tr="6.3",
        items=lambda s: (f"{s.backup}.verified",),
        when=lambda s: bool(s.server),
        otherwise="its databases were not checked",
    )
    def mark(self, s: VerifyState) -> None:
        damaged = [f"{finding.what}: {finding.finding}" for finding in s.findings if finding.finding]
        if damaged:
            raise NotVerified(
                f"{s.backup} does not hold what it should: {len(damaged)} of {len(s.findings)} databases are damaged",
                next_action="Keep an older backup that was verified, and take a new one.",
                why="; ".join(damaged),
                tr="6.3",
            )
        self.snapinfo.mark_verified(self.snapinfo.backup(s.backup), "\n".join(_evidence(s)))

    @mark.undo
    def drop_draft(self, s: VerifyState) -> None:
        # A finished mark stays: what it says is true, and it may be that of an earlier verification.
        self.snapinfo.discard_verified_draft(s.dataset, s.backup)

    def result(self, state: VerifyState) -> Verified:
        """What was looked at."""
        return Verified(state.backup, bool(state.server), tuple(_evidence(state)), state.findings)


def show_images(images: Images, places: list[BackupLun], mark: str) -> tuple[Image, ...]:
    """How images are shown on the side; LUNs of one Snapshot copy share its FlexClone volume."""
    clones: dict[tuple[str, str], str] = {}
    found = []
    for number, place in enumerate(places):
        parent = images.place(place)
        clone = clones.setdefault((parent.uuid, place.snapshot), clone_name(mark, len(clones)))
        igroup, made_for = images.igroup(parent.svm, images.initiators()[:1])
        path = f"{FOLDER}{mark}_{number}\\"
        identity = disk_guid(clone, place.path, like=place.disk_guid)
        found.append(Image(parent, place.snapshot, place.path, clone, igroup, path, identity, made_for=made_for))
    return tuple(found)


def _databases(disks: tuple[DiskImage, ...], files: list[GuestFile]) -> list[FoundDatabase]:
    """Data files and the log files that belong to them; the engine's own databases are left out."""
    found = []
    for file in files:
        stem, _, suffix = file.inside.rpartition("\\")[2].rpartition(".")
        if suffix.casefold() != "mdf" or stem.casefold() in _SYSTEM:
            continue
        vm = disks[file.disk].vm
        leaves = (f"{stem}_log.ldf".casefold(), f"{stem}.ldf".casefold())
        logs = [
            other
            for other in files
            if disks[other.disk].vm == vm and other.inside.rpartition("\\")[2].casefold() in leaves
        ]
        log = logs[0] if logs else None
        found.append(
            FoundDatabase(
                vm, stem, file.disk, file.inside, -1 if log is None else log.disk, "" if log is None else log.inside
            )
        )
    return sorted(found, key=lambda database: (database.vm, database.name))


def _evidence(s: VerifyState) -> list[str]:
    lines = [f"{len(s.disks)} virtual disks of {', '.join(s.vms)} were read: {s.files} files"]
    if s.server:
        sound = [finding.what for finding in s.findings if not finding.finding]
        lines.append(
            f"{len(sound)} databases were attached and checked with DBCC CHECKDB in {s.server}"
            if s.findings
            else "No database was found on them"
        )
        lines += [f"{what}: sound" for what in sound]
    return lines


def _answers(sql: Sql, vm: str) -> bool:
    try:
        sql.databases(vm)
    except (PowerShellError, NotFound):
        return False
    return True


def _below(path: str, roots: tuple[str, ...]) -> bool:
    return path.casefold().startswith(tuple(root.casefold() for root in roots))
