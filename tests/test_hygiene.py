"""What has to hold for every file of the project, whatever it is about."""

from __future__ import annotations

import argparse
import ast
import importlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import labenv.cli
import smhvlab.cli.main
from labenv import topology
from labenv.faults import EFFECTS, PLACES

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 500
EXCEPTIONS: tuple[str, ...] = ()
"""Files that may be longer than the limit."""


def tracked() -> list[Path]:
    """Every file of the project: those under version control, or in a release all that are there."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    folders = ("smhvlab", "labenv", "tests", "notebooks")
    return [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of each of them that is text."""
    for path in tracked():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


@cache
def parsed(name: str) -> ast.Module:
    """A module's syntax."""
    return ast.parse((ROOT / name).read_text("utf-8"))


PYTHON = sorted(p.relative_to(ROOT).as_posix() for p in tracked() if p.suffix == ".py")
TESTS = [name for name in PYTHON if Path(name).name.startswith("test_")]
MODULES = [name for name in PYTHON if name.split("/")[0] in ("smhvlab", "labenv")]


def test_no_path_of_this_machine() -> None:
    """Neither this checkout's place nor this environment's, nor a home directory, nor this machine's name."""
    machine = {str(ROOT), str(ROOT.parent), sys.prefix, str(Path(sys.base_prefix).parent), str(Path.home()) + "/"}
    machine = {text for text in machine if text.count("/") > 1}
    patterns = [re.compile(rf"(?<![\w.]){re.escape(text)}{'[.a-z]' if text[-1] == '/' else ''}") for text in machine]
    if len(platform.node()) > 5:
        patterns.append(re.compile(rf"\b{re.escape(platform.node())}\b"))
    patterns.append(re.compile(r"(?<!\w)/(?:home|Users)/[a-z]\w+|[A-Z]:\\Users\\(?!Administrator|\{)[a-z]\w+"))
    found = [(name, m[0]) for name, text in texts() for pattern in patterns if (m := pattern.search(text))]
    assert found == []


def test_no_address_of_a_package_index() -> None:
    """Where packages come from is for the machine to know: no index in any file, and none in the constraints."""
    options = re.compile(r"(?:--(?:extra-)?index-url|--find-links|--trusted-host|index-url\s*=)[ =]+\S*[:/]\S*")
    hosts = {
        host for host in map(index_host, configured_indexes()) if host not in ("", "pypi.org", "files.pythonhosted.org")
    }
    found = [(name, m[0]) for name, text in texts() if name != "tests/test_hygiene.py" and (m := options.search(text))]
    found += [(name, host) for name, text in texts() for host in hosts if host in text]
    assert found == []
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.!+]*", line), line


def configured_indexes() -> list[str]:
    """What pip is configured with on this machine."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    return re.findall(r"https?://[^'\s]+", told)


def index_host(url: str) -> str:
    """The host in an address."""
    return urlsplit(url).hostname or ""


def test_texts_speak_of_the_product_only() -> None:
    """No note on how a text came about, and nothing left to do later."""
    marks = re.compile(
        r"co-authored-by|generated (?:by|with) (?:an? )?(?:ai|model|assistant)|language model|as an ai\b|"
        r"\b(?:TODO|FIXME|XXX|HACK)\b[:( ]|lorem ipsum",
        re.IGNORECASE,
    )
    found = [(name, m[0]) for name, text in texts() if name != "tests/test_hygiene.py" and (m := marks.search(text))]
    assert found == []


def test_no_file_is_too_long() -> None:
    """One subject, at most 500 lines."""
    lines = {name: len((ROOT / name).read_text("utf-8").splitlines()) for name in PYTHON}
    assert {name: count for name, count in lines.items() if count > LIMIT and name not in EXCEPTIONS} == {}


def test_every_all_is_true() -> None:
    """What a module says that it offers is there, once, in order, and public."""
    checked = 0
    for name in MODULES:
        tree = parsed(name)
        assigned = [n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
        if not assigned:
            continue
        module = importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        assert [n for n in module.__all__ if not hasattr(module, n)] == [], name
        assert len(set(module.__all__)) == len(module.__all__), name
        assert not [n for n in module.__all__ if n.startswith("_")], name
        checked += 1
    assert checked >= 3


def test_every_module_says_what_it_is() -> None:
    """Each module of the two packages, each file of tests and each tool begins with a docstring."""
    trees = {name: parsed(name) for name in PYTHON}
    assert [name for name, tree in trees.items() if tree.body and ast.get_docstring(tree) is None] == []


def test_every_test_says_what_it_shows() -> None:
    """A file of tests holds at least one, and each of them has a docstring."""
    empty, bare = [], []
    for name in TESTS:
        text = (ROOT / name).read_text("utf-8")
        functions = [n for n in ast.walk(parsed(name)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        tests = [function for function in functions if function.name.startswith("test_")]
        if not tests and "RuleBasedStateMachine" not in text:
            empty.append(name)
        bare += [f"{name}:{test.name}" for test in tests if ast.get_docstring(test) is None]
    assert empty == []
    assert bare == []


# --- the documentation against the code

DOCUMENTATION = "\n".join((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/lab.md"))


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """(verb, option) of everything that a command takes, verbs included."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, sub in action.choices.items():
                yield verb, f"{parser.prog} {verb}"
                yield from ((verb, flag) for a in sub._actions for flag in a.option_strings if flag.startswith("--"))


COMMANDS = [
    (parser.prog, verb, option)
    for parser in (labenv.cli._parser(), smhvlab.cli.main._parser())
    for verb, option in options(parser)
    if option != "--help"
]


def test_every_option_is_documented() -> None:
    """Each verb and each option of both commands is in the README or in docs/lab.md."""
    known = sorted({(program, option) for program, _, option in COMMANDS})
    assert [k for k in known if not re.search(rf"{re.escape(k[1])}(?![\w-])", DOCUMENTATION)] == []


def test_no_option_is_documented_that_does_not_exist() -> None:
    """The counter-check, for both commands' lines and for options in backquotes."""
    known = {option for _, _, option in COMMANDS}
    written = set(re.findall(r"\b(?:labenv|smhvlab) [a-z]+(?= |`|$)", re.sub(r"#.*", "", code_of(DOCUMENTATION)), re.M))
    assert written - {o for o in known if not o.startswith("--")} == set()
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCUMENTATION))
    assert flags - known == {"--help"}


def code_of(text: str) -> str:
    """What is set as code: fenced blocks and backquotes."""
    return "\n".join(re.findall(r"```[a-z]*\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text))


def rows(text: str, heading: str) -> dict[str, str]:
    """First and second column of the table under a heading."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {cell[0].strip(" `"): cell[1] for cell in cells}


def test_topologies_places_and_effects_are_documented() -> None:
    """The tables of docs/lab.md hold exactly what the lab knows, with the names that patterns can use."""
    lab = (ROOT / "docs" / "lab.md").read_text("utf-8")
    assert sorted(rows(lab, "Topologies")) == topology.names()
    table = rows(lab, "Faults")
    assert sorted(table) == sorted([*PLACES, *EFFECTS])
    for place, names in PLACES.items():
        told = re.sub(r"\(.*?\)", "", table[place]).partition(":")[0]  # what stands for what comes after it
        assert re.findall(r"`(\w+)`", told) == list(names), place


def test_every_file_that_a_text_points_to_is_there() -> None:
    """Links in Markdown, and make's targets in the README."""
    broken = []
    for name, text in texts():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
            if not ((ROOT / name).parent / target).exists():
                broken.append((name, target))
    assert broken == []
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`?make ([a-z-]+)", code_of((ROOT / "README.md").read_text("utf-8"))):
        assert re.search(rf"^{target}:", makefile, re.M), target
