"""Exercises of the lessons on provisioning from bare storage (TR 2.2 and the appendix)."""

from __future__ import annotations

from smhvlab.errors import NotFound
from smhvlab.exercises.first import Exercise, Goal
from smhvlab.mount.clusterdisk import ClusterDisks
from smhvlab.provisioning.array import ArraySetup
from smhvlab.site import Site
from smhvlab.storage import VolumeRef


def second_department(site: Site, *, svm: str, volume: str, at: str, golden: str, vm: str) -> Exercise:
    """A golden VM on a volume that somebody has prepared in his own way, and a VM from it (TR 2.2)."""
    drive = at.rstrip("\\") + "\\"

    def prepare() -> None:
        setup = ArraySetup(site.tools().storage)
        if not setup.volumes_named(volume):
            site.prepare_storage(volume, size="60GB", svm=svm).run_sync()
            site.create_disk(volume, size="30GB", at=at, thick=True).run_sync()

    def found() -> VolumeRef | None:
        return next(iter(ArraySetup(site.tools().storage).volumes_named(volume)), None)

    def thin() -> str:
        there = found()
        if there is None:
            return f"There is no volume {volume}."
        reserved = ArraySetup(site.tools().storage).reserved(there)
        return f"{', '.join(reserved)} still has a space reservation." if reserved else ""

    def built() -> str:
        try:
            image = site.tools().hyperv.vm(golden)
        except NotFound:
            return f"There is no VM {golden}."
        outside = [disk.path for disk in image.disks if not disk.path.startswith(drive)]
        return f"{outside[0]} is not on {drive}." if outside else ("" if image.disks else f"{golden} has no disk.")

    def saving() -> str:
        there = found()
        mode = ArraySetup(site.tools().storage).dedupe(there) if there is not None else "none"
        return "" if mode != "none" else f"{volume} is not deduplicated."

    def cloned() -> str:
        volumes = site.volumes().set_index("name")
        if vm not in volumes.index or volumes.loc[vm, "parent"] != volume:
            return f"There is no FlexClone volume {vm} of {volume}."
        states = site.vms().set_index("name")["state"]
        return "" if vm in states.index and states[vm] == "Running" else f"{vm} does not run."

    return Exercise(
        title="A second department",
        tr="2.2",
        goals=(
            Goal(
                "No LUN of the volume has a space reservation", thin, "Read the card of site.build_golden(...).plan()."
            ),
            Goal(f"The golden VM {golden} lies on {drive}", built, f"site.build_golden({golden!r}, at={at!r})."),
            Goal("The volume is deduplicated", saving, "Building the golden VM does it at its end (step 8)."),
            Goal(f"{vm} runs from a clone of it", cloned, f"site.provision({vm!r}, golden={golden!r})."),
        ),
        prepare=prepare,
    )


def another_witness(site: Site, *, volume: str, csv: str) -> Exercise:
    """A witness on a volume of its own, and a shared volume, made where it has to be (TR 11.2, appendix)."""
    path = f"C:\\ClusterStorage\\{csv}\\".casefold()

    def lun_of(resource: str) -> str:
        tools = site.tools()
        cluster = ClusterDisks(tools.host)
        guids = {disk.guid: disk.unique_id for disk in tools.nodes.disks() if disk.guid}
        unique = next((unique for guid, unique in guids.items() if cluster.resource(guid) == resource), "")
        return next((lun.volume.name for lun in tools.storage.luns() if lun.unique_id == unique), "")

    def there() -> str:
        return "" if volume in set(site.volumes()["name"]) else "It is not there."

    def witness() -> str:
        resource = ClusterDisks(site.tools().host).witness()
        if not resource:
            return "The quorum has no disk witness."
        home = lun_of(resource)
        return "" if home == volume else f"The witness {resource} lies on the volume {home or '(none)'}."

    def shared() -> str:
        volumes = [one for one in site.tools().nodes.shared_volumes() if one.path.casefold() == path]
        return "" if volumes else f"There is no shared volume at {path}."

    return Exercise(
        title="A witness and a shared volume",
        tr="11.2",
        goals=(
            Goal(f"There is a volume {volume}", there, "site.prepare_storage(...)."),
            Goal("The quorum witness lies on it", witness, "site.create_disk(..., quorum=True); a question is asked."),
            Goal(f"It holds the shared volume {csv}", shared, "site.create_disk(..., csv=...), without a host."),
        ),
    )
