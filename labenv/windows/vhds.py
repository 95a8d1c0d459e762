"""Virtual disk files of the host: reading what they are, opening chains, making new ones."""

from __future__ import annotations

import ntpath
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from labenv.devices import BlockDevice, data_ranges
from labenv.windows.disks import vhd, vhdx
from labenv.windows.disks.errors import VirtualDiskError
from labenv.windows.disks.exfat import File
from labenv.windows.disks.virtualdisk import (
    VhdFormat,
    VhdInfo,
    VhdType,
    VirtualDisk,
    create_vhd,
    open_vhd,
    read_info,
    set_parent,
)
from labenv.windows.errors import FileProblem
from labenv.windows.files import Files, windows_errors

_PIECE = 4 << 20


@dataclass(frozen=True)
class OpenDisk:
    """An open chain of virtual disk files: the leaf's device and every file, leaf first."""

    device: VirtualDisk
    paths: tuple[str, ...]
    files: tuple[File, ...]

    def close(self) -> None:
        """Close the disk and its files."""
        self.device.close()
        for file in self.files:
            file.close()


def format_of(path: str) -> VhdFormat | None:
    """The format that a file's extension stands for."""
    extension = ntpath.splitext(path)[1].lower()
    return {".vhd": VhdFormat.VHD, ".avhd": VhdFormat.VHD, ".vhdx": VhdFormat.VHDX, ".avhdx": VhdFormat.VHDX}.get(
        extension
    )


class VirtualDisks:
    """Virtual disk files by path. Failures are ``FileProblem``."""

    def __init__(self, *, files: Files, now: Callable[[], datetime]) -> None:
        self._files = files
        self._now = now

    def info(self, path: str) -> VhdInfo:
        """What a virtual disk file is."""
        file = self._files.open(path)
        try:
            with windows_errors(path):
                return read_info(file)
        except VirtualDiskError as error:
            raise _corrupt(path) from error
        finally:
            file.close()

    def parent(self, path: str, info: VhdInfo) -> str | None:
        """The path of a differencing disk's parent: relative to the child if it is there, else as recorded.

        Like on Windows; so a chain inside a cloned LUN leads to the clone's files and not to the original's.
        """
        if info.type is not VhdType.DIFFERENCING or not info.parent_path:
            return None
        relative = info.parent_relative_path or ntpath.basename(info.parent_path)
        beside = ntpath.normpath(ntpath.join(ntpath.dirname(path), relative))
        return beside if self._files.exists(beside) else info.parent_path

    def chain(self, path: str) -> tuple[str, ...]:
        """Every file of a chain, leaf first."""
        paths = [path]
        while (parent := self.parent(paths[-1], self.info(paths[-1]))) is not None:
            if len(paths) > 64:
                raise _corrupt(path)
            paths.append(parent)
        return tuple(paths)

    def open(self, path: str, *, read_only: bool = False) -> OpenDisk:
        """Open a chain; only the leaf is written to. The caller checks first whether the files are in use."""
        paths = self.chain(path)
        files: list[File] = []
        disk: VirtualDisk | None = None
        try:
            for each in reversed(paths):
                leaf = each == path
                file = self._files.open(each, write=leaf and not read_only)
                files.insert(0, file)
                with windows_errors(each):
                    disk = open_vhd(file, parent=disk, read_only=read_only or not leaf)
        except VirtualDiskError as error:
            for file in files:
                file.close()
            raise _corrupt(path) from error
        except BaseException:
            for file in files:
                file.close()
            raise
        assert disk is not None
        return OpenDisk(disk, paths, tuple(files))

    def fill(self, path: str, source: BlockDevice) -> None:
        """Copy a disk into a virtual disk of at least its size, with its partition table and so with its identity."""
        opened = self.open(path)
        try:
            with windows_errors(path):
                for offset, length in data_ranges(source, 0, source.size):
                    for start in range(offset, offset + length, _PIECE):
                        size = min(_PIECE, offset + length - start)
                        opened.device.write(start, source.read(start, size))
                opened.device.flush()
        finally:
            opened.close()

    def create(
        self,
        path: str,
        *,
        kind: VhdType,
        size: int,
        identifier: UUID,
        parent: str | None = None,
        block_size: int | None = None,
    ) -> VhdInfo:
        """Make a virtual disk file; of a differencing disk, size and format are the parent's."""
        wanted = format_of(path)
        if wanted is None:
            raise FileProblem(0x80070057, "The file name extension is not that of a virtual hard disk.")
        if self._files.exists(path):
            raise FileProblem(0x80070050, "The file exists.")
        info = self.info(parent) if parent is not None else None
        file = self._files.create(path)
        try:
            with windows_errors(path):
                create_vhd(
                    file,
                    format=wanted,
                    type=kind,
                    size=info.size if info is not None else size,
                    identifier=identifier,
                    now=self._now(),
                    parent=info,
                    parent_path=parent,
                    relative_path=_relative(path, parent) if parent is not None else None,
                    block_size=block_size,
                )
                file.flush()
        except BaseException:
            file.close()
            self._files.remove(path)
            raise
        file.close()
        return self.info(path)

    def set_identifier(self, path: str, identifier: UUID) -> None:
        """Give a virtual disk another identifier; its contents, and the GUIDs in them, stay."""
        if self.info(path).format is not VhdFormat.VHD:
            raise FileProblem(0x80070032, "The lab changes the identifier of VHD files only.")
        file = self._files.open(path, write=True)
        try:
            with windows_errors(path):
                footer = replace(vhd.read_footer(file), identifier=identifier).pack()
                if file.read(0, 8) == footer[:8]:
                    file.write(0, footer)  # all but fixed disks begin with a copy
                file.write(file.size - len(footer), footer)
        finally:
            file.close()

    def relink(self, path: str, parent: str) -> None:
        """Point a differencing disk to a parent that took its old parent's contents over (a merge)."""
        info = self.info(parent)
        change = vhd.set_parent if info.format is VhdFormat.VHD else vhdx.set_parent
        file = self._files.open(path, write=True)
        try:
            with windows_errors(path):
                change(file, parent=info, parent_path=parent, relative_path=_relative(path, parent))
        finally:
            file.close()

    def set_parent(self, path: str, parent: str) -> None:
        """Point a differencing disk to where its parent is now; it has to be the same disk."""
        info = self.info(parent)
        file = self._files.open(path, write=True)
        try:
            with windows_errors(path):
                set_parent(file, parent=info, parent_path=parent, relative_path=_relative(path, parent))
        except VirtualDiskError as error:
            raise FileProblem(0xC03A000E, str(error)) from error
        finally:
            file.close()


def _relative(path: str, parent: str) -> str | None:
    if ntpath.splitdrive(path)[0].lower() != ntpath.splitdrive(parent)[0].lower():
        return None
    return ntpath.relpath(parent, ntpath.dirname(path))


def _corrupt(path: str) -> FileProblem:
    return FileProblem(0xC03A0014, f"The file or directory '{path}' is not a valid virtual hard disk.")
