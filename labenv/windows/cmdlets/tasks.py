"""Task Scheduler: Get-, Register-, Unregister-, Enable-, Disable- and Export-ScheduledTask, Get-ScheduledTaskInfo.

A task is its XML file below ``C:\\Windows\\System32\\Tasks``, as on Windows. The lab keeps tasks and does not run them:
their programs are not installed on its hosts. It tells when the Task Scheduler would start them.
"""

from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.item import matches
from labenv.windows.cmdlets.targets import objects, prop, texts
from labenv.windows.enums import system as enum
from labenv.windows.errors import cim_not_found
from labenv.windows.objects import PsObject, UInt32
from labenv.windows.shapes_storage import cim
from labenv.windows.triggers import NAMESPACE, next_run

if TYPE_CHECKING:
    from labenv.windows.host import Host

_ROOT: Final = "C:\\Windows\\System32\\Tasks"
_SPACE: Final = "Microsoft/Windows/TaskScheduler"
_NEVER_RUN: Final = 0x41303  # SCHED_S_TASK_HAS_NOT_RUN
_NEVER: Final = datetime(1999, 11, 30, tzinfo=UTC)
"""What Windows shows as the last run of a task that has not run."""
_STATES: Final = {"Disabled": 1, "Ready": 3}


def _folder(path: str) -> str:
    """A task path as Windows writes it: with a backslash at both ends."""
    inner = path.strip("\\")
    return f"\\{inner}\\" if inner else "\\"


def _file(path: str, name: str) -> str:
    return ntpath.join(_ROOT + _folder(path), name)


def _known(host: Host) -> list[tuple[str, str]]:
    """Path and name of every task."""
    if not host.files.is_directory(_ROOT):
        return []
    found = [full[len(_ROOT) :] for full, entry in host.files.walk(_ROOT) if not entry.is_directory]
    return sorted((_folder(ntpath.dirname(task)), ntpath.basename(task)) for task in found)


def _chosen(host: Host, call: Call) -> list[tuple[str, str]]:
    given = objects(call, "InputObject")
    if given:
        return [(str(prop(one, "TaskPath")), str(prop(one, "TaskName"))) for one in given]
    names, paths = texts(call.get("TaskName")), [_folder(p) if "*" not in p else p for p in texts(call.get("TaskPath"))]
    everything = [task for task in _known(host) if not paths or any(matches(task[0], path) for path in paths)]
    if not names:
        return everything
    found: list[tuple[str, str]] = []
    for name in names:
        hits = [task for task in everything if matches(task[1], name)]
        if not hits and not any(c in name for c in "*?["):
            call.error(cim_not_found("MSFT_ScheduledTask", "TaskName", name))
        found += hits
    return found


def _xml(host: Host, task: tuple[str, str]) -> str:
    return host.files.read(_file(*task)).decode("utf-16")


def _enabled(xml: str) -> bool:
    value = ElementTree.fromstring(xml).findtext(f"{{{NAMESPACE}}}Settings/{{{NAMESPACE}}}Enabled")  # noqa: S314
    return value is None or value.strip().lower() == "true"


def _shape(host: Host, task: tuple[str, str]) -> PsObject:
    path, name = task
    xml = _xml(host, task)
    root = ElementTree.fromstring(xml)  # noqa: S314 - the lab's own file
    state = "Ready" if _enabled(xml) else "Disabled"
    properties: dict[str, object] = {
        "Author": root.findtext(f"{{{NAMESPACE}}}RegistrationInfo/{{{NAMESPACE}}}Author"),
        "Description": root.findtext(f"{{{NAMESPACE}}}RegistrationInfo/{{{NAMESPACE}}}Description"),
        "State": enum(
            "Microsoft.PowerShell.Cmdletization.GeneratedTypes.ScheduledTask.StateEnum", state, _STATES[state]
        ),
        "TaskName": name,
        "TaskPath": path,
        "URI": f"{path}{name}",
        "Version": None,
    }
    return cim("MSFT_ScheduledTask", properties, space=_SPACE)


def get_scheduled_task(host: Host, call: Call) -> Sequence[object]:
    """Get-ScheduledTask by name and path (patterns), or all."""
    return [_shape(host, task) for task in _chosen(host, call)]


def get_scheduled_task_info(host: Host, call: Call) -> Sequence[object]:
    """Get-ScheduledTaskInfo: when a task would run next; no task of the lab has ever run."""
    output: list[object] = []
    for path, name in _chosen(host, call):
        properties: dict[str, object] = {
            "LastRunTime": _NEVER,
            "LastTaskResult": UInt32(_NEVER_RUN),
            "NextRunTime": next_run(ElementTree.fromstring(_xml(host, (path, name))), host.clock.time),  # noqa: S314
            "NumberOfMissedRuns": UInt32(0),
            "TaskName": name,
            "TaskPath": path,
        }
        output.append(cim("MSFT_TaskDynamicInfo", properties, space=_SPACE))
    return output


def _refused(code: int, message: str, target: object) -> PsError:
    return PsError(
        message,
        error_id=f"HRESULT 0x{code:08x}",
        category="NotSpecified",
        target=target,
        exception="Microsoft.Management.Infrastructure.CimException",
    )


async def register_scheduled_task(host: Host, call: Call) -> Sequence[object]:
    """Register-ScheduledTask -Xml: the task's own definition; -Force replaces one of the name."""
    await host.spend("windows.registry.set")
    name, path = str(call["TaskName"]), _folder(str(call.get("TaskPath") or "\\"))
    if "Xml" not in call:
        raise _refused(0x80070032, "The lab registers tasks from their XML only.", name)
    xml = str(call["Xml"])
    try:
        root = ElementTree.fromstring(xml.partition("?>")[2] or xml)  # noqa: S314 - the lab's own process
    except ElementTree.ParseError as error:
        raise _refused(0x8004131A, "The task XML is malformed.", name) from error
    if root.tag != f"{{{NAMESPACE}}}Task" or root.find(f"{{{NAMESPACE}}}Actions") is None:
        raise _refused(0x80041316, "The task XML contains an unexpected node.", name)
    file = _file(path, name)
    if host.files.exists(file) and not call.get("Force"):
        raise _refused(0x800700B7, "Cannot create a file when that file already exists.", name)
    _store(host, (path, name), root)
    return [_shape(host, (path, name))]


def _store(host: Host, task: tuple[str, str], root: ElementTree.Element) -> None:
    ElementTree.register_namespace("", NAMESPACE)
    folder = _ROOT
    for part in ("", *(p for p in task[0].split("\\") if p)):
        folder = ntpath.join(folder, part) if part else folder
        _made(host, folder)
    text = '<?xml version="1.0" encoding="UTF-16"?>\r\n' + ElementTree.tostring(root, encoding="unicode")
    host.files.write(_file(*task), text.encode("utf-16"))


def _made(host: Host, folder: str) -> None:
    parent = ntpath.dirname(folder)
    if len(parent) > 3:
        _made(host, parent)
    if not host.files.is_directory(folder):
        host.files.mkdir(folder)


async def unregister_scheduled_task(host: Host, call: Call) -> None:
    """Unregister-ScheduledTask by name and path."""
    await host.spend("windows.registry.set")
    for task in _chosen(host, call):
        host.files.remove(_file(*task))


async def switch_scheduled_task(host: Host, call: Call) -> Sequence[object]:
    """Enable-ScheduledTask and Disable-ScheduledTask."""
    await host.spend("windows.registry.set")
    output: list[object] = []
    for task in _chosen(host, call):
        root = ElementTree.fromstring(_xml(host, task))  # noqa: S314 - the lab's own file
        settings = root.find(f"{{{NAMESPACE}}}Settings")
        if settings is None:
            settings = ElementTree.SubElement(root, f"{{{NAMESPACE}}}Settings")
        enabled = settings.find(f"{{{NAMESPACE}}}Enabled")
        if enabled is None:
            enabled = ElementTree.SubElement(settings, f"{{{NAMESPACE}}}Enabled")
        enabled.text = str(call.cmdlet.lower().startswith("enable")).lower()
        _store(host, task, root)
        output.append(_shape(host, task))
    return output


def export_scheduled_task(host: Host, call: Call) -> Sequence[object]:
    """Export-ScheduledTask: the task's XML."""
    return [_xml(host, task) for task in _chosen(host, call)]


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-ScheduledTask": get_scheduled_task,
    "Get-ScheduledTaskInfo": get_scheduled_task_info,
    "Register-ScheduledTask": register_scheduled_task,
    "Unregister-ScheduledTask": unregister_scheduled_task,
    "Enable-ScheduledTask": switch_scheduled_task,
    "Disable-ScheduledTask": switch_scheduled_task,
    "Export-ScheduledTask": export_scheduled_task,
}
"""The cmdlets of this module."""
