"""The survey of a restore: the VM then and now, its LUNs, the method for each, and what has to be accepted (TR 6.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smhvlab.backup.evidence import VmEvidence
from smhvlab.doctor import Unfinished
from smhvlab.errors import NotAllowed, NotFound, PowerShellError
from smhvlab.hyperv import Vm, differencing
from smhvlab.mount.image import FOLDER, Image, Images, clone_name, disk_guid
from smhvlab.nodes import Node, Nodes
from smhvlab.restore.announced import PART, Announcements
from smhvlab.restore.beside import need_no_backup, need_no_restore
from smhvlab.restore.changes import folded, need_room, need_unused, owned, places_of, warnings_of
from smhvlab.restore.selfguard import need_elsewhere
from smhvlab.restore.state import FileCopy, Method, RestoreLun, RestoreState
from smhvlab.site import own_stamp
from smhvlab.snapdrive import HostDisk, is_signature
from smhvlab.snapinfo import Backup, BackupDisk, BackupLun, BackupVm
from smhvlab.storage import LunRef, VolumeRef
from smhvlab.tables import Tools
from smhvlab.wires.cmdlets import cmdlet

_RESTORE = "RestoreVm"
_ROLE = ("Name", "Priority", "AutoFailbackType")


@dataclass(frozen=True)
class Request:
    """What was asked for; see ``Site.restore``."""

    backup: str
    vm: str
    to_host: str
    verify_snapshot: bool
    safety_backup: bool
    script: str
    script_parameters: Mapping[str, Any]


class RestoreSurvey:
    """Reads a site for one restore.

    Args:
        others: runs of this site that have neither finished nor been undone, without the one that this is for.
        seat: which journals they are in.
    """

    def __init__(self, tools: Tools, request: Request, *, others: Sequence[Unfinished], seat: str) -> None:
        self.tools = tools
        self.nodes: Nodes = tools.nodes
        self.request = request
        self.others = others
        self.seat = seat

    def look(self) -> RestoreState:
        """The state of a restore that may run. Raises as ``RestoreVm.survey``."""
        tools, request = self.tools, self.request
        listed = tools.snapinfo.files("Backups", PART)
        announced = Announcements(tools.snapinfo).all(listed)
        listed = [path for path in listed if f"\\{PART}\\" not in path]
        backup = tools.snapinfo.backup(request.backup, listed)
        then = backup.named(request.vm, tr="6.7")
        registered = self.nodes.vms()
        now = next((vm for vm in registered if vm.id == then.id), None)
        self._need_no_other_run(then, now)
        need_no_restore(then, announced, self.others, seat=self.seat)
        self._need_reason(backup, then, now)
        node = self._node(backup, then, now)
        if now is not None:
            there = self.nodes[now.host]
            if now.has_checkpoints:
                now = there.hyperv.with_checkpoints(now)
            need_elsewhere(there, now)
        need_no_backup(tools, then, now, listed)
        places = places_of(backup, then)
        moment = tools.nodes.own().host.now()
        mark = own_stamp(moment)
        disks = self.nodes.disks()
        live = {lun.unique_id: lun for lun in tools.storage.luns()}
        images = Images(tools.storage, node, self.nodes)
        luns, warnings = [], dict(warnings_of(then, now, node.name))
        strangers = [vm for vm in registered if vm.id != then.id]
        need_unused((*(disk.path for disk in then.disks), *then.parents), then, strangers)
        for number, place in enumerate(places):
            disk, lun = self._home(place, node, disks, live)
            self._need_same_volume(place, lun)
            self._need_snapshot(lun.volume, place)
            if lun.volume.name != place.volume:
                warnings.setdefault("vhd-paths", f"the volume {place.volume} is called {lun.volume.name} now")
            luns.append(
                self._lun(backup, place, lun, then, now, images, mark=f"restore_{mark}", number=number, disk=disk)
            )
        self._need_space(then, node, luns)
        role, role_was = self._role(now)
        safety = self._safety(backup, then, now, places, luns, mark, moment.isoformat())
        self._check_script()
        return RestoreState(
            backup=backup.name,
            taken=backup.time,
            consistency=backup.consistency,
            vm=then,
            was_running=now is not None and now.running,
            host=node.name,
            was_on="" if now is None else now.host,
            role=role,
            role_was=role_was,
            luns=tuple(luns),
            warnings=tuple(warnings.items()),
            script=request.script,
            script_parameters=dict(request.script_parameters),
            volumes=tuple(dict.fromkeys(lun.lun.volume for lun in luns)),
            stamp=mark,
            safety=safety,
        )

    # --- what is allowed

    def _need_no_other_run(self, then: BackupVm, now: Vm | None) -> None:
        """Nobody else is at work on the VM: no flow of any console on this machine, and not Hyper-V itself."""
        if now is not None and now.doing:
            raise NotAllowed(
                f"{now.name} is busy on {now.host}: {now.doing}",
                next_action="Wait until that has ended, then try again.",
                tr="6.7",
            )
        names = folded((then.name, then.id))
        for run in self.others:
            what, parameters = run.header.flow.rpartition(":")[2], run.header.parameters
            if what == _RESTORE and str(parameters.get("vm", "")).casefold() in names:
                if run.alive:
                    raise NotAllowed(
                        f"A restore of {then.name} is under way",
                        next_action="Wait for its end, or cancel it where it was started.",
                        tr="6.7",
                    )
                if now is None or "undo" not in run.allowed:
                    raise NotAllowed(
                        f"A restore of {then.name} was interrupted after it had removed the VM",
                        next_action=f"Its restore was interrupted: smhvlab doctor --resume {run.run} finishes it.",
                        tr="6.7",
                    )
            if what.endswith("Backup") and run.alive and self._in_dataset(str(parameters.get("dataset", "")), then):
                raise NotAllowed(
                    f"A backup of {then.name} is under way (dataset {parameters['dataset']})",
                    next_action="Wait for its end: what is restored under it would be neither the one nor the other.",
                    tr="6.2, 6.7",
                )

    def _in_dataset(self, name: str, vm: BackupVm) -> bool:
        datasets = [d for d in self.tools.snapinfo.datasets() if d.name.casefold() == name.casefold()]
        return any(member.id == vm.id for dataset in datasets for member in dataset.members)

    def _need_space(self, then: BackupVm, node: Node, luns: Sequence[RestoreLun]) -> None:
        """The copies fit beside what they replace, as far as that is there to be measured (TR 6.7).

        The step that copies looks again at the sizes in the image, before the VM is touched.
        """
        for lun in luns:
            if lun.method is not Method.FILE_COPY:
                continue
            present = node.host.run(
                "Get-Item",
                {"LiteralPath": [file.target for file in lun.files]},
                select=("Length",),
                error_action="Continue",
            )
            need_room(node, lun, then.name, sum(int(record["Length"]) for record in present))

    def _need_reason(self, backup: Backup, then: BackupVm, now: Vm | None) -> None:
        """The limits of a crash-consistent backup (TR 6.7, last Note)."""
        if backup.consistency == "application":
            return
        if now is None:
            raise NotAllowed(
                f"The VM {then.name} is not registered on the host any more",
                next_action="A deleted VM can only be restored from an application-consistent backup; "
                "register it again from its configuration file if that still exists.",
                tr="6.7",
            )
        if self.request.to_host:
            raise NotAllowed(
                f"{backup.name} is crash-consistent: {then.name} cannot be restored to an alternate host from it",
                next_action="Choose an application-consistent backup, or restore it where it is.",
                tr="6.7",
            )

    def _node(self, backup: Backup, then: BackupVm, now: Vm | None) -> Node:
        """The host on which the VM is restored: where it is, where it was, or the alternate one that was named."""
        if self.request.to_host:
            return self.nodes[self.request.to_host]
        if now is not None:
            return self.nodes[now.host]
        known = then.host or backup.host
        up = [node.name for node in self.nodes.up()]
        if known.casefold() in {name.casefold() for name in up}:
            return self.nodes[known]
        if known.casefold() in {name.casefold() for name in self.nodes.names}:
            raise NotAllowed(
                f"{then.name} was on {known}, which is down",
                next_action=f"Start {known}, or name another host that shall have the VM: to_host={up[0]!r}.",
                tr="6.7",
            )
        raise NotAllowed(
            f"{then.name} was on {known}, which is no host of this site",
            next_action=f"Name the host that shall have it: to_host={self.nodes.names[0]!r}.",
            tr="6.7",
        )

    def _home(
        self, place: BackupLun, node: Node, disks: list[HostDisk], live: Mapping[str, LunRef]
    ) -> tuple[HostDisk, LunRef]:
        """The disk that has the place of the backup's LUN now, and the LUN behind it."""
        path = place.access_path.casefold()
        mounted = [d for d in disks if path in folded(d.access_paths) and (place.shared or d.host == node.name)]
        own = [disk for disk in mounted if disk.unique_id == place.unique_id]
        if not own and self.request.to_host:
            own = mounted  # another site's LUN has another serial number; its disk is told by GUID
        if not own or own[0].unique_id not in live:
            raise NotAllowed(
                f"The LUN of {place.access_path} is not connected there on {node.name}",
                next_action="Connect the LUN where it was at the time of the backup: same drive letter or folder.",
                tr="6.7",
            )
        disk = own[0]
        if self.request.verify_snapshot and place.disk_guid and disk.guid.casefold() != place.disk_guid.casefold():
            raise NotAllowed(
                f"The disk at {place.access_path} has another GUID than at the time of the backup",
                next_action="Connect the disk of then; if it is the right one, give verify_snapshot=False "
                "(-DisableVerifySnapshot).",
                why=f"it is {disk.guid}, the backup's is {place.disk_guid}",
                tr="6.7",
            )
        then, now = place.volume_path, disk.volume_path
        same = then.casefold() == now.casefold() or is_signature(place.disk_guid)  # its volumes' GUIDs are each host's
        if self.request.verify_snapshot and then and now and not same:
            raise NotAllowed(
                f"The volume at {place.access_path} has another GUID than at the time of the backup",
                next_action="Connect the LUN of then; if the volume was made anew on purpose, give "
                "verify_snapshot=False (-DisableVerifySnapshot).",
                why=f"it is {now}, the backup's is {then}",
                tr="6.7",
            )
        return disk, live[disk.unique_id]

    def _need_same_volume(self, place: BackupLun, lun: LunRef) -> None:
        """The LUN was not moved to another volume: there the image's path, and a Snapshot copy's name, are another's.

        At the other site of a mirror the backup's volume has another identity, and this one is not on the array.
        """
        if place.volume_uuid == lun.volume.uuid:
            return
        then = VolumeRef(place.volume_uuid, place.volume, place.svm)
        try:
            present = self.tools.storage.volume_details(then, "name,svm.name")
        except NotFound:
            return
        if present["svm"]["name"] == lun.volume.svm:
            raise NotAllowed(
                f"The LUN of {place.access_path} was moved from volume {present['name']} to {lun.volume} "
                "since the backup",
                next_action=f"Move it back to {present['name']}, or mount the backup and copy its files: "
                "site.mount(), site.restore_file().",
                why=f"the backup's Snapshot copy {place.snapshot} is in {present['name']}; one of that name in "
                f"{lun.volume} can hold another LUN's image at {place.path}",
                tr="6.7",
            )

    def _need_snapshot(self, volume: VolumeRef, place: BackupLun) -> None:
        if self.tools.storage.snapshot(volume, place.snapshot) is None:
            raise NotFound(
                f"The Snapshot copy {place.snapshot} of volume {volume} is gone",
                next_action="Restore from another backup; this one can no longer be used for this VM.",
                why="it was deleted, or a volume restore went back behind it",
                tr="6.7",
            )

    def _check_script(self) -> None:
        """The script is one cmdlet of the wire's table with parameters that it has. Raises Unsendable."""
        if self.request.script:
            info = cmdlet(self.request.script)
            for name in self.request.script_parameters:
                info.parameter(name)

    # --- the method for a LUN

    def _lun(
        self,
        backup: Backup,
        place: BackupLun,
        lun: LunRef,
        then: BackupVm,
        now: Vm | None,
        images: Images,
        *,
        mark: str,
        number: int,
        disk: HostDisk,
    ) -> RestoreLun:
        access = place.access_path
        wanted = [d.path for d in then.disks if d.unique_id == place.unique_id]
        if backup.lun_of(then.configuration_file, then.id) == place:
            wanted.append(then.configuration_file)
        files = tuple(FileCopy(path[len(access) :], path) for path in wanted)
        known = owned(then, now) | folded(file.partial for file in files)
        starts = tuple(i.casefold() for i in (then.id, then.checkpoint, *(now.checkpoint_ids if now else ())) if i)
        present = self.nodes[disk.host].snapdrive.files(access)
        others = [
            path
            for path in present
            if path.casefold() not in known and not path.casefold().rpartition("\\")[2].startswith(starts)
        ]
        if not others:
            resource = images.cluster.resource(disk.guid) or "" if self.nodes.cluster is not None else ""
            return RestoreLun(
                lun,
                place.snapshot,
                Method.LUN_CLONE,
                access,
                image=place.path,
                resource=resource,
                present=tuple(present),
            )
        if any(differencing(path) for path in wanted):
            raise NotAllowed(
                f"{then.name} had checkpoints when {place.snapshot} was taken, and {lun} holds files of others",
                next_action="Move the other files off this LUN: a LUN that only holds this VM comes back as a whole, "
                "with its checkpoints. A file copy would separate them from the disks that they are based on.",
                why=f"{len(others)} other file(s), the first is {others[0]}",
                tr="6.7",
            )
        clone = clone_name(mark, number)
        igroup, made_for = images.igroup(lun.svm, images.initiators()[:1])
        shown = Image(
            lun.volume,
            place.snapshot,
            place.path,
            clone,
            igroup,
            f"{FOLDER}{mark}_{number}\\",
            disk_guid(clone, place.path, like=place.disk_guid),
            made_for=made_for,
        )
        return RestoreLun(
            lun,
            place.snapshot,
            Method.FILE_COPY,
            access,
            others=len(others),
            shown=shown,
            files=files,
            image=place.path,
        )

    # --- the cluster

    def _role(self, now: Vm | None) -> tuple[str, tuple[str, ...]]:
        """The VM's group in the cluster, and what nobody will restore of it (TR 6.7, Note)."""
        if now is None or self.nodes.cluster is None:
            return "", ()
        try:
            found = self.nodes[now.host].host.run("Get-ClusterGroup", {"VMId": now.id}, select=_ROLE)
        except PowerShellError:
            return "", ()
        if not found:
            return "", ()
        role = found[0]
        return str(role["Name"]), tuple(f"{name} {role[name]}" for name in _ROLE[1:] if role[name])

    # --- the safety backup

    def _safety(
        self,
        backup: Backup,
        then: BackupVm,
        now: Vm | None,
        places: list[BackupLun],
        luns: list[RestoreLun],
        mark: str,
        time: str,
    ) -> Backup | None:
        """A crash-consistent backup of the VM as it is now (TR 10, Best Practice); None if there is nothing to keep."""
        if not self.request.safety_backup or now is None:
            return None
        taken, _, run = mark.rpartition("_")  # a backup's name has no more than the second
        name = f"{backup.dataset}_{taken}"
        node = self.nodes[now.host]
        home = {
            disk.path: place.unique_id
            for disk in now.disks
            for place in places
            if disk.path.casefold().startswith(place.access_path.casefold())
        }
        outside = [disk.path for disk in now.disks if disk.path not in home]
        vm = BackupVm(
            id=now.id,
            name=now.name,
            state=now.state,
            generation=now.generation,
            configuration=now.configuration,
            configuration_file=node.hyperv.configuration_file(now),
            disks=tuple(
                BackupDisk(d.path, d.controller_type, d.controller_number, d.controller_location, home[d.path])
                for d in now.disks
                if d.path in home
            ),
            checkpoints=now.checkpoints,
            parents=now.parents,
            host=now.host,
            evidence=VmEvidence("crash", "taken right before a restore, without its guest"),
        )
        return Backup(
            name=name,
            dataset=backup.dataset,
            time=time,
            consistency="crash",
            common_point=len({lun.lun.volume for lun in luns}) == 1,
            host=now.host,
            vms=(vm,),
            luns=tuple(
                replace(place, snapshot=name, path=lun.lun.path, volume=lun.lun.volume.name, vms=())
                for place, lun in zip(places, luns, strict=True)
            ),
            evidence=(f"Crash-consistent: {now.name} before it was restored from {backup.name}.",),
            excluded=tuple(f"{now.name}: {path} lies elsewhere" for path in outside),
            engine="Snapshot copies",
            run=run,
        )
