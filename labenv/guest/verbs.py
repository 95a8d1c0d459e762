"""What somebody outside may ask of a guest by name: actions for the lab's control endpoint, with JSON answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from labenv.devices import DeviceError
from labenv.guest.errors import GuestError
from labenv.guest.load import Load
from labenv.windows.disks.errors import FileSystemError

if TYPE_CHECKING:
    from labenv.guest.guest import Guest


def perform(guest: Guest, verb: str, arguments: Mapping[str, object]) -> object:
    """Carry out a verb; raises ValueError for an unknown one, wrong arguments, and what the guest refuses."""
    action = VERBS.get(verb)
    if action is None:
        raise ValueError(f"a guest knows no verb {verb!r}: one of {', '.join(sorted(VERBS))}")
    try:
        signature(action).bind(guest, **arguments)
    except TypeError as error:
        raise ValueError(f"{verb}: {error}") from error
    try:
        return action(guest, **arguments)
    except (GuestError, DeviceError, FileSystemError) as error:
        raise ValueError(str(error)) from error


def _insert(guest: Guest, *, database: str, rows: int, per_transaction: int = 1) -> int:
    done = 0
    while done < rows:
        step = min(per_transaction, rows - done)
        guest.insert(database, step)
        done += step
    return guest.count(database)


def _checkdb(guest: Guest, *, database: str) -> dict[str, object]:
    result = guest.checkdb(database)
    return {
        "ok": result.ok,
        "integrity": result.integrity,
        "ledger": result.ledger,
        "rows": result.rows,
        "last_transaction": result.last_transaction,
    }


def _load(guest: Guest, *, database: str, rows_per_second: int, up_to: int) -> None:
    guest.start_load(Load(database, rows_per_second, up_to))


def _identity(guest: Guest) -> dict[str, object]:
    return {
        "host_name": guest.host_name,
        "sid": guest.sid,
        "address": guest.address,
        "unexpected_shutdown": guest.unexpected_shutdown,
        "volumes": list(guest.volumes),
        "dirty_bytes": guest.dirty_bytes,
    }


def _write_file(guest: Guest, *, path: str, text: str, flush: bool = False) -> None:
    guest.write_file(path, text.encode(), flush=flush)


def _read_file(guest: Guest, *, path: str) -> str:
    return guest.read_file(path).decode(errors="replace")


def _list_files(guest: Guest, *, path: str) -> list[dict[str, object]]:
    return [
        {"name": entry.name, "is_directory": entry.is_directory, "size": entry.size} for entry in guest.list_files(path)
    ]


VERBS: Mapping[str, Callable[..., Any]] = {
    "databases": lambda guest: guest.databases(),
    "insert": _insert,
    "count": lambda guest, *, database: guest.count(database),
    "checkdb": _checkdb,
    "begin": lambda guest, *, database, rows: guest.begin(database, rows),
    "commit": lambda guest, *, database: guest.commit(database),
    "rollback": lambda guest, *, database: guest.rollback(database),
    "start_load": _load,
    "stop_load": lambda guest, *, database: guest.stop_load(database),
    "flush": lambda guest: guest.flush(),
    "identity": _identity,
    "configure": lambda guest, **changes: guest.configure(**changes),
    "install_software": lambda guest, *, name: guest.install_software(name),
    "connect_portal": lambda guest, *, portal, label="iSCSI": guest.connect_portal(portal, label=label),
    "initiator": lambda guest: guest.initiator,
    "sysprep": lambda guest: guest.sysprep(),
    "write_file": _write_file,
    "read_file": _read_file,
    "list_files": _list_files,
}
"""The verbs and what they do. Their arguments are keywords, their results are JSON."""
