"""``smhvlab``: the flows and the notebooks from a terminal; ``EXIT_CODES`` is a part of every ``--help``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from smhvlab.errors import SmhvLabError

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.record import FlowRecord
    from smhvlab.site import Site

Command = Callable[[argparse.Namespace], int]

EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed (what, why and what next are on standard error, or in the JSON object); "
    "2 wrong arguments; 3 the flow failed and everything was undone; 4 the flow stopped past its point of no return, "
    "or could not be undone: see `doctor`; 130 interrupted."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except SmhvLabError as error:
        if getattr(options, "json", False):
            print(json.dumps({"error": {"message": error.message, "class": type(error).__name__, **error.details()}}))
        else:
            print(f"smhvlab: {error.message}", file=sys.stderr)
            for label, text in error.details().items():
                print(f"  {label}: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("smhvlab: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smhvlab", description="TR-4004 for Hyper-V on ONTAP: toolkit and lab.", epilog=EXIT_CODES
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        sub.set_defaults(command=command)
        return sub

    def on_site(sub: argparse.ArgumentParser, *, changes: bool = False) -> argparse.ArgumentParser:
        sub.add_argument("--site", required=True, help="a saved profile, a lab's endpoints.json, or lab:TOPOLOGY")
        if changes:
            sub.add_argument("--yes", action="store_true", help="carry out; without it only the plan is shown")
            sub.add_argument(
                "--accept", action="append", default=[], metavar="KEY", help="accept a warning of the plan"
            )
        return sub

    lab = verb("lab", _lab, "start a lab and JupyterLab on its notebooks; Ctrl-C stops both")
    lab.add_argument("folder", nargs="?", help="where the notebooks are or shall be (default: those of this checkout)")
    lab.add_argument("--topology", default="standalone")
    lab.add_argument("--port", type=int, default=8888)
    lab.add_argument("--no-browser", action="store_true")
    demo = verb("demo", _demo, "the SQL Server test of the TR's appendix, on a fresh lab")
    demo.add_argument("--site", default="lab:standalone", help="default: %(default)s")
    on_site(verb("check", _check, "what of a site is reachable and permitted"))
    for table in ("vms", "volumes", "luns", "snapshots", "datasets", "backups", "disks"):
        on_site(verb(table, _table(table), f"list the {table} of a site"))
    provision = on_site(verb("provision", _provision, "a new VM from the golden image (TR 2.2)"), changes=True)
    provision.add_argument("vm")
    provision.add_argument("--golden", default="golden", help="the golden VM (default: %(default)s)")
    dataset = on_site(verb("dataset", _dataset, "create a dataset of VMs (TR 5.2)"))
    dataset.add_argument("name")
    dataset.add_argument("vm", nargs="+")
    backup = on_site(verb("backup", _backup, "back up a dataset (TR 6.2, 10)"), changes=True)
    backup.add_argument("dataset")
    backup.add_argument("--consistency", default="crash", choices=["crash"])
    restore = on_site(verb("restore", _restore, "restore one VM from a backup (TR 6.7)"), changes=True)
    restore.add_argument("backup")
    restore.add_argument("vm")
    doctor = on_site(verb("doctor", _doctor, "runs that were killed: list them, finish or undo them"))
    doctor.add_argument("--resume", metavar="RUN", help="go on with a run")
    doctor.add_argument("--undo", metavar="RUN", help="undo a run")
    doctor.add_argument("--all", action="store_true", help="undo every run that can be undone, resume the others")
    return parser


def _connect(options: argparse.Namespace) -> Site:
    from smhvlab.site import connect

    return connect(options.site)


def _lab(options: argparse.Namespace) -> int:
    from smhvlab.workbench import open_workbench

    return open_workbench(
        folder=options.folder, topology=options.topology, port=options.port, browser=not options.no_browser
    )


def _demo(options: argparse.Namespace) -> int:
    from smhvlab.demo import Demo

    def tell(line: str) -> None:
        print(line, file=sys.stderr if options.json else sys.stdout, flush=True)

    tell(f"Connecting to {options.site} (a fresh lab takes a few seconds); Ctrl-C stops and undoes")
    with _connect(options) as site:
        result = Demo(site, tell=tell).run()
    if options.json:
        print(json.dumps(asdict(result)))
        return 0
    print(f"Restored from {result.backup} by {result.method}")
    for database, rows in result.databases.items():
        print(f"  {database}: {rows} rows, DBCC CHECKDB {'found it sound' if result.checkdb[database] else 'FAILED'}")
    lab_seconds = sum(step.lab_seconds for step in result.steps)
    requests = ", ".join(f"{count} over {wire}" for wire, count in result.requests.items())
    print(f"{lab_seconds:.0f} lab seconds; {requests} requests")
    return 0


def _check(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        table = site.check()
    _show(table, options)
    return 0 if bool(table["ok"].all()) else 1


def _table(name: str) -> Command:
    def command(options: argparse.Namespace) -> int:
        with _connect(options) as site:
            _show(getattr(site, name)(), options)
        return 0

    return command


def _show(table: Any, options: argparse.Namespace) -> None:
    if options.json:
        print(table.to_json(orient="records", date_format="iso"))
    else:
        print(table.to_string(index=False) if len(table) else "none")


def _provision(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        return _carry_out(site.provision(options.vm, golden=options.golden), options)


def _dataset(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        made = site.create_dataset(options.name, options.vm)
    print(
        json.dumps(asdict(made)) if options.json else f"Dataset {made.name}: {', '.join(m.name for m in made.members)}"
    )
    return 0


def _backup(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        return _carry_out(site.backup(options.dataset, consistency=options.consistency), options)


def _restore(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        return _carry_out(site.restore(options.backup, options.vm), options)


def _carry_out(flow: Flow[Any], options: argparse.Namespace) -> int:
    """Show the plan; with --yes run exactly that plan."""
    plan = flow.plan()
    if not options.yes:
        if options.json:
            steps = json.loads(plan.frame().to_json(orient="records"))
            print(json.dumps({"plan": steps, "accept": [asdict(c) for c in plan.confirmations]}))
        else:
            print(plan)
            print("Nothing was changed. Add --yes to carry this out.")
        return 0
    titles = {step.name: step.title for step in flow.steps()}
    if not options.json:
        flow.on_event = lambda event: _tell(event, titles)
    try:
        record = flow.run_sync(plan=plan, accept=options.accept)
    except SmhvLabError:
        if flow.record is not None:
            _report(flow.record, options)
            return {"undone": 3, "stopped": 4, "undo failed": 4}.get(str(flow.record.outcome), 1)
        raise
    _report(record, options)
    return 0


def _tell(event: Any, titles: dict[str, str]) -> None:
    from smhvlab.record import StepFailed, StepStarted, UndoStarted

    if isinstance(event, StepStarted):
        print(titles[event.step], flush=True)
    elif isinstance(event, StepFailed):
        print(f"  failed: {event.error}", file=sys.stderr, flush=True)
    elif isinstance(event, UndoStarted):
        print(f"  undoing: {titles[event.step]}", flush=True)


def _report(record: FlowRecord, options: argparse.Namespace) -> None:
    if options.json:
        steps = [{"name": s.name, "title": s.title, "tr": s.tr, "status": str(s.status)} for s in record.steps]
        print(json.dumps({"run": record.run, "outcome": str(record.outcome), "error": record.error, "steps": steps}))
    else:
        print(record)


def _doctor(options: argparse.Namespace) -> int:
    from smhvlab.doctor import reopen, unfinished

    with _connect(options) as site:
        waiting = unfinished(site.name, folder=site.journals)
        chosen = {options.resume: "resume", options.undo: "undo"}
        chosen.pop(None, None)
        if options.all:
            chosen = {w.run: "undo" if "undo" in w.allowed else "resume" for w in waiting if w.allowed}
        for run, action in chosen.items():
            flow = reopen(site, run, folder=site.journals)
            record = flow.undo_sync() if action == "undo" else flow.resume_sync()
            _report(record, options)
        if chosen:
            return 0
        if options.json:
            print(json.dumps([{"run": w.run, "flow": w.header.flow, "allowed": w.allowed} for w in waiting]))
            return 0
        for entry in waiting:
            allowed = " or ".join(entry.allowed) or "nothing: its process is alive"
            flow_name = entry.header.flow.rpartition(":")[2]
            print(f"{entry.run}: {flow_name} at {entry.step or 'its start'}; allowed: {allowed}")
        print("Mend one with --undo RUN or --resume RUN, all with --all." if waiting else "No run waits for anybody.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
