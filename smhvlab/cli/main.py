"""``smhvlab``: the flows and the notebooks from a terminal; ``EXIT_CODES`` is a part of every ``--help``."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from smhvlab.cli import dr, images, policy, provisioning
from smhvlab.cli.words import in_a_terminal
from smhvlab.errors import Cancelled, ConfirmationNeeded, NotAllowed, SmhvLabError

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.record import FlowRecord, Plan
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
        if options.json:
            _say(json.dumps({"error": _described(error)}))
        else:
            _complain(error)
        return 130 if isinstance(error, Cancelled) else 1
    except KeyboardInterrupt:
        _say("smhvlab: interrupted", error=True)
        return 130


def _say(text: object, *, error: bool = False) -> None:
    """Print a line. That nobody reads any more must not end a run in the middle."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except UnicodeEncodeError:  # a console of another code page; the work is done and has to be told
        encoding = stream.encoding or "ascii"
        print(str(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def _described(error: SmhvLabError) -> dict[str, str]:
    notes = " ".join(getattr(error, "__notes__", ()))
    told = {"message": error.message, "class": type(error).__name__, **error.details()}
    return told | ({"Run": notes} if notes else {})


def _complain(error: SmhvLabError) -> None:
    told = _described(error)
    _say(f"smhvlab: {told.pop('message')}", error=True)
    del told["class"]
    for label, text in told.items():
        _say(f"  {label}: {in_a_terminal(text)}", error=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smhvlab", description="TR-4004 for Hyper-V on ONTAP: toolkit and lab.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"smhvlab {version('smhvlab')}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
        sub.add_argument("--json", action="store_true", help="print one JSON value")
        sub.set_defaults(command=command)
        return sub

    def on_site(sub: argparse.ArgumentParser, *, changes: bool = False) -> argparse.ArgumentParser:
        sub.add_argument(
            "--site",
            required=True,
            help="a saved profile, a lab's endpoints.json, lab:TOPOLOGY@STATE-FOLDER for the lab of that folder, or "
            "lab:TOPOLOGY for a fresh one that ends with this command",
        )
        if changes:
            sub.add_argument("--yes", action="store_true", help="carry out; without it only the plan is shown")
            sub.add_argument(
                "--accept", action="append", default=[], metavar="KEY", help="accept a warning of the plan"
            )
        return sub

    lab = verb("lab", _lab, "start a lab and JupyterLab on its notebooks; Ctrl-C stops both")
    lab.add_argument("folder", nargs="?", help="where the notebooks are or shall be (default: those of this checkout)")
    lab.add_argument("--topology", default="standalone")
    lab.add_argument("--port", type=_port, default=8888, help="of JupyterLab (default: %(default)s)")
    lab.add_argument("--no-browser", action="store_true")
    demo = verb("demo", _demo, "the SQL Server test of the TR's appendix, or a disaster, on a fresh lab")
    demo.add_argument("what", nargs="?", default="sql", choices=["sql", "dr"], help="default: %(default)s")
    demo.add_argument("--site", default="", help="default: lab:standalone, for dr lab:dr-pair")
    demo.add_argument("--consistency", default="crash", choices=["application", "crash"])
    demo.add_argument("--era", default="", choices=["2008r2", "2012", "2022"], help="of a fresh lab's hosts")
    on_site(verb("check", _check, "what of a site is reachable and permitted"))
    advise = on_site(verb("advise", _advise, "hold the site against the rules of the TR; exit code 1: errors found"))
    advise.add_argument("--partner", default="", help="the other site, as --site: what would make a failover fail")
    for table in ("vms", "volumes", "luns", "snapshots", "datasets", "backups", "disks", "mirrors"):
        on_site(verb(table, _table(table), f"list the {table} of a site"))
    provision = on_site(verb("provision", _provision, "a new VM from the golden image (TR 2.2)"), changes=True)
    provision.add_argument("vm")
    provision.add_argument("--golden", default="golden", help="the golden VM (default: %(default)s)")
    dataset = on_site(verb("dataset", _dataset, "create a dataset of VMs, at once (TR 5.2)"))
    dataset.add_argument("name")
    dataset.add_argument("vm", nargs="*")
    how = dataset.add_mutually_exclusive_group()
    how.add_argument("--change", action="store_true", help="give one that exists these VMs instead of its own")
    how.add_argument("--remove", action="store_true", help="take one away; its backups stay")
    backup = on_site(verb("backup", _backup, "back up a dataset (TR 6.2, 9, 10, 12)"), changes=True)
    backup.add_argument("dataset")
    backup.add_argument("--consistency", default="application", choices=["application", "crash"])
    backup.add_argument(
        "--distributed",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="one set for the VMs of all nodes (TR 12; default: where that is possible)",
    )
    backup.add_argument(
        "--allow-saved-state", action="store_true", help="save VMs that cannot be backed up while they run (TR 6.4)"
    )
    backup.add_argument("--policy", default="", help="its scripts, mirrors, retention and options go with it (TR 6.3)")
    backup.add_argument("--partner", default="", help=policy.PARTNER)
    restore = on_site(verb("restore", _restore, "restore one VM from a backup (TR 6.7)"), changes=True)
    restore.add_argument("backup")
    restore.add_argument("vm")
    restore.add_argument("--to-host", default="", help="an alternate host that shall have the VM")
    restore.add_argument("--no-verify-snapshot", action="store_true", help="accept a disk with another GUID")
    restore.add_argument("--safety-backup", action="store_true", help="back the VM up crash-consistent first (TR 10)")
    restore.add_argument("--script", default="", metavar="CMDLET", help="to run on the host in the end")
    restore.add_argument(
        "--script-parameter", type=_pair, action="append", default=[], metavar="NAME=VALUE", help="of that cmdlet"
    )
    added = images.Verbs(verb, on_site, _connect, _carry_out, _table, _show, _say)
    provisioning.add(added)
    images.add(added)
    policy.add(added)
    dr.add(added)
    doctor = on_site(verb("doctor", _doctor, "runs that were killed: list them, finish or undo them; leftovers"))
    what = doctor.add_mutually_exclusive_group()
    what.add_argument("--resume", metavar="RUN", help="go on with a run")
    what.add_argument("--undo", metavar="RUN", help="undo a run")
    what.add_argument("--all", action="store_true", help="undo every run that can be undone, resume the others")
    what.add_argument("--clear", metavar="VM", help="take away the announcement of a restore that nobody will finish")
    dr.add_to_doctor(doctor)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{port} is no port: 1 to 65535")
    return port


def _connect(options: argparse.Namespace, *, read_only: bool = False) -> Site:
    from smhvlab.site import connect

    return connect(options.site, read_only=read_only)


def _lab(options: argparse.Namespace) -> int:
    from smhvlab.workbench import open_workbench

    return open_workbench(
        folder=options.folder,
        topology=options.topology,
        port=options.port,
        browser=not options.no_browser,
        as_json=options.json,
    )


def _demo(options: argparse.Namespace) -> int:
    from smhvlab.demo import Demo

    def tell(line: str) -> None:
        _say(line, error=options.json)

    options.site = options.site or {"sql": "lab:standalone", "dr": "lab:dr-pair"}[options.what]
    if options.era:
        if not re.fullmatch(r"lab:[\w-]+", options.site):
            raise NotAllowed(f"{options.site} has its own era", next_action="Leave --era out, or --site.")
        options.site += f"-{options.era}"
    tell(f"Connecting to {options.site} (a fresh lab takes a few seconds); Ctrl-C stops and undoes")
    if options.what == "dr":
        stages = dr.demo(options, tell)
        if options.json:
            _say(json.dumps(asdict(stages)))
        return 0
    with _connect(options) as site:
        result = Demo(site, tell=tell, consistency=options.consistency).run()
    if options.json:
        _say(json.dumps(asdict(result)))
        return 0
    _say(f"Restored from {result.backup} by {result.method}")
    for database, rows in result.databases.items():
        _say(f"  {database}: {rows} rows, DBCC CHECKDB {'found it sound' if result.checkdb[database] else 'FAILED'}")
    lab_seconds = sum(step.lab_seconds for step in result.steps)
    requests = ", ".join(f"{count} over {wire}" for wire, count in result.requests.items())
    _say(f"{lab_seconds:.0f} lab seconds; {requests} requests")
    return 0


def _check(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        table = site.check()
    _show(table, options)
    return 0 if bool(table["ok"].all()) else 1


def _advise(options: argparse.Namespace) -> int:
    with dr.coupled(options, partial(_connect, read_only=True)) as site:
        found = site.findings()
    if options.json:
        _say(json.dumps([finding.record() for finding in found]))
    else:
        for finding in found:
            rule = finding.rule
            _say(f"{rule.severity:7} {rule.section:8} {rule.id}: {finding.object}: {finding.message}")
            _say(f"{'':17}{finding.fix}")
        _say(f"{len(found)} findings" if found else "Nothing was found.")
    return 1 if any(finding.rule.severity == "error" for finding in found) else 0


def _table(name: str) -> Command:
    def command(options: argparse.Namespace) -> int:
        with _connect(options) as site:
            _show(getattr(site, name)(), options)
        return 0

    return command


def _show(table: Any, options: argparse.Namespace) -> None:
    if options.json:
        _say(table.to_json(orient="records", date_format="iso"))
    else:
        _say(table.to_string(index=False) if len(table) else "none")


def _provision(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        return _carry_out(site.provision(options.vm, golden=options.golden), options)


def _dataset(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        if options.remove:
            made = site.remove_dataset(options.name)
        else:
            made = (site.change_dataset if options.change else site.create_dataset)(options.name, options.vm)
    told = "removed" if made.removed else ", ".join(member.name for member in made.members)
    _say(json.dumps(asdict(made)) if options.json else f"Dataset {made.name}: {told}")
    return 0


def _backup(options: argparse.Namespace) -> int:
    if options.partner and not options.policy:
        raise NotAllowed(
            "A backup without a policy updates no mirror, so it needs no other site",
            next_action="Name a policy with options.replicate (--policy), or leave --partner out.",
            tr="6.2/7",
        )
    with dr.coupled(options, _connect) as site:
        flow = site.backup(
            options.dataset,
            consistency=options.consistency,
            distributed=options.distributed,
            allow_saved_state=options.allow_saved_state,
            policy=options.policy,
        )
        return _carry_out(flow, options)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _restore(options: argparse.Namespace) -> int:
    with _connect(options) as site:
        flow = site.restore(
            options.backup,
            options.vm,
            to_host=options.to_host,
            verify_snapshot=not options.no_verify_snapshot,
            safety_backup=options.safety_backup,
            script=options.script,
            script_parameters=dict(options.script_parameter),
        )
        return _carry_out(flow, options)


def _carry_out(flow: Flow[Any], options: argparse.Namespace) -> int:
    """Show the plan; with --yes run exactly that plan."""
    plan = flow.plan()
    if not options.yes:
        if options.json:
            steps = json.loads(plan.frame().to_json(orient="records"))
            asked = [asdict(c) for c in plan.confirmations]
            _say(json.dumps({"plan": steps, "losses": plan.losses, "accept": asked}))
        else:
            _say(plan)
            _say("Nothing was changed. Add --yes to carry this out.")
        return 0
    titles = {step.name: step.title for step in flow.steps()}
    if not options.json:
        flow.on_event = lambda event: _tell(event, titles)
    try:
        record = flow.run_sync(plan=plan, accept=options.accept)
    except ConfirmationNeeded as error:
        raise _questions(error, plan) from error
    except SmhvLabError as error:
        if flow.record is None:
            raise
        return _report(flow.record, options, error)
    except KeyboardInterrupt:
        if flow.run_id:
            _say(
                f"smhvlab: run {flow.run_id} was left in the middle: {dr.doctor_line(options, flow.run_id)}", error=True
            )
        raise
    return _report(record, options)


def _questions(error: ConfirmationNeeded, plan: Plan[Any]) -> ConfirmationNeeded:
    """The same refusal, with what has to be accepted and how that is said here."""
    asked = [question for question in plan.confirmations if question.key in error.needed]
    return ConfirmationNeeded(
        f"{plan.title}: {len(asked)} warning{'s' if len(asked) > 1 else ''} of the plan not accepted yet",
        why="; ".join(question.text for question in asked),
        next_action=f"If that is as it should be, add {' '.join(f'--accept {question.key}' for question in asked)}.",
        needed=error.needed,
        tr=error.tr,
    )


def _tell(event: Any, titles: Mapping[str, str]) -> None:
    from smhvlab.record import StepFailed, StepProgress, StepStarted, UndoStarted

    if isinstance(event, StepStarted):
        _say(titles[event.step])
    elif isinstance(event, StepProgress) and event.unit and event.item:
        _say(f"  {event.done:,} of {event.total:,} {event.unit}: {event.item}")
    elif isinstance(event, StepFailed):
        _say(f"  failed: {event.error}", error=True)
    elif isinstance(event, UndoStarted):
        _say(f"  undoing: {titles[event.step]}")


def _report(record: FlowRecord, options: argparse.Namespace, error: SmhvLabError | None = None) -> int:
    """Tell how a run ended; returns the exit code."""
    if options.json:
        _say(json.dumps(_recorded(record, error)))
    else:
        _show_record(record, options, error)
    return _code(record, error)


def _code(record: FlowRecord, error: SmhvLabError | None) -> int:
    return {"done": 0, "undone": 0 if error is None else 3}.get(record.outcome, 4)


def _show_record(record: FlowRecord, options: argparse.Namespace, error: SmhvLabError | None) -> None:
    _say(record)
    if record.result is not None:
        _say(record.result)
    if error is not None:
        _complain(error)
        if action := {"stopped": "resume", "undo failed": "undo"}.get(record.outcome):
            _say(f"  Then: {dr.doctor_line(options, record.run, action)}", error=True)


def _recorded(record: FlowRecord, error: SmhvLabError | None) -> dict[str, object]:
    import msgspec

    return {
        "run": record.run,
        "outcome": str(record.outcome),
        "error": None if error is None else _described(error),
        "steps": [{"name": s.name, "title": s.title, "tr": s.tr, "status": str(s.status)} for s in record.steps],
        "result": msgspec.to_builtins(record.result),
    }


def _doctor(options: argparse.Namespace) -> int:
    from smhvlab.doctor import unfinished
    from smhvlab.leftovers import leftovers

    with dr.mendable(options, _connect) as site:
        if options.clear:
            cleared = site.clear_announcement(options.clear)
            _say(json.dumps(asdict(cleared)) if options.json else f"No longer announced: the restore of {cleared}")
            return 0
        waiting = unfinished(site.name, folder=site.journals)
        if options.all:
            chosen = {w.run: "undo" if "undo" in w.allowed else "resume" for w in waiting if w.allowed}
            return _mend_all(site, chosen, options)
        if options.undo or options.resume:
            action = "undo" if options.undo else "resume"
            named = options.undo or options.resume
            run = next((w.run for w in waiting if named in (w.run, w.run.partition("-")[0])), named)
            record, error = _mended(site, run, action)
            return _report(record, options, error)
        remains = leftovers(site.tools(), pending=bool(waiting))
    if options.json:
        told: list[dict[str, object]] = [
            {"run": w.run, "flow": w.header.flow, "parameters": w.header.parameters, "allowed": w.allowed}
            | {"alive": w.alive, "step": w.step, "error": w.error, "since": w.since}
            for w in waiting
        ]
        told += [{"leftover": left.kind, "name": left.name, "why": left.why, "next": left.next} for left in remains]
        _say(json.dumps(told))
        return 0
    for entry in waiting:
        allowed = " or ".join(entry.allowed) or f"nothing: {'its process is alive' if entry.alive else entry.error}"
        given = {n: v for n, v in entry.header.parameters.items() if v and v is not True}  # who and what, not how
        what = ", ".join(f"{name} {value}" for name, value in given.items())
        flow = entry.header.flow.rpartition(":")[2]
        _say(f"{entry.run}: {flow} ({what}) at {entry.step or 'its start'}; allowed: {allowed}")
    _say("Mend one with --undo RUN or --resume RUN, all with --all." if waiting else "No run waits for anybody.")
    for left in remains:
        _say(left)
    return 0


def _mended(site: Site, run: str, action: str) -> tuple[FlowRecord, SmhvLabError | None]:
    """Finish or undo one run. Raises what kept it from being begun."""
    from smhvlab.doctor import reopen

    flow = reopen(site, run, folder=site.journals)
    try:
        return (flow.undo_sync() if action == "undo" else flow.resume_sync()), None
    except SmhvLabError as error:
        if flow.record is None:
            raise
        return flow.record, error


def _mend_all(site: Site, chosen: Mapping[str, str], options: argparse.Namespace) -> int:
    """One run after the other; one that cannot be mended does not keep the others waiting."""
    worst = 0
    told: list[dict[str, object]] = []
    for run, action in chosen.items():
        try:
            record, error = _mended(site, run, action)
        except Cancelled:
            raise
        except SmhvLabError as refusal:
            worst = 4
            told.append({"run": run, "error": _described(refusal)})
            if not options.json:
                _complain(refusal)
            continue
        worst = max(worst, _code(record, error))
        told.append(_recorded(record, error))
        if not options.json:
            _show_record(record, options, error)
    if options.json:
        _say(json.dumps(told))
    elif not chosen:
        _say("No run can be mended.")
    return worst
