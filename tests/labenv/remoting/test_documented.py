"""What smhvlab sends is what Microsoft documents: every cmdlet, every parameter, and the lab answers all of it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from labenv.windows.cmdlets import COMMANDS, core
from labenv.windows.remoting.signatures import Signatures
from smhvlab.profile import LAB_CONFIGURATION
from smhvlab.wires.powershell import PROGRAMS

ROOT = Path(__file__).resolve().parents[3]
TABLE = Signatures.load()
CMDLET = re.compile(r"[A-Z][a-z]+-[A-Z][A-Za-z]+\Z")
OWN = {"Invoke-SmhvGuestCheck"}
"""The functions of the module that smhvlab ships."""
ELSEWHERE = {"Syntax", "get"}
"""Calls that send no cmdlet: what a user may type of SnapManager's own commands, and HTTP headers."""
PROVIDERS = {
    "Get-Item": "CodeSigningCert DnsName DocumentEncryptionCert Eku ExpiringInDays SSLServerAuthentication",
    "New-Item": "ApplicationName Authentication CertificateThumbprint ConnectionURI OptionSet Port SessionOption "
    "UseSSL",
    "Remove-Item": "DeleteKey",
}
"""Documented parameters that only the certificate and WS-Management drives add, which the lab has not."""


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted((ROOT / "smhvlab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called not in ELSEWHERE:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def _sent() -> Iterator[tuple[str, str, list[str]]]:
    """Where a cmdlet is sent, its name, and the parameters that stand beside it."""
    for where, node in _calls():
        values = [*node.args, *(k.value for k in node.keywords)]
        for index, value in enumerate(values):
            if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                continue
            if CMDLET.match(value.value):
                following = values[index + 1] if index + 1 < len(values) else None
                keys = following.keys if isinstance(following, ast.Dict) else []
                yield where, value.value, [k.value for k in keys if isinstance(k, ast.Constant)]  # type: ignore[misc]


def _named() -> set[str]:
    """Every cmdlet that the code names, but for the wire's own tables."""
    found: set[str] = set()
    for path in (ROOT / "smhvlab").rglob("*.py"):
        if path.name != "cmdlets.py":
            values = (n.value for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Constant))
            found |= {v for v in values if isinstance(v, str) and CMDLET.match(v) and TABLE.find(v) is not None}
    return found


def test_every_cmdlet_in_the_code_is_documented() -> None:
    """A name that Microsoft does not document, or a parameter that its cmdlet has not, is told with its place."""
    found = list(_sent())
    assert len({name for _, name, _ in found}) > 60
    unknown = [f"{where}: {name}" for where, name, _ in found if TABLE.find(name) is None]
    assert unknown == []
    wrong = []
    for where, name, parameters in found:
        signature = TABLE.find(name)
        assert signature is not None
        common = {"ErrorAction", "WarningAction", "Verbose", *(("Confirm", "WhatIf") if signature.asks else ())}
        wrong += [f"{where}: {name} -{p}" for p in parameters if signature.find(p) is None and p not in common]
    assert wrong == []


def test_everything_that_may_be_sent_is_documented() -> None:
    """The wire's own table, which refuses the rest, holds nothing that the binder's table has not."""
    table = json.loads((files("smhvlab.wires") / "cmdlets.json").read_text("utf-8"))
    entries = table.get("cmdlets", table)
    assert len(entries) > 150
    for name, entry in entries.items():
        signature = TABLE.find(name)
        assert signature is not None, name
        assert {p for p in entry["p"] if signature.find(p) is None} == set(PROVIDERS.get(name, "").split()), name
    assert {n for n, e in entries.items() if e["m"] == "SmhvLab"} == OWN


def test_the_lab_answers_every_cmdlet_in_the_code() -> None:
    """What smhvlab sends runs in the lab; nothing is known by its signature only."""
    answered = {name.lower() for name in (*COMMANDS, *core.COMMANDS, "Get-Command", "Select-Object")}
    assert {name for _, name, _ in _sent() if name.lower() not in answered} == set()


def test_the_role_for_real_hosts_shows_what_is_sent_and_nothing_else() -> None:
    """The JEA role names every cmdlet with its module, functions as functions, both programs, and one Select-Object."""
    folder = files("smhvlab") / "powershell"
    role = (folder / "SmhvLab" / "RoleCapabilities" / "SmhvLab.psrc").read_text("utf-8")
    blocks = dict(re.findall(r"(Visible\w+) = @\((.*?)\n    \)", role, re.DOTALL))
    wanted: dict[str, set[str]] = {"VisibleCmdlets": set(), "VisibleFunctions": {"SmhvLab\\Invoke-SmhvGuestCheck"}}
    for name in _named() - OWN:
        signature = TABLE.find(name)
        assert signature is not None
        wanted["VisibleFunctions" if signature.function else "VisibleCmdlets"].add(f"{signature.module}\\{name}")
    assert {key: set(re.findall(r"'([\w.-]+\\[\w-]+)'", body)) for key, body in blocks.items()} == wanted
    assert re.findall(r"Select-Object'; Parameters = (.+) }", role) == [
        "@{ Name = 'Property' }, @{ Name = 'InputObject' }"
    ]
    assert re.findall(r"\\(\w+\.exe)'", role) == sorted(PROGRAMS)
    configuration = (folder / "SmhvLab.pssc").read_text("utf-8")
    assert f"-Name {LAB_CONFIGURATION} " in configuration
    assert "'RestrictedRemoteServer'" in configuration
    for text in (role, configuration, (folder / "SmhvLab" / "SmhvLab.psd1").read_text("utf-8")):
        assert [text.count(c) for c in "{("] == [text.count(c) for c in "})"]
