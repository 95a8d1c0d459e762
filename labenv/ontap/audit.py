"""The audit log: who asked for which change over the API, with which application, and how that ended."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from labenv.ontap import records as r
from labenv.ontap.core import Core

if TYPE_CHECKING:
    from labenv.ontap.rest.call import Call, Reply

MOST = 1000
"""Entries that are kept; older ones go."""
_LONGEST = 1024


def record(core: Core, call: Call, reply: Reply, *, client_app: str, location: str) -> None:
    """Enter a request that is about to be answered, and commit. Bodies are left out, and so are their secrets."""
    index = core.count("audit")
    query = urlencode({**call.query, **call.general}, safe="*,")
    error = reply.body.get("error")
    core.audit[str(index)] = r.AuditEntry(
        index=index,
        time=core.now,
        node=next(iter(core.nodes.values())).name,
        user=call.user.name,
        svm=call.svm,
        input=f"{call.method} /api{call.path}{'?' if query else ''}{query}"[:_LONGEST],
        state="success" if error is None else "error",
        message="" if error is None else f"{error['code']}: {error['message']}"[:_LONGEST],
        client_app=client_app[:_LONGEST],
        location=location,
    )
    while len(core.audit) > MOST:
        del core.audit[next(iter(core.audit))]
    core.state.commit()
