"""What the command-line tools print. It is meant to be read by people; nothing is proven by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from labenv.windows.vss import codes
from labenv.windows.vss.codes import VssError
from labenv.windows.vss.model import Component
from labenv.windows.vss.provider import Provider
from labenv.windows.vss.records import ShadowRecord
from labenv.windows.vss.writer import Writer

_LAST_ERRORS = {
    codes.NONE: "No error",
    codes.WRITER_PARTIAL_FAILURE: "Some of the components failed",
    codes.INCONSISTENT_SNAPSHOT: "Inconsistent shadow copy",
    codes.WRITER_OUT_OF_RESOURCES: "Out of resources",
    codes.WRITER_TIMEOUT: "Timed out",
    codes.WRITER_RETRYABLE: "Retryable error",
    codes.WRITER_NONRETRYABLE: "Non-retryable error",
}


def guid(value: UUID) -> str:
    """An id in braces."""
    return f"{{{value}}}"


def moment(value: datetime) -> str:
    """A time as an English system shows it."""
    hour = value.hour % 12 or 12
    return f"{value.month}/{value.day}/{value.year} {hour}:{value:%M:%S} {'AM' if value.hour < 12 else 'PM'}"


def failure(error: VssError) -> list[str]:
    """A failed operation in DiskShadow."""
    name = codes.NAMES.get(error.code, "unknown error")
    return ["", "The last operation failed.", f"\t- Returned HRESULT: {error.code:08x}", f"\t- Error text: {name}"]


def last_error(code: int) -> str:
    """A writer's last failure, as vssadmin says it."""
    return _LAST_ERRORS.get(code, f"0x{code:08x}")


def providers(found: Sequence[Provider]) -> Iterator[str]:
    """vssadmin list providers."""
    for provider in found:
        yield f"Provider name: '{provider.name}'"
        yield f"   Provider type: {provider.kind}"
        yield f"   Provider Id: {guid(provider.id)}"
        yield f"   Version: {provider.version}"
        yield ""


def writers(found: Sequence[Writer]) -> Iterator[str]:
    """vssadmin list writers."""
    for writer in found:
        yield f"Writer name: '{writer.name}'"
        yield f"   Writer Id: {guid(writer.id)}"
        yield f"   Writer Instance Id: {guid(writer.instance)}"
        yield f"   State: [{writer.state.value}] {writer.state.shown}"
        yield f"   Last error: {last_error(writer.failure)}"
        yield ""


def shadows(found: Sequence[ShadowRecord], names: dict[UUID, str]) -> Iterator[str]:
    """vssadmin list shadows; ``names`` are the providers'."""
    for set_id in dict.fromkeys(r.set_id for r in found):
        members = [r for r in found if r.set_id == set_id]
        yield f"Contents of shadow copy set ID: {guid(set_id)}"
        yield f"   Contained {members[0].count} shadow copies at creation time: {moment(members[0].created)}"
        for record in members:
            yield f"      Shadow Copy ID: {guid(record.id)}"
            yield f"         Original Volume: ({record.shown}){record.volume}"
            yield f"         Shadow Copy Volume: {record.device or 'not on this computer'}"
            yield f"         Originating Machine: {record.machine}"
            yield f"         Service Machine: {record.machine}"
            yield f"         Provider: '{names.get(record.provider, '')}'"
            yield f"         Type: {record.kind}"
            yield f"         Attributes: {', '.join(a.replace('_', ' ') for a in record.attributes)}"
        yield ""


def shadow(record: ShadowRecord, *, alias: str = "", set_alias: str = "") -> Iterator[str]:
    """One shadow copy in DiskShadow's list."""
    yield f"\t* Shadow copy ID = {guid(record.id)}{f'		%{alias}%' if alias else ''}"
    yield f"\t\t- Shadow copy set: {guid(record.set_id)}{f'	%{set_alias}%' if set_alias else ''}"
    yield f"\t\t- Original count of shadow copies = {record.count}"
    yield f"\t\t- Original volume name: {record.volume} [{record.shown}]"
    yield f"\t\t- Creation time: {moment(record.created)}"
    if record.device:
        yield f"\t\t- Shadow copy device name: {record.device}"
    yield f"\t\t- Originating machine: {record.machine}"
    yield f"\t\t- Service machine: {record.machine}"
    yield "\t\t- Not exposed"
    yield f"\t\t- Provider ID: {guid(record.provider)}"
    yield f"\t\t- Attributes:  {' '.join(record.attributes)}"
    yield ""


def writer_metadata(writer: Writer, components: Sequence[Component], *, files: bool) -> Iterator[str]:
    """One writer in DiskShadow's list."""
    yield f'\t* WRITER "{writer.name}"'
    yield f"\t\t- Writer ID   = {guid(writer.id)}"
    yield f"\t\t- Writer instance ID = {guid(writer.instance)}"
    yield f"\t\t- Status: {writer.state.value} ({writer.state.name})"
    yield f"\t\t- Writer Failure code: 0x{writer.failure:08x} ({codes.NAMES.get(writer.failure, 'S_OK')})"
    if not files:
        return
    for component in components:
        yield f'\t\t+ Component "{writer.name}:{component.logical}"'
        yield f"\t\t\t- Name: {component.name}"
        yield f"\t\t\t- Logical path: {component.path}"
        yield f"\t\t\t- Caption: {component.caption}"
        yield f"\t\t\t- Selectable: {'TRUE' if component.selectable else 'FALSE'}"
        yield "\t\t\t- Components files:"
        for path in component.files:
            folder, _, name = path.rpartition("\\")
            yield f"\t\t\t\t+ File List: Path = {folder}, Filespec = {name}"
        yield "\t\t\t- Affected volumes:"
        for volume in sorted(str(v) for v in component.volumes):
            yield f"\t\t\t\t+ \\\\?\\Volume{{{volume}}}\\"
    yield ""
