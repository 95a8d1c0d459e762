"""The command's verbs about mounted backups (TR 6.8)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.site import Site

Command = Callable[[argparse.Namespace], int]


class Show(Protocol):
    """Prints a table."""

    def __call__(self, table: Any, options: argparse.Namespace) -> None: ...


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
        table: the command that shows a table of a site; ``show`` prints any, ``say`` a line.
    """

    verb: Callable[[str, Command, str], argparse.ArgumentParser]
    on_site: OnSite
    connect: Callable[[argparse.Namespace], Site]
    carry_out: Callable[[Flow[Any], argparse.Namespace], int]
    table: Callable[[str], Command]
    show: Show
    say: Callable[[object], None]


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
    mount.add_argument("--guests", action="store_true", help="attach the virtual disks too, to browse their files")
    unmount = to.on_site(to.verb("unmount", flow(_unmount), "unmount a backup (TR 6.8)"), changes=True)
    unmount.add_argument("mount", help="name of the mount, its path, or its backup")
    restore_file = to.on_site(
        to.verb("restore-file", flow(_restore_file), "copy one file out of a backup (TR 6.8)"), changes=True
    )
    restore_file.add_argument("backup")
    restore_file.add_argument("--vm", default="", help="whose file it is")
    restore_file.add_argument("--guest-path", default="", help="path of the file in the VM's guest")
    restore_file.add_argument("--host-path", default="", help="path of the file on the host")
    restore_file.add_argument("--to", required=True, help="path of the copy on the host")
    restore_file.add_argument("--disk", type=int, help="which virtual disk of the VM, from 0")
    restore_file.add_argument("--host", default="", help="a node of the cluster")
    browse = to.on_site(to.verb("browse", _browsing(to), "list a folder of a mounted backup (TR 6.8)"))
    browse.add_argument("mount", help="name of the mount, its path, or its backup")
    browse.add_argument("--vm", default="", help="a VM whose guest's files are meant (mount with --guests)")
    browse.add_argument("--path", default="\\", help="the folder (default: the root)")
    hot_add = to.on_site(
        to.verb("hot-add", flow(_hot_add), "give a virtual disk of a mounted backup to a running VM (TR 6.8)"),
        changes=True,
    )
    hot_add.add_argument("mount")
    hot_add.add_argument("vm", help="whose disk it is")
    hot_add.add_argument("--to", required=True, help="the VM that gets it")
    hot_add.add_argument("--disk", type=int, default=0, help="which disk, from 0")
    detach = to.on_site(to.verb("detach", flow(_detach), "take such disks away from the VMs"), changes=True)
    detach.add_argument("mount")
    line = to.on_site(
        to.verb("line", _line(to), "a line of the TR: Restore-Backup, sdcli snap, ... (TR 8)"),
        changes=True,
    )
    line.add_argument("text", help="the whole line in quotation marks; -Confirm:$false accepts the warnings")
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
        guests=options.guests,
    )


def _unmount(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.unmount(options.mount)


def _verify(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.verify(options.backup, server=options.server, databases=not options.no_databases, host=options.host)


def _restore_file(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.restore_file(
        options.backup,
        options.vm,
        to=options.to,
        guest_path=options.guest_path,
        host_path=options.host_path,
        disk=options.disk,
        host=options.host,
    )


def _hot_add(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.hot_add(options.mount, options.vm, to=options.to, disk=options.disk)


def _detach(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.detach(options.mount)


def _browsing(to: Verbs) -> Command:
    def command(options: argparse.Namespace) -> int:
        with to.connect(options) as site:
            to.show(site.browse(options.mount, options.vm, path=options.path), options)
        return 0

    return command


def _line(to: Verbs) -> Command:
    def command(options: argparse.Namespace) -> int:
        from smhvlab.shell import Shell

        with to.connect(options) as site:
            result = Shell(site, tell=lambda text: print(text, file=sys.stderr)).run(
                options.text, plan_only=not options.yes, accept=options.accept
            )
            if hasattr(result, "to_json"):
                to.show(result, options)
            elif options.json:
                to.say(json.dumps({"text": str(result)}))
            else:
                to.say(result)
        return 0

    return command
