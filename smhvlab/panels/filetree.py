"""The backup browser: dataset, backup, VM, virtual disk, folder, file (TR 6.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import ipywidgets as widgets

from smhvlab.errors import NotAllowed, NotFound, SmhvLabError
from smhvlab.mount.browse import Entry, listing
from smhvlab.mount.mounts import Mount, Mounts
from smhvlab.panels import html
from smhvlab.panels.background import Background, BackgroundPanel
from smhvlab.panels.panel import button
from smhvlab.panels.stepper import StepperPanel

if TYPE_CHECKING:
    from smhvlab.mount.files import RestoreFile
    from smhvlab.site import Site

_HOST: Final = "files of the host"
_LEVELS: Final = ("Datasets", "Backups", "VMs", "Disks")


@dataclass(frozen=True)
class Node:
    """An entry of the level that is shown; ``leaf``: nothing is below it."""

    name: str
    about: str = ""
    leaf: bool = False


class BackupTree(BackgroundPanel):
    """Walks through the backups of a site, and through the files of those that are mounted; a file can be copied out.

    Args:
        site: the site; it is only read.
        mount: where to begin: the name, path or backup of a mount, "" at the datasets.
    """

    def __init__(self, site: Site, mount: str = "") -> None:
        super().__init__()
        self._site = site
        self.path: tuple[str, ...] = ()
        self.nodes: tuple[Node, ...] = ()
        self.problem = ""
        self.stepper: StepperPanel | None = None
        self.entries = widgets.Select(description="Entries", rows=8, layout={"width": "36em"})
        self.entries.observe(lambda _: self.relay(self._offer), names="value")
        self.up = button("Up", "One level up", self._leave_aside, relay=self.relay)
        self.down = button("Open", "Go into what is chosen", self._enter_chosen, relay=self.relay)
        self.to = widgets.Text(description="Copy to", placeholder="C:\\folder\\file on the host")
        self.copy = button("Copy out", "Plan a copy of the chosen file", self._copy_chosen, relay=self.relay)
        self.body = widgets.VBox()
        row, out = widgets.HBox([self.up, self.down]), widgets.HBox([self.to, self.copy])
        self.view = widgets.VBox([row, self.entries, out, self.picture, self.body])
        self._wanted: tuple[str, ...] = ()
        self._work: Background[tuple[tuple[Node, ...], str]] = Background(
            lambda: self._read(self._wanted), release=site.release, done=self._arrived, relay=self.relay
        )
        found = Mounts(site.tools().snapinfo).one(mount) if mount else None
        self.go(() if found is None else (found.dataset, found.backup))

    def go(self, path: tuple[str, ...]) -> None:
        """Show another place. A place that cannot be read is told, and the panel stays usable."""
        self._show(path, *self._read(path))

    def start(self, path: tuple[str, ...]) -> None:
        """As ``go``, in the background: what the buttons do."""
        if not self._work.busy:
            self._wanted = path
            self._work.start()
            self._offer()

    def _read(self, path: tuple[str, ...]) -> tuple[tuple[Node, ...], str]:
        try:
            return self._below(path), ""
        except SmhvLabError as error:
            return (), f"{error.message}. {error.next_action}"

    def _arrived(self, found: tuple[tuple[Node, ...], str] | None, error: BaseException | None) -> None:
        self._show(self._wanted, *(found or ((), f"{type(error).__name__}: {error}")))

    def _show(self, path: tuple[str, ...], nodes: tuple[Node, ...], problem: str) -> None:
        self.path, self.nodes, self.problem = path, nodes, problem
        self.entries.options = [node.name for node in nodes]
        self._offer()
        self.refresh()

    def _offer(self) -> None:
        """Only buttons that do something now can be pressed."""
        node = self._chosen
        self.up.disabled = self._work.busy or not self.path
        self.down.disabled = self._work.busy or node is None or node.leaf
        self.copy.disabled = self.to.disabled = self._work.busy or node is None or not self._is_file(node)

    @property
    def _chosen(self) -> Node | None:
        return next((node for node in self.nodes if node.name == self.entries.value), None)

    def _is_file(self, node: Node) -> bool:
        return node.leaf and len(self.path) >= 3

    def enter(self, name: str) -> None:
        """Go into an entry of the level that is shown; a file is no place to go to."""
        if any(node.name == name and not node.leaf for node in self.nodes):
            self.go((*self.path, name))

    def leave(self) -> None:
        """Go up one level."""
        self.go(self.path[:-1])

    def _leave_aside(self) -> None:
        self.start(self.path[:-1])

    def _enter_chosen(self) -> None:
        node = self._chosen
        if node is not None and not node.leaf:
            self.start((*self.path, node.name))

    # --- a file of this place, on the host

    def copy_out(self, name: str, *, to: str) -> RestoreFile:
        """The flow that copies a file of the level that is shown out of the backup (TR 6.8). Raises NotFound."""
        if not any(node.name == name and self._is_file(node) for node in self.nodes):
            raise NotFound(
                f"{name} is no file of {' > '.join(self.path) or 'the datasets'}",
                next_action="Go to the folder that holds the file first.",
                tr="6.8",
            )
        _, backup, vm, *rest = self.path
        if vm == _HOST:
            place = self._mount(backup)
            root = place.place if place is not None else ""
            return self._site.restore_file(backup, host_path=root + "\\".join((*rest, name)), to=to)
        disk = int(rest[0].removeprefix("disk "))
        inside = "\\".join((*rest[1:], name))
        return self._site.restore_file(backup, vm, guest_path=f"C:\\{inside}", disk=disk, to=to)

    def _copy_chosen(self) -> None:
        node = self._chosen
        if node is None:
            return
        stepper = StepperPanel(self.copy_out(node.name, to=self.to.value.strip()), log=self._site.log)
        self.body.children = (stepper.view,)
        self.stepper = stepper
        stepper.start_plan()

    # --- what is below a place

    def _below(self, path: tuple[str, ...]) -> tuple[Node, ...]:
        snapinfo = self._site.tools().snapinfo
        if len(path) >= 3:
            return self._inside(path[1], path[2], path[3:])
        catalogue = snapinfo.catalogue()
        if not path:
            counts: dict[str, int] = {}
            for backup in catalogue.backups:
                counts[backup.dataset] = counts.get(backup.dataset, 0) + 1
            return tuple(Node(name, f"{count} backup(s)") for name, count in sorted(counts.items()))
        mounts = {mount.backup: mount for mount in Mounts(snapinfo).all()}
        if len(path) == 1:
            return tuple(
                Node(
                    backup.name,
                    ", ".join(
                        part
                        for part in (
                            backup.registered_as,
                            "verified" if backup.name in catalogue.verified else "",
                            f"mounted at {mounts[backup.name].image.access_path}" if backup.name in mounts else "",
                        )
                        if part
                    ),
                )
                for backup in catalogue.backups
                if backup.dataset == path[0]
            )
        vms = snapinfo.backup(path[1]).vms
        return (Node(_HOST), *(Node(vm.name, f"{len(vm.disks)} disk(s), {vm.state}") for vm in vms))

    def _inside(self, name: str, vm: str, rest: tuple[str, ...]) -> tuple[Node, ...]:
        """Below a VM: its disks, and if the backup is mounted with its guests, their folders."""
        mount = self._mount(name)
        if vm == _HOST:
            if mount is None:
                raise _not_mounted(name)
            return self._listed(mount, "", rest, disk=-1)
        if not rest:
            disks = next(each for each in self._site.tools().snapinfo.backup(name).vms if each.name == vm).disks
            return tuple(Node(f"disk {number}", disk.path) for number, disk in enumerate(disks))
        if mount is None:
            raise _not_mounted(name)
        return self._listed(mount, vm, rest[1:], disk=int(rest[0].removeprefix("disk ")))

    def _listed(self, mount: Mount, vm: str, folders: tuple[str, ...], *, disk: int) -> tuple[Node, ...]:
        found = listing(self._site.tools(), mount.name, vm=vm, path="\\" + "\\".join(folders))
        return tuple(Node(entry.name, _about(entry), leaf=not entry.folder) for entry in found if entry.disk == disk)

    def _mount(self, backup: str) -> Mount | None:
        mounts = [mount for mount in Mounts(self._site.tools().snapinfo).all() if mount.backup == backup]
        return next((mount for mount in mounts if mount.guests), mounts[0] if mounts else None)

    # --- the picture

    def describe(self) -> str:
        """Where the panel is, and what is there, as text."""
        lines = [f"BackupTree({' > '.join(self.path) or 'datasets'})"]
        lines += [f"  {node.name}" + (f"  ({node.about})" if node.about else "") for node in self.nodes]
        return "\n".join(lines + [f"  {self.problem}"] * bool(self.problem))

    def render(self) -> str:
        """The way to this place, and a table of what is there."""
        depth = len(self.path)
        title = _LEVELS[depth] if depth < len(_LEVELS) else "Files"
        way = html.facts({"Place": " > ".join(self.path)})
        if self.problem:
            return html.card("Backups", way, html.sign("!", "cannot be shown", html.WARN), html.text(self.problem))
        if not self.nodes:
            return html.card("Backups", way, html.text("Nothing is here."))
        signs = ["" if node.leaf or depth < len(_LEVELS) else "\\" for node in self.nodes]
        names = [html.text(node.name + sign) for node, sign in zip(self.nodes, signs, strict=True)]
        rows = [[name, html.text(node.about)] for name, node in zip(names, self.nodes, strict=True)]
        return html.card("Backups", way, html.table([title, "About"], rows))


def _about(entry: Entry) -> str:
    if entry.folder:
        return ""
    later = ", written after the backup: not the disk of the backup" if entry.leaf else ""
    return f"{entry.size:,} bytes, {entry.modified}{later}"


def _not_mounted(backup: str) -> NotAllowed:
    return NotAllowed(
        f"{backup} is not mounted", next_action=f'Run site.mount("{backup}", lun=..., guests=True) first.', tr="6.8"
    )
