"""Files of the SnapInfo folder: written once, with a checksum, and read in one request (TR 5.4).

Every file carries a checksum, is written under another name and then moved without force: two consoles cannot
overwrite each other, and a half-written file is never read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from smhvlab.errors import NameTaken, NotAllowed, NotFound, PowerShellError
from smhvlab.nodes import REGISTRY, Nodes
from smhvlab.wires.powershell import PowerShellWire

_ENCODING = {"Encoding": "UTF8"}
_NO_PATH, _NO_DRIVE = "PathNotFound", "DriveNotFound"
_DRAFT = ".new"
_DEAD = timedelta(hours=1)
"""How old a file under its draft name is before its writer counts as dead: a write takes seconds."""

T = TypeVar("T")


def damage(path: str, why: str) -> NotAllowed:
    """What is said of a damaged file by those who need it."""
    return NotAllowed(
        f"{path} is damaged: {why}",
        next_action="Restore the file from a Snapshot copy of the SnapInfo LUN.",
        tr="5.4",
    )


class SnapInfoFiles:
    """The SnapInfo folder of a site.

    Args:
        nodes: the hosts; that which has the folder's disk is used.
        folder: another folder than that of the hosts' settings, e.g. a mounted copy.
    """

    def __init__(self, nodes: Nodes, *, folder: str | None = None) -> None:
        self.nodes = nodes
        self._folder = folder
        self._stamps: dict[str, str] = {}  # length and time of the files that were listed
        self._drafts: dict[str, datetime] = {}  # files that were listed under their draft names, and their times
        self._texts: dict[tuple[str, str], str] = {}
        self._folders: set[str] = set()  # that files were written to

    @property
    def host(self) -> PowerShellWire:
        """PowerShell on the host that has the folder's disk."""
        return self.nodes.own().host

    def folder(self) -> str:
        """The SnapInfo folder from the host's settings. Raises NotFound: no VM can join a dataset without (TR 5.4)."""
        if self._folder is None:
            try:
                records = self.host.run("Get-ItemProperty", {"LiteralPath": REGISTRY, "Name": "SnapInfoPath"})
            except PowerShellError as error:
                raise NotFound(
                    "The host has no SnapInfo settings",
                    next_action=r"Name a folder on a LUN of its own: site.set_snapinfo('S:\SnapInfo').",
                    code=error.code,
                    tr="5.4",
                ) from error
            self._folder = str(records[0]["SnapInfoPath"]).rstrip("\\")
        return self._folder

    def set_folder(self, folder: str) -> None:
        """Keep the SnapInfo folder in every host's settings. Files of an earlier folder are not moved (TR 5.4)."""
        value = {"LiteralPath": REGISTRY, "Name": "SnapInfoPath", "Value": folder.rstrip("\\")}
        for node in self.nodes.up():
            node.host.run("New-Item", {"Path": REGISTRY, "Force": True})
            node.host.run("Set-ItemProperty", value)
        self._folder = None
        self.nodes.look_again()

    # --- reading

    def files(self, *parts: str) -> list[str]:
        """Full names of the finished files below parts of the folder, sorted; none of a part that is not there."""
        records = self._listed(parts)
        if records is None and self.nodes.cluster is not None:
            self.nodes.look_again()  # the disk may have moved to another node
            records = self._listed(parts)
        found = {str(r["FullName"]): r for r in records or ()}
        self._stamps.update({path: f"{r['Length']} {r['LastWriteTimeUtc']}" for path, r in found.items()})
        self._drafts.update({path: r["LastWriteTimeUtc"] for path, r in found.items() if path.endswith(_DRAFT)})
        return sorted(path for path in found if not path.endswith(_DRAFT))

    def _listed(self, parts: Sequence[str]) -> list[Any] | None:
        """The files of all parts in one request, None if there is none of the parts."""
        wanted = {"LiteralPath": [f"{self.folder()}\\{part}" for part in parts], "Recurse": True, "File": True}
        select = ("FullName", "Length", "LastWriteTimeUtc")
        found = self.host.run("Get-ChildItem", wanted, select=select, error_action="Continue")
        if strange := [error for error in found.errors if error.error_id not in (_NO_PATH, _NO_DRIVE)]:
            raise strange[0]
        return None if len(found.errors) == len(parts) else list(found)

    def read_all(self, paths: Sequence[str], comment: str) -> list[str]:
        """Contents of listed files in their order, in one request, each held against its checksum.

        Files are written once: one that was read before and has kept its length and time is not read again.

        Raises:
            NotAllowed: a file is damaged.
        """
        texts, damaged = self._read(paths, comment)
        for path, why in damaged.items():
            raise damage(path, why)
        return [texts[path] for path in paths]

    def read_sound(
        self, paths: Sequence[str], comment: str, decode: Callable[[str], T]
    ) -> tuple[dict[str, T], dict[str, str]]:
        """What the files say, by path; and what is wrong with those that are damaged. As ``read_all`` otherwise."""
        texts, damaged = self._read(paths, comment)
        found: dict[str, T] = {}
        for path, text in texts.items():
            try:
                found[path] = decode(text)
            except (NotAllowed, msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
                damaged[path] = f"its contents mean nothing ({str(error).splitlines()[0]})"
        return found, damaged

    def versions(self, part: str, listed: Sequence[str] | None = None) -> list[tuple[str, int, str]]:
        """Name, number and path of every numbered TOML file of a part, sorted; other files are none of ours."""
        mine = re.compile(re.escape(f"\\{part}\\") + r"(?:([^\\]+)\\)?(\d{6,})\.toml\Z")
        found = ((mine.search(path), path) for path in (self.files(part) if listed is None else listed))
        return sorted((match[1] or "", int(match[2]), path) for match, path in found if match)

    def _read(self, paths: Sequence[str], comment: str) -> tuple[dict[str, str], dict[str, str]]:
        known: dict[str, str] = {}
        for path in paths:
            text = self._texts.get((path, self._stamps.get(path, "")))
            if text is not None:
                known[path] = text
        damaged: dict[str, str] = {}
        missing = [path for path in paths if path not in known]
        if missing:
            wholes = self.host.run("Get-Content", {"LiteralPath": missing, "Raw": True, **_ENCODING})
            for path, whole in zip(missing, wholes, strict=True):
                head, _, text = str(whole).partition("\r\n")
                if head != f"{comment} sha256 {hashlib.sha256(text.encode()).hexdigest()}":
                    damaged[path] = "its contents do not match its checksum"
                    continue
                known[path] = text
                if stamp := self._stamps.get(path):
                    self._texts[path, stamp] = text
        return known, damaged

    # --- writing

    def write_once(self, folder: str, leaf: str, text: str, comment: str) -> None:
        """Write a new file with its checksum. Raises NameTaken if it is there already."""
        written = self._write(folder, leaf, text, comment, draft=f".{uuid4().hex[:8]}{_DRAFT}")
        self._sweep(folder)
        if not written:
            raise NameTaken(
                f"{folder}\\{leaf} is there already: somebody else wrote it meanwhile",
                next_action="Read it again and repeat the change.",
                tr="5.2",
            )

    def write_new(self, folder: str, leaf: str, text: str, comment: str, *, writer: str = "") -> bool:
        """As ``write_once``, by one who takes the draft away himself (``discard``); False: the file is there already.

        ``writer``: a part of the draft's name, where several may write the same file.
        """
        return self._write(folder, leaf, text, comment, draft=f".{writer}{_DRAFT}" if writer else _DRAFT)

    def discard(self, *paths: str, drafts: Sequence[str] = (), writer: str = "") -> None:
        """The files, and what was written of them, are gone; of ``drafts`` only what that writer has written."""
        own = [f"{path}.{writer}{_DRAFT}" for path in drafts]
        self._gone([name for path in paths for name in (path, f"{path}{_DRAFT}")] + own)

    def _write(self, folder: str, leaf: str, text: str, comment: str, *, draft: str = _DRAFT) -> bool:
        """Write a new file with its checksum; False if it is there already, and stays as it is.

        ``draft``: how its name ends until it is whole; one of its own where nobody else's may be met.
        """
        target = f"{folder}\\{leaf}"
        if folder not in self._folders:
            has_folder, has_target = self.host.run("Test-Path", {"LiteralPath": [folder, target]})
            if has_target:
                return False
            if not has_folder:
                self.host.run("New-Item", {"Path": folder, "ItemType": "Directory", "Force": True})
        value = f"{comment} sha256 {hashlib.sha256(text.encode()).hexdigest()}\r\n{text}"
        new = {"LiteralPath": f"{target}{draft}"}
        try:
            self.host.run("Set-Content", {**new, "Value": value, "NoNewline": True, **_ENCODING})
        except PowerShellError:
            if folder not in self._folders:
                raise
            self._folders.discard(folder)  # somebody has taken it away, or the disk is another one now
            return self._write(folder, leaf, text, comment, draft=draft)
        try:
            self.host.run("Move-Item", {**new, "Destination": target})
        except PowerShellError:
            if not self.host.run("Test-Path", {"LiteralPath": target})[0]:
                raise
            self._gone([f"{target}{draft}"])
            return False
        self._folders.add(folder)
        return True

    def _sweep(self, folder: str) -> None:
        """Drafts that were listed in a folder, and whose writers must be dead, are gone."""
        drafts = {path: time for path, time in self._drafts.items() if path.rpartition("\\")[0] == folder}
        if not drafts:
            return
        dead = self.host.now() - _DEAD
        old = [path for path, time in drafts.items() if time < dead]
        self._gone(old)
        for path in drafts:
            del self._drafts[path]

    def _gone(self, paths: Sequence[str]) -> None:
        if not paths:
            return
        tried = self._removed(paths)
        if any(error.error_id == _NO_DRIVE for error in tried):
            self.nodes.look_again()  # the disk may have moved to another node: no file is gone for that
            tried = self._removed(paths)
        for error in tried:
            if error.error_id != _NO_PATH:
                raise error

    def _removed(self, paths: Sequence[str]) -> Sequence[PowerShellError]:
        wanted = {"LiteralPath": list(paths), "Force": True}
        return self.host.run("Remove-Item", wanted, error_action="Continue").errors
