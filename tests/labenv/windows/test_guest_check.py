"""Invoke-SmhvGuestCheck: the lab's answer, and the module that is shipped for real hosts."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import pytest

from labenv.lab import Lab
from labenv.windows.remoting.signatures import Signatures
from smhvlab.errors import SmhvLabError
from smhvlab.secrets import Secret
from smhvlab.site import Site
from smhvlab.wires.values import Credential


def _credential(lab: Lab, *, password: str | None = None) -> Credential:
    login = json.loads(lab.profile.read_text("utf-8"))["hyperv"][0]["guest"]
    return Credential(login["user"], Secret(password or login["password"]))


@pytest.mark.tr("R-APF-01")
def test_a_guest_is_checked_past_its_network(site: Site, lab: Lab) -> None:
    """One object per database with rows and findings; a name that is not there is an answer too, not an error."""
    host = site.tools().host
    lab.guest("sql01").insert("bb1", 25)
    vm = host.run("Get-VM", {"Name": "sql01"})[0]["Id"]
    login = _credential(lab)
    found = host.run("Invoke-SmhvGuestCheck", {"VMId": vm, "Credential": login})
    assert [row["Database"] for row in found] == ["aa1", "bb1", "bb2", "bb3"]
    assert {row["Database"]: row["RowTotal"] for row in found}["bb1"] == 25
    assert all(row["Sound"] and row["State"] == "ONLINE" and row["VMName"] == "sql01" for row in found)
    some = host.run("Invoke-SmhvGuestCheck", {"VMId": vm, "Credential": login, "Database": ["BB1", "none"]})
    assert [(row["Database"], row["State"], row["Sound"]) for row in some] == [
        ("bb1", "ONLINE", True),
        ("none", "MISSING", False),
    ]


@pytest.mark.parametrize(
    ("what", "error_id"),
    [
        ("wrong password", "SmhvGuestNotReached"),
        ("no credential", "SmhvCredentialNeeded"),
        ("off", "SmhvVirtualMachineNotRunning"),
        ("unknown", "SmhvVirtualMachineNotFound"),
    ],
)
def test_what_the_function_refuses(site: Site, lab: Lab, what: str, error_id: str) -> None:
    """Each refusal has an id of its own."""
    host = site.tools().host
    vm = host.run("Get-VM", {"Name": "sql01"})[0]["Id"]
    if what == "off":
        host.run("Stop-VM", {"Name": "sql01", "TurnOff": True, "Force": True})
    parameters: dict[str, object] = {"VMId": vm, "Credential": _credential(lab)}
    if what == "wrong password":
        parameters["Credential"] = _credential(lab, password="no")
    elif what == "no credential":
        del parameters["Credential"]
    elif what == "unknown":
        parameters["VMId"] = "00000000-0000-0000-0000-000000000001"
    with pytest.raises(SmhvLabError) as caught:
        host.run("Invoke-SmhvGuestCheck", parameters)
    assert str(caught.value.code) == f"{error_id},Invoke-SmhvGuestCheck"


def test_the_shipped_module_has_the_signature_that_the_lab_answers() -> None:
    """The module is package data, says that it was never run on Windows, and takes the same parameters."""
    text = (files("smhvlab") / "powershell" / "SmhvLab" / "SmhvLab.psm1").read_text("utf-8")
    assert "has not been run on real Windows" in text
    exported = re.search(r"Export-ModuleMember -Function (.+)", text)
    assert exported is not None
    assert exported[1].split(", ") == ["Invoke-SmhvGuestCheck"]
    signature = Signatures.load().find("Invoke-SmhvGuestCheck")
    assert signature is not None
    block = text[text.index("[OutputType([pscustomobject])]") : text.index("$vm = Get-VM")]
    found = {name: kind.lower() for kind, name in re.findall(r"\[(guid|pscredential|string\[\])\] \$(\w+)", block)}
    assert found == {p.name: p.type.lower() for p in signature.parameters.values()}
    mandatory = {p.name for p in signature.parameters.values() if p.roles["Default"].mandatory}
    assert mandatory == {"VMId"}
    assert block.count("Mandatory = $true, Position = 0") == 1
    answered = {"VMId", "VMName", "ComputerName", "Database", "State", "Sound", "Problems", "RowTotal", "LastEntry"}
    assert answered <= set(re.findall(r"(\w+) = ", text[text.index("foreach ($each in $results)") :]))
    for opening, closing in ("{}", "()"):
        assert text.count(opening) == text.count(closing)
