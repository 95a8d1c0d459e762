"""What a run looks at again right before it switches off or overwrites: it may go on long after its plan (TR 8)."""

from __future__ import annotations

from collections.abc import Collection

from smhvlab.dr.replication import End
from smhvlab.errors import ConnectionFailed, NotAllowed
from smhvlab.site import Site

_NEXT = (
    "Leave this run, it is out of date; look at what runs where (site.vms() on both sites), and plan anew what is due."
)


def refuse_running(site: Site, vms: Collection[str], *, must_answer: bool = True) -> None:
    """None of the VMs of these ids runs on a site.

    Args:
        must_answer: False if a site that does not answer is taken as one on which nothing runs.

    Raises:
        NotAllowed: one does; it was started since the run was planned.
    """
    if not vms:
        return
    try:
        machines = site.tools().nodes.vms()
    except ConnectionFailed:
        if must_answer:
            raise
        return
    running = [vm.name for vm in machines if vm.running and vm.id in vms]
    if running:
        raise NotAllowed(
            f"{', '.join(running)} run{'s' * (len(running) == 1)} on {site.name}",
            why="it was off when this run was planned: what it has written since would be lost",
            next_action=_NEXT,
            tr="8",
        )


def refuse_connected(site: Site, ends: Collection[End]) -> None:
    """No host of a site has a LUN of volumes that are about to be overwritten.

    Raises:
        NotAllowed: one has; it was connected since this run has disconnected it.
    """
    storage = site.tools().storage
    wanted = {(end.svm, end.volume) for end in ends}
    for lun in storage.luns():
        if (lun.svm, lun.volume.name) in wanted and (igroups := storage.igroups_of(lun.uuid)):
            raise NotAllowed(
                f"{lun} of {site.name} is in use again: it is mapped to {', '.join(igroups)}",
                why="it was connected after this run had disconnected it, and would be overwritten",
                next_action=_NEXT,
                tr="8",
            )
