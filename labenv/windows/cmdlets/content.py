"""The contents of files: Get-Content, Set-Content, Get-FileHash."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.item import existing, failed, paths
from labenv.windows.cmdlets.targets import many
from labenv.windows.errors import FileProblem, item
from labenv.windows.objects import PsObject

if TYPE_CHECKING:
    from labenv.windows.host import Host

_CODECS = {
    "ascii": ("ascii", b""),
    "utf8": ("utf-8", codecs.BOM_UTF8),
    "utf7": ("utf-7", b""),
    "unicode": ("utf-16-le", codecs.BOM_UTF16_LE),
    "string": ("utf-16-le", codecs.BOM_UTF16_LE),
    "bigendianunicode": ("utf-16-be", codecs.BOM_UTF16_BE),
    "utf32": ("utf-32-le", codecs.BOM_UTF32_LE),
    "bigendianutf32": ("utf-32-be", codecs.BOM_UTF32_BE),
    "default": ("cp1252", b""),
    "unknown": ("cp1252", b""),
    "oem": ("cp437", b""),
}
_HASHES: dict[str, Callable[[], Any]] = {
    "SHA256": hashlib.sha256,
    "SHA384": hashlib.sha384,
    "SHA512": hashlib.sha512,
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
}
_LIMIT = 16 << 20


def _decode(data: bytes, encoding: str) -> str:
    name = _CODECS[encoding][0]
    for codec, mark in (
        ("utf-8", codecs.BOM_UTF8),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ):
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, "replace")
    return data.decode(name, "replace")


def get_content(host: Host, call: Call) -> Sequence[object]:
    """Get-Content: lines, or one string with -Raw; without -Encoding the byte order mark decides."""
    output: list[object] = []
    encoding = str(call.get("Encoding") or "Default").lower()
    for path in existing(host, call):
        try:
            if host.files.is_directory(path):
                raise FileProblem(0x80070005, f"Access to the path '{path}' is denied.")
            if host.files.stat(path).size > _LIMIT:
                raise FileProblem(0x8007000E, f"'{path}' is too big to be sent as text by the lab.")
            data = host.files.read(path)
        except FileProblem as error:
            denied = error.code == 0x80070005
            error_id = "GetContentReaderUnauthorizedAccessError" if denied else "GetContentReaderIOError"
            call.error(failed(error, error_id, path, category="PermissionDenied" if denied else "ReadError"))
            continue
        if encoding == "byte":
            if "TotalCount" in call:
                data = data[: int(call["TotalCount"])]
            output += [data] if call.get("Raw") else list(data)
            continue
        text = _decode(data, encoding)
        if call.get("Raw"):
            output.append(text)
            continue
        lines = text.replace("\r\n", "\n").split("\n")
        if lines and not lines[-1]:
            lines.pop()
        if "TotalCount" in call:
            lines = lines[: int(call["TotalCount"])]
        if "Tail" in call:
            lines = lines[len(lines) - int(call["Tail"]) :] if int(call["Tail"]) else []
        output += lines
    return output


async def set_content(host: Host, call: Call) -> Sequence[object] | None:
    """Set-Content: replaces a file's contents; UTF8 begins with a byte order mark, as in Windows PowerShell."""
    await host.spend("windows.file.write")
    encoding = str(call.get("Encoding") or "Default").lower()
    values = many(call.get("Value"))
    if encoding == "byte":
        data = b"".join(v if isinstance(v, bytes) else bytes([int(str(v))]) for v in values)
    else:
        name, mark = _CODECS[encoding]
        newline = "" if call.get("NoNewline") else "\r\n"
        data = mark + "".join(f"{v}{newline}" for v in values).encode(name, "replace")
    for path in paths(host, call):
        try:
            host.files.write(path, data)
        except FileProblem as error:
            if error.code in (0x80070002, 0x80070003):
                kind = "System.IO.DirectoryNotFoundException"
                call.error(item("GetContentWriterDirectoryNotFoundError", "ObjectNotFound", error.message, path, kind))
            else:
                call.error(failed(error, "GetContentWriterIOError", path))
    return None


async def get_file_hash(host: Host, call: Call) -> Sequence[object]:
    """Get-FileHash: reads the whole file in lab time (``windows.copy_gib``)."""
    algorithm = str(call.get("Algorithm") or "SHA256").upper()
    output: list[object] = []
    for path in paths(host, call):
        if not host.files.exists(path) or host.files.is_directory(path):
            if not host.files.exists(path):
                kind = "System.Management.Automation.ItemNotFoundException"
                call.error(
                    item(
                        "FileNotFound",
                        "ObjectNotFound",
                        f"Cannot find path '{path}' because it does not exist.",
                        path,
                        kind,
                    )
                )
            continue
        try:
            digest = _HASHES[algorithm]()
            async for piece in host.files.pieces(path):
                digest.update(piece)
        except FileProblem as error:
            call.error(failed(error, "FileReadError", path, category="ReadError"))
            continue
        properties: dict[str, object] = {"Algorithm": algorithm, "Hash": digest.hexdigest().upper(), "Path": path}
        output.append(PsObject(["Microsoft.Powershell.Utility.FileHash", "System.Object"], {}, properties))
    return output


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-Content": get_content,
    "Set-Content": set_content,
    "Get-FileHash": get_file_hash,
}
"""The cmdlets of this module."""
