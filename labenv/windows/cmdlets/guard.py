"""What a cmdlet does not look after itself: failures of storage and guests, and services that have to run."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.guest.errors import GuestError
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.disks.errors import VirtualDiskError
from labenv.windows.errors import FILE_ERRORS, hyperv, item, problem

if TYPE_CHECKING:
    from labenv.windows.host import Host

_EXPECTED = (*FILE_ERRORS, VirtualDiskError, GuestError)


def _record(error: Exception) -> PsError:
    if isinstance(error, GuestError | VirtualDiskError):
        return hyperv("OperationFailed", str(error))
    found = problem(error, "the volume")
    return item("System.IO.IOException", "ReadError", f"{found.message} (0x{found.code:08X})", None)


def guarded(cmdlet: Cmdlet) -> Cmdlet:
    """The cmdlet with such failures as error records: storage may go away in the middle of anything."""

    def run(host: Host, call: Call) -> Sequence[object] | Awaitable[Sequence[object] | None] | None:
        try:
            result = cmdlet(host, call)
        except _EXPECTED as error:
            raise _record(error) from error
        return _awaited(result) if inspect.isawaitable(result) else result

    return run


async def _awaited(result: Awaitable[Sequence[object] | None]) -> Sequence[object] | None:
    try:
        return await result
    except _EXPECTED as error:
        raise _record(error) from error


def needing(service: str, refusal: Callable[[Host], PsError], *modules: Mapping[str, Cmdlet]) -> Mapping[str, Cmdlet]:
    """The cmdlets of all modules, which a service of the host answers: while it does not run, nobody does."""

    def checked(cmdlet: Cmdlet) -> Cmdlet:
        def run(host: Host, call: Call) -> Sequence[object] | Awaitable[Sequence[object] | None] | None:
            if not host.inventory.runs(service):
                raise refusal(host)
            return cmdlet(host, call)

        return run

    return {name: checked(cmdlet) for module in modules for name, cmdlet in module.items()}


def all_guarded(*modules: Mapping[str, Cmdlet]) -> Mapping[str, Cmdlet]:
    """The cmdlets of all modules, guarded."""
    return {name: guarded(cmdlet) for module in modules for name, cmdlet in module.items()}
