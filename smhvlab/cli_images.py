"""The command's verbs about mounted backups (TR 6.8)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.site import Site

Command = Callable[[argparse.Namespace], int]


class OnSite(Protocol):
    """Gives a verb the options of a site."""

    def __call__(self, sub: argparse.ArgumentParser, *, changes: bool = False) -> argparse.ArgumentParser: ...


@dataclass(frozen=True)
class Verbs:
    """What the command gives to the one who adds verbs.

    Attributes:
        verb: makes a verb of a name, a command and a help text.
        on_site: gives it ``--site``, and for changes ``--yes`` and ``--accept``.
        connect: opens the site of the options.
        carry_out: shows the plan of a flow, or runs it; returns the exit code.
        table: the command that shows a table of a site.
    """

    verb: Callable[[str, Command, str], argparse.ArgumentParser]
    on_site: OnSite
    connect: Callable[[argparse.Namespace], Site]
    carry_out: Callable[[Flow[Any], argparse.Namespace], int]
    table: Callable[[str], Command]


def add(to: Verbs) -> None:
    """Add the verbs."""

    def flow(make: Callable[[Site, argparse.Namespace], Flow[Any]]) -> Command:
        def command(options: argparse.Namespace) -> int:
            with to.connect(options) as site:
                return to.carry_out(make(site, options), options)

        return command

    to.on_site(to.verb("mounts", to.table("mounts"), "list the mounted backups of a site"))
    to.on_site(to.verb("busy", to.table("busy"), "list the Snapshot copies that cannot be deleted, and why"))
    mount = to.on_site(to.verb("mount", flow(_mount), "mount a backup on the host (TR 6.8)"), changes=True)
    mount.add_argument("backup")
    mount.add_argument("--lun", default="", help="volume, LUN or access path of the LUN, or a VM on it")
    mount.add_argument("--at", default="", help="drive letter, or a folder that does not exist yet")
    mount.add_argument(
        "--copy",
        default="recovered",
        choices=["recovered", "first"],
        help="which Snapshot copy: the one with the suffix _backup, or the one before it (default: %(default)s)",
    )
    mount.add_argument("--initiator", default="", help="of the host (default: its first)")
    mount.add_argument("--igroup", default="", help="an initiator group that exists (default: chosen or made)")
    mount.add_argument("--group", default="", help="cluster group for the disk")
    mount.add_argument("--new-group", action="store_true", help="make that cluster group")
    mount.add_argument("--csv", action="store_true", help="add the disk to the cluster shared volumes")
    mount.add_argument("--host", default="", help="a node of the cluster (default: that which has the SnapInfo disk)")
    unmount = to.on_site(to.verb("unmount", flow(_unmount), "unmount a backup (TR 6.8)"), changes=True)
    unmount.add_argument("mount", help="name of the mount, its path, or its backup")
    verify = to.on_site(
        to.verb("verify", flow(_verify), "check the images and databases of a backup (TR 6.3)"), changes=True
    )
    verify.add_argument("backup")
    verify.add_argument("--server", default="", help="the VM whose database engine is used (default: a running one)")
    verify.add_argument("--no-databases", action="store_true", help="only read the virtual disks")
    verify.add_argument("--host", default="", help="a node of the cluster (default: that which has the SnapInfo disk)")


def _mount(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.mount(
        options.backup,
        lun=options.lun,
        at=options.at,
        copy=options.copy,
        initiator=options.initiator,
        igroup=options.igroup,
        group=options.group,
        new_group=options.new_group,
        csv=options.csv,
        host=options.host,
    )


def _unmount(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.unmount(options.mount)


def _verify(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.verify(options.backup, server=options.server, databases=not options.no_databases, host=options.host)
