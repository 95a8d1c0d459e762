"""The command's verbs from bare storage to a VM (TR 2.2 and the appendix)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smhvlab.cli.images import Command, Verbs

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.site import Site


def add(to: Verbs) -> None:
    """Add the verbs."""

    def flow(make: Callable[[Site, argparse.Namespace], Flow[Any]]) -> Command:
        def command(options: argparse.Namespace) -> int:
            with to.connect(options) as site:
                return to.carry_out(make(site, options), options)

        return command

    prepare = to.on_site(
        to.verb("prepare-storage", flow(_prepare), "a volume for LUNs and all that it needs (TR 2.2/1-2)"), changes=True
    )
    prepare.add_argument("volume")
    prepare.add_argument("--size", required=True, help="of the volume, e.g. 40GB")
    prepare.add_argument("--thick", action="store_true", help="with a space guarantee")
    prepare.add_argument("--aggregate", default="", help="default: the one with the most room")
    prepare.add_argument("--disks", type=int, default=0, help="make the aggregate of so many disks")
    prepare.add_argument("--node", default="", help="the controller of a new aggregate")
    prepare.add_argument("--svm", default="", help="the Vserver (default: the one that serves the hosts)")
    prepare.add_argument("--address", action="append", default=[], help="of a data LIF to be made; may be repeated")
    prepare.add_argument("--management", default="", help="address of the management LIF")
    prepare.add_argument("--netmask", default="255.255.255.0", help="of the new LIFs (default: %(default)s)")
    disk = to.on_site(to.verb("create-disk", flow(_disk), "a LUN as a formatted disk (TR 2.2)"), changes=True)
    disk.add_argument("volume")
    disk.add_argument("--size", required=True, help="of the LUN, e.g. 30GB")
    disk.add_argument("--at", default="", help="drive letter, or a folder that does not exist yet")
    disk.add_argument("--lun", default="", help="its name in the volume")
    disk.add_argument("--thick", action="store_true", help="with a space reservation")
    disk.add_argument("--label", default="", help="of the file system")
    disk.add_argument("--svm", default="", help="if several have a volume of that name")
    disk.add_argument("--csv", default="", metavar="FOLDER", help="a cluster shared volume below C:\\ClusterStorage")
    disk.add_argument("--group", default="", help="cluster group that gets the disk")
    disk.add_argument("--new-group", action="store_true", help="make the cluster group")
    disk.add_argument("--quorum", action="store_true", help="it becomes the quorum witness")
    disk.add_argument("--host", default="", help="a node of the cluster (default: the one that owns the group)")
    golden = to.on_site(
        to.verb("build-golden", flow(_golden), "a golden VM on a disk of its own (TR 2.2)"), changes=True
    )
    golden.add_argument("vm")
    golden.add_argument("--at", required=True, help="where its disk is mounted")
    golden.add_argument("--image", default="golden", help="the VM whose VHDs are copied (default: %(default)s)")


def _golden(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.build_golden(options.vm, at=options.at, image=options.image)


def _prepare(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.prepare_storage(
        options.volume,
        size=options.size,
        thin=not options.thick,
        aggregate=options.aggregate,
        disks=options.disks,
        node=options.node,
        svm=options.svm,
        addresses=options.address,
        management=options.management,
        netmask=options.netmask,
    )


def _disk(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.create_disk(
        options.volume,
        size=options.size,
        at=options.at,
        lun=options.lun,
        thick=options.thick,
        label=options.label,
        svm=options.svm,
        csv=options.csv,
        group=options.group,
        new_group=options.new_group,
        quorum=options.quorum,
        host=options.host,
    )
