"""What the block store refuses, apart from the device errors of ``labenv.devices``.

    BlockStoreError
        NameInUse          an aggregate, volume, file or Snapshot copy of that name exists
        SnapshotBusy       a FlexClone volume still needs the Snapshot copy
        VolumeHasClones    a FlexClone volume still needs the volume
        AggregateInUse     the aggregate still has volumes
        NotPossible        the request contradicts the state of the volume

A name that does not exist is a ``KeyError``.
"""

from __future__ import annotations


class BlockStoreError(Exception):
    """The block store refused a request; nothing was changed."""


class NameInUse(BlockStoreError):
    """Something of that name exists already."""


class SnapshotBusy(BlockStoreError):
    """A FlexClone volume is backed by the Snapshot copy."""


class VolumeHasClones(BlockStoreError):
    """FlexClone volumes are backed by the volume."""


class AggregateInUse(BlockStoreError):
    """The aggregate holds volumes."""


class NotPossible(BlockStoreError):
    """The request contradicts the state of the volume."""
