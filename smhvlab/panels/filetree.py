"""The backup browser: dataset, backup, VM, virtual disk, folder, file (TR 6.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import ipywidgets as widgets

from smhvlab.errors import NotAllowed, SmhvLabError
from smhvlab.mount.browse import Entry, listing
from smhvlab.mount.mounts import Mount, Mounts
from smhvlab.panels import html
from smhvlab.panels.panel import Panel, button

if TYPE_CHECKING:
    from smhvlab.tables import SiteTables

_HOST: Final = "files of the host"
_LEVELS: Final = ("Datasets", "Backups", "VMs", "Disks")


@dataclass(frozen=True)
class Node:
    """An entry of the level that is shown; ``leaf``: nothing is below it."""

    name: str
    about: str = ""
    leaf: bool = False


class BackupTree(Panel):
    """Walks through the backups of a site, and through the files of those that are mounted.

    Args:
        site: the site; it is only read.
        mount: where to begin: the name, path or backup of a mount, "" at the datasets.
    """

    def __init__(self, site: SiteTables, mount: str = "") -> None:
        super().__init__()
        self._site = site
        self.path: tuple[str, ...] = ()
        self.nodes: tuple[Node, ...] = ()
        self.problem = ""
        self.entries = widgets.Select(description="", rows=12, layout={"width": "28em"})
        self.up = button("Up", "One level up", self.leave, relay=self.relay)
        self.down = button("Open", "Go into what is chosen", self._enter_chosen, relay=self.relay)
        self.view = widgets.VBox([widgets.HBox([self.up, self.down]), self.entries, self.picture])
        found = Mounts(site.tools().snapinfo).one(mount) if mount else None
        self.go(() if found is None else (found.dataset, found.backup))

    def go(self, path: tuple[str, ...]) -> None:
        """Show another place. A place that cannot be read is told, and the panel stays usable."""
        try:
            self.nodes, self.problem = self._below(path), ""
        except SmhvLabError as error:
            self.nodes, self.problem = (), f"{error.message}. {error.next_action}"
        self.path = path
        self.entries.options = [node.name for node in self.nodes]
        self.refresh()

    def enter(self, name: str) -> None:
        """Go into an entry of the level that is shown; a file is no place to go to."""
        if any(node.name == name and not node.leaf for node in self.nodes):
            self.go((*self.path, name))

    def leave(self) -> None:
        """Go up one level."""
        self.go(self.path[:-1])

    def _enter_chosen(self) -> None:
        if self.entries.value is not None:
            self.enter(self.entries.value)

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
