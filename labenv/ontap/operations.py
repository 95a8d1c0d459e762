"""The effects of jobs by name; a job's record holds only the name and its arguments."""

from __future__ import annotations

from collections.abc import Mapping

from labenv.ontap import fence, files, groups, ha, luns, peers, snapmirror, snapshots, volumes
from labenv.ontap.jobs import Effect

EFFECTS: Mapping[str, Effect] = {
    "volume.create": volumes.create_volume,
    "volume.clone": volumes.clone_volume,
    "volume.modify": volumes.modify_volume,
    "volume.restore": volumes.restore_volume,
    "volume.delete": volumes.delete_volume,
    "snapshot.create": snapshots.create_snapshot,
    "snapshot.modify": snapshots.modify_snapshot,
    "snapshot.delete": snapshots.delete_snapshot,
    "lun.create": luns.create_lun,
    "lun.clone": luns.clone_lun,
    "lun.overwrite": luns.overwrite_lun,
    "lun.copy": luns.copy_lun,
    "lun.modify": luns.modify_lun,
    "lun.delete": luns.delete_lun,
    "file.clone": files.clone_file,
    "file.clone.ranges": files.clone_ranges,
    "node.takeover": ha.take_over,
    "node.giveback": ha.give_back,
    "group.create": groups.create_group,
    "group.delete": groups.delete_group,
    "group.restore": groups.restore_group,
    "group.snapshot.create": groups.create_group_snapshot,
    "group.snapshot.start": fence.start_group_snapshot,
    "group.snapshot.commit": fence.commit_group_snapshot,
    "group.snapshot.delete": groups.delete_group_snapshot,
    "svm_peer.create": peers.create_svm_peer,
    "svm_peer.modify": peers.modify_svm_peer,
    "svm_peer.delete": peers.delete_svm_peer,
    "snapmirror.create": snapmirror.create_relationship,
    "snapmirror.validate": snapmirror.validate_only,
    "snapmirror.modify": snapmirror.modify_relationship,
    "snapmirror.reverse": snapmirror.reverse_relationship,
    "snapmirror.delete": snapmirror.delete_relationship,
    "snapmirror.release": snapmirror.release_relationship,
    "mirror_policy.create": snapmirror.create_policy,
    "mirror_policy.modify": snapmirror.modify_policy,
    "mirror_policy.delete": snapmirror.delete_policy,
}
