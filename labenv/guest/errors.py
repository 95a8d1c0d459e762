"""What can go wrong inside a running guest."""

from __future__ import annotations


class GuestError(Exception):
    """A request to the guest's operating system failed.

    - ``NoOperatingSystem``: no disk holds an installed system;
    - ``GuestNotRunning``: the system was shut down, or its power was cut;
    - ``GuestFrozen``: writes are held between freeze and thaw;
    - ``VolumeNotFound``: no volume has that drive letter; ``DiskInUse``: a disk cannot be taken away;
    - ``ShadowExists``, ``ShadowStorageFull``, ``ShadowLost``: a shadow copy cannot be made, or is not there;
    - ``DatabaseError``: the database engine refused (``DatabaseNotFound``, ``DatabaseExists``, ``DatabaseUnavailable``,
      ``DatabaseBusy``).
    """


class NoOperatingSystem(GuestError):
    """None of the disks holds an installed operating system."""


class GuestNotRunning(GuestError):
    """The operating system is not running (any more)."""


class GuestFrozen(GuestError):
    """The writers of the guest are frozen for a shadow copy; try again after the thaw."""


class VolumeNotFound(GuestError):
    """No mounted volume has this drive letter."""


class DiskInUse(GuestError):
    """A disk cannot be taken away: the system or a database is on it."""


class ShadowExists(GuestError):
    """The guest keeps a shadow copy already."""


class ShadowLost(GuestError):
    """A copy of a guest's disks does not hold the shadow copy that it should be turned back to."""


class ShadowStorageFull(GuestError):
    """A volume of the guest has no room for a shadow copy."""


class DatabaseError(GuestError):
    """The database engine refused a request."""


class DatabaseNotFound(DatabaseError):
    """No database of this name is attached."""


class DatabaseExists(DatabaseError):
    """A database of this name is attached already."""


class DatabaseUnavailable(DatabaseError):
    """The database is attached but not online (a file is missing, or its contents are damaged)."""


class DatabaseBusy(DatabaseError):
    """Another transaction holds a lock that this request needs."""
