"""``labenv``: start, stop and steer a lab from a terminal; ``EXIT_CODES`` is a part of every ``--help``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labenv import faultcli, topology
from labenv.console import say
from labenv.faults import EFFECTS, PLACES
from labenv.lab import Lab, LabError, attach, default_state, process_arguments, up

EXIT_CODES = (
    "Exit codes: 0 done; 1 the lab or the request is at fault (why and what to do is on standard error, or in the JSON "
    "object); 2 wrong arguments; 3 `status` found no lab; 130 interrupted."
)
_SWITCHES = ("off", "on")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except (LabError, topology.TopologyError) as error:
        if getattr(options, "json", False):
            say(json.dumps({"error": str(error)}))
        else:
            say(f"labenv: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="labenv", description="A simulated site for TR-4004 on this machine.", epilog=EXIT_CODES
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
        sub.add_argument("--state", type=Path, default=default_state(), help="state folder (default: %(default)s)")
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        sub.set_defaults(command=command)
        return sub

    start = verb("up", _up, "start a lab and leave it running")
    start.add_argument("topology", help=f"one of {', '.join(topology.names())}, or the path of a .toml file")
    start.add_argument("--seed", type=int, help="seed of every id and of the guests' lazy writers (a new lab: 1)")
    start.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    start.add_argument(
        "--standard-ports", action="store_true", help="listen on 443 and 5986, for clients which know no port"
    )
    start.add_argument("--realtime", type=float, metavar="X", help="X lab seconds per real second; default: no waiting")
    start.add_argument("--trace", type=Path, metavar="FILE", help="write all requests to an HTTP archive, no secrets")
    start.add_argument("--delay", type=float, default=0.0, help="lab seconds that every request takes longer")
    start.add_argument("--strict", action="store_true", help="the array refuses a PATCH that changes nothing")
    start.add_argument("--foreground", action="store_true", help="stay in this terminal; Ctrl-C stops the lab")
    verb("status", _status, "what runs, since when in lab time, and its VMs")
    verb("down", _down, "stop the lab; its state folder stays")
    verb("reset", _reset, "back to the state in which the lab was first started")
    for name, text in (("checkpoint", "keep the whole site under a name"), ("restore", "go back to a checkpoint")):
        verb(name, _named(name), text).add_argument("name")
    clock = verb("clock", _clock, "show lab time, or let it pass: clock advance 24h")
    clock.add_argument("action", nargs="?", choices=["advance"])
    clock.add_argument("span", nargs="?", help="such as 90s, 15m, 24h, 7d")
    fault = verb("fault", faultcli.fault, "show what is broken, list what can be, break something, or mend it")
    fault.add_argument("action", nargs="?", default="show", choices=["show", "list", "set", "clear"])
    fault.add_argument("cause", nargs="?", help="a named cause (see: fault list)")
    fault.add_argument("option", nargs="*", metavar="OPTION=VALUE", help="what is said about it")
    fault.add_argument("--markdown", action="store_true", help="the list as the page docs/faults.md")
    fault.add_argument("--where", choices=list(PLACES), help="the place it acts at")
    fault.add_argument("--effect", choices=EFFECTS)
    fault.add_argument("--match", action="append", default=[], metavar="NAME=PATTERN", help="what it acts on")
    fault.add_argument("--seconds", type=float, default=0.0, help="lab seconds of a delay")
    fault.add_argument("--status", type=int, default=500, help="HTTP status of an error")
    fault.add_argument("--code", default="", help="the wire's error code")
    fault.add_argument("--message", default="")
    fault.add_argument("--times", type=int, default=1, help="how often it acts; 0: always")
    host = verb("host", _host, "switch a host off or on, show, cut or mend its paths to the storage")
    host.add_argument("name", help="the host")
    host.add_argument("action", choices=[*_SWITCHES, "cut", "mend", "paths"])
    host.add_argument("portal", nargs="?", help="address of the LIF of a path to cut or mend")
    verb("topologies", _topologies, "the sites that can be started")
    covered = verb("coverage", _coverage, "the routes, fields and codes of the ONTAP REST API that the lab has")
    covered.add_argument("--markdown", action="store_true", help="the page docs/coverage.md")
    return parser


def _up(options: argparse.Namespace) -> int:
    topology.load(options.topology)  # a typo is told before a process is started
    how: dict[str, Any] = {
        "state": options.state,
        "seed": options.seed,
        "bind": options.bind,
        "standard_ports": options.standard_ports,
        "realtime": options.realtime,
        "trace": options.trace,
        "delay": options.delay,
        "strict": options.strict,
    }
    if options.foreground:
        return _stay(options, process_arguments(options.topology, **how))
    lab = up(options.topology, **how)
    _tell(options, lab.profile)
    if not options.json:
        say(f"Stop it with: labenv down --state {options.state}")
    return 0


def _stay(options: argparse.Namespace, arguments: list[str]) -> int:
    from labenv.process import main as serve  # everything that a lab consists of: only where it is needed

    failures = []

    def report(message: Mapping[str, object]) -> None:
        if "error" in message:
            failures.append(str(message["error"]))
            return
        _tell(options, options.state / "endpoints.json")
        if not options.json:
            say("Stop it with Ctrl-C")

    code = serve(arguments, say=report)
    if failures:
        raise LabError(failures[0])
    return code


def _tell(options: argparse.Namespace, profile: Path) -> None:
    if options.json:
        say(json.dumps({"state": str(options.state), "endpoints": str(profile)}))
        return
    endpoints = json.loads(profile.read_text("utf-8"))
    say(f"Lab {options.topology} answers; its state is in {options.state}")
    for kind, title in (("storage", "storage cluster"), ("hyperv", "Hyper-V host")):
        for entry in endpoints[kind]:
            say(f"  {title} {entry['name']}: https://{entry['host']}:{entry['port']} as {entry['user']}")
    say(f"Passwords and the CA file are named in {profile}")


def _status(options: argparse.Namespace) -> int:
    try:
        status = attach(options.state).status()
    except LabError as error:
        if options.json:
            say(json.dumps({"running": False, "reason": str(error)}))
        else:
            say(f"labenv: {error}", error=True)
        return 3
    if options.json:
        say(json.dumps({"running": True, **status}))
        return 0
    say(f"{status['topology']}: {status['title']}")
    say(f"  lab time     {status['time']}")
    say(f"  checkpoints  {', '.join(status['checkpoints']) or 'none'}")
    for name, state in status["vms"].items():
        say(f"  VM {name:<10}{state}")
    for failure in status["failures"]:
        say(f"  FAILURE {failure}")
    return 0


def _down(options: argparse.Namespace) -> int:
    attach(options.state).down()
    return _done(options, {"running": False}, f"The lab in {options.state} has stopped; its state is kept")


def _reset(options: argparse.Namespace) -> int:
    attach(options.state).reset()
    return _done(options, {"restored": "fresh"}, "The lab is as it was when it was first started")


def _named(name: str) -> Callable[[argparse.Namespace], int]:
    def command(options: argparse.Namespace) -> int:
        lab: Lab = attach(options.state)
        (lab.checkpoint if name == "checkpoint" else lab.restore)(options.name)
        text = f"Kept as {options.name}" if name == "checkpoint" else f"Back at {options.name}; hosts lost power"
        return _done(options, {name: options.name}, text)

    return command


def _clock(options: argparse.Namespace) -> int:
    lab = attach(options.state)
    if options.action == "advance":
        if options.span is None:
            raise LabError("clock advance needs a span of lab time, such as 90s, 15m, 24h or 7d")
        moment = lab.clock.advance(_seconds(options.span))
    else:
        moment = lab.clock.now
    return _done(options, {"time": moment.isoformat()}, moment.isoformat(" "))


def _seconds(text: str) -> float:
    span = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if span is None:
        raise LabError(f"{text!r} is no span of time: write 90s, 15m, 24h or 7d")
    return float(span[1]) * _UNITS[span[2]]


def _host(options: argparse.Namespace) -> int:
    door = attach(options.state).host(options.name)
    if options.action in ("cut", "mend"):
        if options.portal is None:
            raise LabError(f"host {options.name} {options.action} needs the address of a portal; see: host NAME paths")
        (door.cut_path if options.action == "cut" else door.mend_path)(options.portal)
    elif options.action in _SWITCHES:
        (door.power_off if options.action == "off" else door.power_on)()
    paths = door.paths()
    lines = [f"  {portal:<16}{'up' if up else 'down'}" for portal, up in paths.items()]
    return _done(options, {"host": options.name, "paths": paths}, "\n".join([f"{options.name}: paths", *lines]))


def _topologies(options: argparse.Namespace) -> int:
    titles = {name: topology.load(name).title for name in topology.names()}
    return _done(options, titles, "\n".join(f"{name}: {title}" for name, title in titles.items()))


def _coverage(options: argparse.Namespace) -> int:
    from labenv.ontap.rest import coverage  # all of the array: only where it is needed

    if options.markdown:
        print(coverage.markdown(), end="")
        return 0
    rows = [dataclasses.asdict(row) for row in coverage.coverage()]
    lines = [f"{row['method']:<7}{row['path']}: {len(row['fields'])} fields, {len(row['codes'])} codes" for row in rows]
    return _done(options, {"routes": rows}, "\n".join(lines))


def _done(options: argparse.Namespace, answer: dict[str, Any], text: str) -> int:
    say(json.dumps(answer) if options.json else text)
    return 0
