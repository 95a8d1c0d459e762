"""What can go wrong in a file system or a virtual disk file, as one tree."""

from __future__ import annotations


class FileSystemError(OSError):
    """An operation on a file system was refused, or its bytes make no sense."""


class PathNotFound(FileSystemError):
    """No file or directory has that path."""


class FileExists(FileSystemError):
    """The path is taken already."""


class DirectoryNotEmpty(FileSystemError):
    """The directory still holds something."""


class IsADirectory(FileSystemError):
    """The operation wants a file."""


class NotADirectory(FileSystemError):
    """The operation wants a directory, or a file stands in the middle of the path."""


class DiskFull(FileSystemError):
    """The file system has too few free clusters; nothing was changed."""


class InvalidName(FileSystemError):
    """A name has a character, a length or a form that the file system does not take."""


class FileInUse(FileSystemError):
    """Somebody has the file open (Windows: sharing violation)."""


class NotFormatted(FileSystemError):
    """The device holds no exFAT file system."""


class Corrupt(FileSystemError):
    """The bytes on the device contradict each other."""


class VirtualDiskError(OSError):
    """A virtual disk file cannot be created, opened or changed."""


class NotAVirtualDisk(VirtualDiskError):
    """The file is neither a VHD nor a VHDX, or its headers are damaged."""


class ParentMissing(VirtualDiskError):
    """A differencing disk was opened without its parent."""


class ParentMismatch(VirtualDiskError):
    """The parent offered to a differencing disk is not the one it was made from, or it was changed since."""
