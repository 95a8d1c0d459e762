"""Native programs: diskshadow.exe and vssadmin.exe. Their exit codes are the lab's choice; they prove nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet
from labenv.windows.errors import FileProblem
from labenv.windows.vss import text
from labenv.windows.vss.diskshadow import DiskShadow
from labenv.windows.vss.service import RequestorKilled

if TYPE_CHECKING:
    from labenv.windows.host import Host

KILLED = -1073741510
"""Exit code of a process that was ended (STATUS_CONTROL_C_EXIT)."""


async def diskshadow(host: Host, call: Call) -> Sequence[object] | None:
    """diskshadow.exe /s FILE [/l FILE]: runs a script; exit code 0, 1 a command failed, 2 wrong arguments."""
    words: list[str] = list(call["Arguments"])
    options = {words[i].lower().replace("-", "/"): words[i + 1] for i in range(0, len(words) - 1, 2)}
    if len(words) % 2 or "/s" not in options or set(options) - {"/s", "/l"}:
        call.variables["LASTEXITCODE"] = 2
        return ["Only scripts can be run here: diskshadow.exe /s FILE [/l FILE]"]
    try:
        script = _decoded(host.files.read(options["/s"]))
    except FileProblem as error:
        call.variables["LASTEXITCODE"] = 2
        return [f"The script file {options['/s']} could not be opened: {error.message}"]
    program = DiskShadow(host)
    try:
        call.variables["LASTEXITCODE"] = await program.run(script)
    except RequestorKilled:
        call.variables["LASTEXITCODE"] = KILLED
    finally:
        if "/l" in options:
            host.files.write(options["/l"], ("\r\n".join(program.lines) + "\r\n").encode("utf-16"))
        call.output.extend(program.lines)
    return None


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    return data.decode("utf-8-sig", "replace")


async def vssadmin(host: Host, call: Call) -> Sequence[object]:
    """vssadmin.exe list providers | writers | shadows; exit code 0, 1 nothing found, 2 wrong arguments."""
    lines = ["vssadmin 1.1 - Volume Shadow Copy Service administrative command-line tool", ""]
    words = [str(w).lower() for w in call["Arguments"]]
    vss = host.vss
    if words == ["list", "providers"]:
        lines += text.providers(vss.providers)
    elif words == ["list", "writers"]:
        lines += text.writers(await vss.present_writers())
    elif words == ["list", "shadows"]:
        found = await vss.list_shadows()
        lines += text.shadows(found, {p.id: p.name for p in vss.providers})
        if not found:
            call.variables["LASTEXITCODE"] = 1
            lines.append("No items found that satisfy the query.")
    else:
        call.variables["LASTEXITCODE"] = 2
        lines += ["Error: Invalid command.", "", "List Providers, List Shadows and List Writers are supported."]
    return lines


COMMANDS: Mapping[str, Cmdlet] = {"diskshadow.exe": diskshadow, "vssadmin.exe": vssadmin}
"""The programs of this module."""
