"""Which flow makes a backup: by the type that is asked for, and by what the hosts can do (TR 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smhvlab.backup.crash import CrashConsistentBackup
from smhvlab.backup.production import CheckpointBackup
from smhvlab.backup.sets import CHECKPOINT_BUILD
from smhvlab.backup.shadowcopy import ApplicationConsistentBackup
from smhvlab.errors import NotAllowed
from smhvlab.flow import Flow
from smhvlab.protection.backup import PolicyCheckpointBackup, PolicyCrashBackup, PolicySetsBackup

if TYPE_CHECKING:
    from smhvlab.site import Site


def backup_flow(
    site: Site, dataset: str, *, consistency: str, distributed: bool | None, allow_saved_state: bool, policy: str
) -> Flow[Any]:
    """The flow of a backup. Raises NotAllowed for a type that there is not, or an option that it does not have."""
    if consistency == "crash":
        if distributed or allow_saved_state:
            raise NotAllowed(
                f"A crash-consistent backup has no option {'distributed' if distributed else 'allow_saved_state'}",
                next_action='Leave the option out, or use consistency="application".',
                why="no guest takes part in it",
                tr="6.4, 12",
            )
        if policy:
            return PolicyCrashBackup(site, dataset=dataset, policy=policy)
        return CrashConsistentBackup(site, dataset=dataset)
    if consistency != "application":
        raise NotAllowed(
            f"There is no backup of the type {consistency!r}",
            next_action='Use consistency="application" or consistency="crash".',
            tr="6.2",
        )
    if policy and (distributed is not None or allow_saved_state):
        raise NotAllowed(
            f"The policy {policy} decides on distributed backup and saved state",
            next_action="Leave the options out, or change the policy's.",
            tr="5.2",
        )
    if not production_checkpoints(site):
        if policy:
            return PolicySetsBackup(site, dataset=dataset, policy=policy)
        return ApplicationConsistentBackup(
            site, dataset=dataset, distributed=distributed, allow_saved_state=allow_saved_state
        )
    if distributed:
        raise NotAllowed(
            "These hosts make no distributed sets",
            next_action="Leave distributed out: from Windows Server 2016 on one Snapshot copy serves all nodes.",
            tr="12",
        )
    if policy:
        return PolicyCheckpointBackup(site, dataset=dataset, policy=policy)
    return CheckpointBackup(site, dataset=dataset, allow_saved_state=allow_saved_state)


def production_checkpoints(site: Site) -> bool:
    """Whether the hosts can make checkpoints in which guests take part (Windows Server 2016 and later)."""
    return site.tools().nodes.build() >= CHECKPOINT_BUILD
