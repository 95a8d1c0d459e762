"""The control endpoint: what only a lab can do (clock, checkpoints, faults) and ground truth for checks."""

from __future__ import annotations

import dataclasses
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from labenv.faults import Fault

if TYPE_CHECKING:
    from labenv.site import LabSite

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Handler = Callable[[Mapping[str, Any]], Awaitable[object]]

log = logging.getLogger("labenv")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ControlError(Exception):
    """The control endpoint refuses a request; the text says what to do instead."""


class Control:
    """ASGI app: ``POST /<verb>`` with a JSON object, answered by a JSON object; a bearer token is required."""

    def __init__(self, site: LabSite, *, token: str, stop: Callable[[], None]) -> None:
        self._site = site
        self._token = token
        self._stop = stop
        self._verbs: dict[str, Handler] = {
            "status": self._status,
            "down": self._down,
            "reset": self._reset,
            "checkpoint": self._checkpoint,
            "restore": self._restore,
            "clock": self._clock,
            "clock/advance": self._advance,
            "fault": self._fault,
            "fault/list": self._fault_list,
            "fault/clear": self._fault_clear,
            "fault/cause": self._fault_cause,
            "guest": self._guest,
            "host": self._host,
            "storage": self._storage,
            "inspect/check": self._check,
            "inspect/export": self._export,
            "inspect/files": self._files,
            "inspect/usage": self._usage,
            "inspect/memory": self._memory,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        status, answer = await self._answer(scope, receive)
        body = msgspec.json.encode(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if scope["path"].strip("/") == "down" and status == 200:
            self._stop()

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, object]:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return 401, {"error": "the control endpoint needs the token from endpoints.json"}
        verb = scope["path"].strip("/")
        if verb not in self._verbs:
            return 404, {"error": f"no verb {verb!r}: one of {', '.join(sorted(self._verbs))}"}
        try:
            try:
                arguments = msgspec.json.decode(body or b"{}", type=dict[str, Any])
            except msgspec.MsgspecError as error:
                raise ControlError(f"the request is no JSON object: {error}") from error
            return 200, await self._verbs[verb](arguments)
        except (ControlError, ValueError, TypeError, OSError, msgspec.MsgspecError) as error:
            return 400, {"error": str(error)}
        except Exception as error:  # the client gets one line, the lab's log the rest
            log.exception("the control endpoint failed at %s", verb)
            return 500, {"error": f"the lab itself failed at {verb}: {type(error).__name__}: {error}"}

    async def _status(self, _: Mapping[str, Any]) -> object:
        site = self._site
        return {
            "topology": site.topology.name,
            "title": site.topology.title,
            "time": site.clock.time.isoformat(),
            "seed": site.seed,
            "checkpoints": site.state.checkpoints(),
            "vms": site.vm_states(),
            "failures": list(site.failures),
        }

    async def _down(self, _: Mapping[str, Any]) -> object:
        return {"stopping": True}

    async def _reset(self, _: Mapping[str, Any]) -> object:
        await self._site.restore("fresh")
        return {"restored": "fresh"}

    async def _checkpoint(self, arguments: Mapping[str, Any]) -> object:
        name = _text(arguments, "name")
        if name == "fresh":
            raise ControlError("the checkpoint 'fresh' is what reset goes back to: choose another name")
        if not _NAME.fullmatch(name):
            raise ControlError(f"{name!r} is no name for a checkpoint: 1 to 64 letters, digits, '_', '.' and '-'")
        await self._site.checkpoint(name)
        return {"checkpoints": self._site.state.checkpoints()}

    async def _restore(self, arguments: Mapping[str, Any]) -> object:
        name = _text(arguments, "name")
        known = self._site.state.checkpoints()
        if name not in known:
            raise ControlError(f"no checkpoint {name!r}: one of {', '.join(known)}")
        await self._site.restore(name)
        return {"restored": name}

    async def _clock(self, _: Mapping[str, Any]) -> object:
        return {"time": self._site.clock.time.isoformat(), "microseconds": self._site.clock.now}

    async def _advance(self, arguments: Mapping[str, Any]) -> object:
        seconds = float(arguments.get("seconds", "nan"))
        if not 0 <= seconds <= 400 * 86400:
            raise ControlError(f"the clock moves forward by 0 to 34560000 lab seconds at once, not by {seconds:g}")
        await self._site.clock.advance(seconds)
        self._site.state.commit()
        return await self._clock({})

    async def _fault(self, arguments: Mapping[str, Any]) -> object:
        known = [field.name for field in dataclasses.fields(Fault)]
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise ControlError(f"a fault has no {unknown[0]!r}: it has {', '.join(known)}")
        self._site.faults.set(msgspec.convert(arguments, Fault))
        return await self._fault_list({})

    async def _fault_list(self, _: Mapping[str, Any]) -> object:
        site = self._site
        rules = [{**dataclasses.asdict(fault), "acted": acted} for fault, acted in site.faults.rules()]
        for rule in rules:  # what only named causes have
            for name in ("cause", "options"):
                if not rule[name]:
                    del rule[name]
        changes = [{"cause": done.name, "options": done.options} for done in site.causes.active()]
        return {"faults": rules, **({"changes": changes} if changes else {})}

    async def _fault_clear(self, arguments: Mapping[str, Any]) -> object:
        """Remove every rule and mend every change, or those of one cause."""
        name = _text(arguments, "cause") if "cause" in arguments else None
        with self._site.clock.request(), self._site.clock.parked():
            await self._site.causes.mend(name)
        self._site.state.commit()
        return await self._fault_list({})

    async def _fault_cause(self, arguments: Mapping[str, Any]) -> object:
        """Set a named cause with its options."""
        options = msgspec.convert(arguments.get("options", {}), dict[str, str])
        with self._site.clock.request(), self._site.clock.parked():
            await self._site.causes.set(_text(arguments, "cause"), options)
        self._site.state.commit()
        return await self._fault_list({})

    async def _guest(self, arguments: Mapping[str, Any]) -> object:
        """Act inside a running VM: insert, count, checkdb, databases, write_file, read_file, flush, power_off."""
        return self._site.guest_action(
            _text(arguments, "vm"), _text(arguments, "action"), arguments.get("arguments", {})
        )

    async def _host(self, arguments: Mapping[str, Any]) -> object:
        """Switch a host off or on, cut or mend one of its paths: power_off, power_on, cut_path, mend_path, paths."""
        return await self._site.host_action(
            _text(arguments, "host"), _text(arguments, "action"), arguments.get("arguments", {})
        )

    async def _storage(self, arguments: Mapping[str, Any]) -> object:
        """Switch a storage cluster off or on, cut or mend a link: power_off, power_on, cut_link, mend_link, links."""
        return self._site.storage_action(
            _text(arguments, "cluster"), _text(arguments, "action"), arguments.get("arguments", {})
        )

    async def _check(self, _: Mapping[str, Any]) -> object:
        self._site.state.commit()
        return {"problems": self._site.blocks.check()}

    async def _export(self, arguments: Mapping[str, Any]) -> object:
        """Write a LUN or a file in a volume, or in one of its Snapshot copies, to a sparse local file."""
        volume, path = _text(arguments, "volume"), _text(arguments, "path")
        file = self._site.block_file(volume, path, arguments.get("snapshot"))
        with open(_text(arguments, "target"), "wb") as out:  # noqa: PTH123, ASYNC230 - the lab's one thread owns the bytes
            for offset, length in file.data_ranges(0, file.size):
                for start in range(offset, offset + length, 8 << 20):
                    out.seek(start)
                    out.write(file.read(start, min(8 << 20, offset + length - start)))
            out.truncate(file.size)
        return {"size": file.size}

    async def _files(self, arguments: Mapping[str, Any]) -> object:
        return {"files": self._site.volume_files(_text(arguments, "volume"), arguments.get("snapshot"))}

    async def _usage(self, arguments: Mapping[str, Any]) -> object:
        return dataclasses.asdict(self._site.volume_usage(_text(arguments, "volume")))

    async def _memory(self, _: Mapping[str, Any]) -> object:
        return {"resident": _resident_bytes(), "cpu": time.process_time()}


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise ControlError(f"{name} is missing" if value is None else f"{name} is {value!r}, which is no text")
    return value


def _resident_bytes() -> int | None:
    """Anonymous memory of this process in bytes, where the system tells (Linux)."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - not a file of ours
            fields = dict(line.split(":", 1) for line in status)
    except OSError:
        return None
    return int(fields["RssAnon"].split()[0]) * 1024
