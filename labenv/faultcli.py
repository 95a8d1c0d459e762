"""``labenv fault``: what is broken, what can be broken, breaking and mending."""

from __future__ import annotations

import argparse
import json

from labenv.console import say
from labenv.lab import Lab, LabError, attach


def fault(options: argparse.Namespace) -> int:
    """Run the verb; the list of causes needs no lab."""
    if options.action == "list":
        return _catalogue(options)
    lab = attach(options.state)
    if options.action == "clear":
        if options.cause is None:
            lab.faults.clear()
        else:
            lab.faults.mend(options.cause)
    elif options.action == "set":
        if options.cause is None:
            _set(lab, options)
        else:
            lab.faults.cause(options.cause, **_pairs(options.option, "OPTION=VALUE", "a cause"))
    return _show(lab, as_json=options.json)


def _pairs(given: list[str], form: str, taker: str) -> dict[str, str]:
    pairs = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise LabError(f"{taker} takes {form}, not {pair!r}")
        pairs[name] = value
    return pairs


def _set(lab: Lab, options: argparse.Namespace) -> None:
    if options.where is None or options.effect is None:
        raise LabError("fault set needs the name of a cause (see: fault list), or --where and --effect")
    lab.faults.set(
        options.where,
        options.effect,
        match=_pairs(options.match, "NAME=PATTERN", "--match"),
        seconds=options.seconds,
        status=options.status,
        code=options.code,
        message=options.message,
        times=options.times or None,
    )


def _show(lab: Lab, *, as_json: bool) -> int:
    rules, changes = lab.faults.list(), lab.faults.changes()
    if as_json:
        say(json.dumps({"faults": rules, **({"changes": changes} if changes else {})}))
        return 0
    for rule in rules:
        where = ", ".join(f"{name}={pattern}" for name, pattern in rule["match"].items())
        times = "always" if rule["times"] is None else f"{rule['acted']} of {rule['times']} times"
        cause = f"{rule['cause']}: " if "cause" in rule else ""
        say(f"{cause}{rule['where']} ({where or 'any'}): {rule['effect']} {rule['code']} - acted {times}")
    for change in changes:
        said = " ".join(f"{name}={value}" for name, value in change["options"].items())
        say(f"{change['cause']} {said}".rstrip() + " - in force")
    if not rules and not changes:
        say("Nothing is broken on purpose")
    return 0


def _catalogue(options: argparse.Namespace) -> int:
    from labenv.causes import catalogue  # the whole lab: only where it is needed

    if options.markdown:
        say(catalogue.markdown().rstrip("\n"))
        return 0
    try:
        chosen = [catalogue.cause(options.cause)] if options.cause else list(catalogue.CAUSES.values())
    except ValueError as error:
        raise LabError(str(error)) from None
    if options.json:
        rows = [
            {
                "name": each.name,
                "does": each.does,
                "follows": each.follows,
                "edge": each.edge,
                "rows": list(each.rows),
                "case": each.case,
                "options": {n: {"about": o.about, "default": o.default} for n, o in each.options.items()},
                "waits": each.apply is not None,
            }
            for each in chosen
        ]
        say(json.dumps({"causes": rows}))
        return 0
    for each in chosen:
        say(f"{each.name} ({each.belongs})\n    {each.does}\n    -> {each.follows}")
        for name, option in each.options.items():
            say(f"    {name}={'...' if option.required else option.default}  {option.about}")
    return 0
