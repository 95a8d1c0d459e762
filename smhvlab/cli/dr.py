"""The command's verbs about two sites (TR 8)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smhvlab.cli.images import Command, Verbs

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.site import Site

_OF_TWO_SITES = frozenset(
    {"ProtectReplication", "ReverseReplication", "Failback", "ReturnToNormal", "PlannedMigration"}
)
"""Flows that go on only with both sites."""


def add(to: Verbs) -> None:
    """Add the verbs."""

    def flow(make: Callable[[Site, argparse.Namespace], Flow[Any]]) -> Command:
        def command(options: argparse.Namespace) -> int:
            with coupled(options, to.connect) as site:
                return to.carry_out(make(site, options), options)

        return command

    def verb(name: str, make: Callable[[Site, argparse.Namespace], Flow[Any]], text: str) -> argparse.ArgumentParser:
        sub = to.on_site(to.verb(name, flow(make), text), changes=True)
        sub.add_argument("--partner", default="", help="the other site, as --site; leave it out if it is destroyed")
        return sub

    protect = verb("protect", _protect, "on the primary: replicate data and SnapInfo to the other site (TR 8)")
    protect.add_argument("volume", nargs="*", help="default: those of all datasets, and SnapInfo's")
    protect.add_argument("--inside", action="store_true", help="to other volumes of the same cluster")
    info = verb("connect-snapinfo", _connect_snapinfo, "on the secondary: failover steps 1 to 3 for SnapInfo (TR 8)")
    info.add_argument("--volume", default="snapinfo", help="the primary's SnapInfo volume (default: %(default)s)")
    info.add_argument("--folder", default="S:\\SnapInfo", help="where SnapInfo was there (default: %(default)s)")
    _manner(info)
    failover = verb("failover", _failover, "on the secondary: failover steps 1 and 4 to 7 (TR 8)")
    failover.add_argument("backup", nargs="*", help="default: the newest of each dataset whose data arrived")
    failover.add_argument("--vm", action="append", default=[], help="only this VM; may be repeated")
    _manner(failover)
    verb("reverse", _reverse, "on the site that runs the VMs: failback steps 1 to 3 (TR 8)")
    failback = verb("failback", _failback, "on the site to which the VMs go home: failback steps 4 to 11 (TR 8)")
    failback.add_argument("--no-update", action="store_true", help="leave out the extra update: data are lost")
    verb("return-to-normal", _normal, "on the secondary: clean up, and mirror in the first direction again (TR 8)")
    rehearse = verb("rehearse", _rehearse, "on the secondary: run a backup's VMs from clones, check, remove all (TR 8)")
    rehearse.add_argument("backup", nargs="*", help="default: the newest of each dataset whose data arrived")
    rehearse.add_argument("--vm", action="append", default=[], help="only this VM; may be repeated")
    rehearse.add_argument("--copies", action="store_true", help="full copies with new ids: where the VMs' ids are here")
    rehearse.add_argument("--to", default="", metavar="FOLDER", help="of the copies; default: on SnapInfo's disk or C:")
    for sub in (info, failover, failback, rehearse):
        text = "node of a failover cluster to work from; it must own the cluster group (default: the owner)"
        sub.add_argument("--node", default="", help=text)
    migrate = verb("migrate", _migrate, "on the primary: shut down, last backup, update; then fail over (TR 8)")
    migrate.add_argument("dataset")
    book = to.verb("run", _runbook(to), "execute a notebook as a runbook; keep it with its journals and a report")
    book.add_argument("name", help="below the notebooks' folder, e.g. dr/failover")
    book.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    book.add_argument("--notebooks", default=None, metavar="FOLDER", help="default: those of this checkout")
    book.add_argument("--runs", default="runs", metavar="FOLDER", help="where the run is kept (default: %(default)s)")


def _manner(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--manner",
        default="",
        choices=["today", "tr"],
        help="tr: break, then SnapRestore, with the TR's end states (default: tr up to Windows Server 2012)",
    )


def _protect(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.dr.protect(options.volume, inside=options.inside)


def _connect_snapinfo(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.dr.connect_snapinfo(
        volume=options.volume, folder=options.folder, manner=options.manner, node=options.node
    )


def _failover(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.dr.failover(options.backup, vms=options.vm, manner=options.manner, node=options.node)


def _reverse(site: Site, _: argparse.Namespace) -> Flow[Any]:
    return site.dr.reverse()


def _failback(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.dr.failback(update=not options.no_update, node=options.node)


def _normal(site: Site, _: argparse.Namespace) -> Flow[Any]:
    return site.dr.return_to_normal()


def _rehearse(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.dr.rehearse(options.backup, vms=options.vm, node=options.node, copies=options.copies, to=options.to)


def _migrate(site: Site, options: argparse.Namespace) -> Flow[Any]:
    return site.dr.migrate(options.dataset)


def demo(options: argparse.Namespace, tell: Callable[[str], None]) -> Any:
    """The disaster on a lab of its own; its result."""
    from smhvlab.dr.demo import DrDemo, disaster_of
    from smhvlab.dr.sites import connect_pair

    with connect_pair(options.site) as pair:
        return DrDemo(pair, disaster_of(pair.primary.keep), tell=tell).run()


def _runbook(to: Verbs) -> Command:
    def command(options: argparse.Namespace) -> int:
        from smhvlab.errors import NotAllowed
        from smhvlab.runbook import run
        from smhvlab.workbench import notebooks

        wrong = [text for text in options.parameter if "=" not in text]
        if wrong:
            raise NotAllowed(f"{wrong[0]!r} is no parameter", next_action="Write it as -p NAME=VALUE.")
        parameters = dict(text.split("=", 1) for text in options.parameter)
        done = run(options.name, parameters, home=notebooks(options.notebooks), runs=Path(options.runs))
        if options.json:
            told = {"folder": str(done.folder), "notebook": str(done.notebook), "report": str(done.report)}
            to.say(json.dumps(told | {"journals": [str(path) for path in done.journals]}))
        else:
            to.say(done)
        return 0

    return command


def add_to_doctor(doctor: argparse.ArgumentParser) -> None:
    """What the doctor needs for flows over two sites, and for runbooks."""
    doctor.add_argument("--partner", default="", help="the other site, for runs of disaster recovery")
    doctor.add_argument("--journals", default="", metavar="FOLDER", help="of a runbook's run (default: the site's own)")


@contextmanager
def coupled(options: argparse.Namespace, connect: Callable[[argparse.Namespace], Site]) -> Iterator[Site]:
    """The site of the options, with its partner if that is named."""
    from smhvlab.dr.sites import couple

    with ExitStack() as stack:
        site = stack.enter_context(connect(options))
        if options.partner:
            other = argparse.Namespace(**{**vars(options), "site": options.partner})
            couple(stack.enter_context(connect(other)), site)
        yield site


def doctor_line(options: argparse.Namespace, run: str, action: str = "") -> str:
    """The command that mends a run, with the sites that it needs."""
    named = getattr(options, "partner", "")
    if not named and options.command.__name__ == "_doctor" and run.partition("-")[2] in _OF_TWO_SITES:
        named = "OTHER-SITE"  # the one who typed the doctor's line has forgotten it
    partner = f" --partner {named}" if named else ""
    folder = getattr(options, "journals", "")
    kept = f" --journals {folder}" if folder else ""
    return f"smhvlab doctor --site {options.site}{partner}{kept}" + (f" --{action} {run}" if action else "")


@contextmanager
def mendable(options: argparse.Namespace, connect: Callable[[argparse.Namespace], Site]) -> Iterator[Site]:
    """The site of the options, with its partner and journals if they are named."""
    with coupled(options, connect) as site:
        if options.journals:
            site.profile = replace(site.profile, journals=Path(options.journals))
        yield site
