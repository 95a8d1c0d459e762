"""Restore of one VM from a backup (TR 6.7): by LUN clone where the LUN is the VM's own, by file copy otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from smhvlab.doctor import unfinished
from smhvlab.errors import Cancelled, NotFound, PowerShellError, SmhvLabError
from smhvlab.mount.clusterdisk import AVAILABLE_STORAGE, ClusterDisks
from smhvlab.mount.image import Images
from smhvlab.mount.vhdimage import VirtualDisks, copy_seconds
from smhvlab.nodes import Node
from smhvlab.procedure import Procedure
from smhvlab.record import Confirmation
from smhvlab.restore.announced import Announced, Announcements, seat_of, this_station
from smhvlab.restore.changes import need_room
from smhvlab.restore.lastlook import need_images, need_in_place, need_no_strangers, need_off, need_unregistered
from smhvlab.restore.state import FileCopy, Restored, RestoreLun, RestoreState
from smhvlab.restore.survey import Request, RestoreSurvey
from smhvlab.snapinfo import Backup
from smhvlab.steps import step

IN_USE = "RemoveFileSystemItemIOError"
"""What Remove-Item says of a file that somebody has open."""

_ATTEMPTS = 60  # ten seconds apart
_RUNTIME = (".bin", ".vsv")  # a VM's memory and devices: of no use to one that ran on


class RestoreVm(Procedure[RestoreState]):
    """Restore a VM."""

    tr = "6.7"
    format = 2

    def __init__(
        self,
        site: object,
        *,
        backup: str,
        vm: str,
        to_host: str = "",
        verify_snapshot: bool = True,
        safety_backup: bool = False,
        script: str = "",
        script_parameters: Mapping[str, Any] | None = None,
    ) -> None:
        parameters = dict(script_parameters or {})
        super().__init__(
            site,
            backup=backup,
            vm=vm,
            to_host=to_host,
            verify_snapshot=verify_snapshot,
            safety_backup=safety_backup,
            script=script,
            script_parameters=parameters,
        )
        self.vm = vm
        self.request = Request(backup, vm, to_host, verify_snapshot, safety_backup, script, parameters)

    def survey(self) -> RestoreState:
        """Find the backup's images and decide the method for each LUN.

        Raises:
            NotFound: no such backup or host, the VM is not in the backup, or a Snapshot copy of it is gone.
            NotUnique: several VMs of the backup have that name.
            NotAllowed: the VM was deleted, or shall go to an alternate host, and the backup is crash-consistent; one of
                its LUNs is not connected where it was, was moved to another volume, or its disk or volume has another
                GUID; it had checkpoints and shares a LUN; another VM uses one of its files; the copies do not fit on a
                LUN; something else is at work on the VM; this program runs inside the VM.
            Unsendable: the script is no cmdlet that is sent, or has no such parameter.
        """
        others = [run for run in unfinished(self.site.name, folder=self.site.journals) if run.run != self.run_id]
        return RestoreSurvey(self.site.tools(), self.request, others=others, seat=self._seat).look()

    def confirmations(self, state: RestoreState) -> Sequence[Confirmation]:
        """The warnings of TR 6.7 that hold here."""
        return tuple(Confirmation(key=key, text=text, tr="6.7") for key, text in state.warnings)

    @property
    def _seat(self) -> str:
        return seat_of(self.site.name, self.site.journals)

    def losses(self, state: RestoreState) -> Sequence[str]:
        """What the VM has written since the backup, unless the safety backup keeps it."""
        since = f"the backup of {state.taken[:19].replace('T', ' ')}"
        begin = "It is running and will be powered off: what" if state.was_running else "What"
        written = f"{begin} {state.vm.name} has written since {since}"
        if state.safety is not None:
            return (f"{written} is then in the safety backup {state.safety.name} only.",)
        return (f"{written} is lost, unless another backup holds it.",)

    # --- tools of the state's host

    def _node(self, s: RestoreState) -> Node:
        return self.nodes[s.host]

    def _images(self, s: RestoreState) -> Images:
        return Images(self.storage, self._node(s), self.nodes)

    # --- before the VM is touched

    @step(
        "Announce the restore to other stations, in SnapInfo",
        tr="6.7",
        items=lambda s: (f"{s.vm.name}: Restores\\{s.vm.id}.json",),
    )
    def announce(self, s: RestoreState) -> None:
        since, host = self.site.now().isoformat(), self.nodes.own().name
        mine = Announced(s.vm.id, s.vm.name, s.backup, this_station(), self.run_id, self._seat, since, host)
        Announcements(self.snapinfo).ensure(mine)

    @announce.undo
    def withdraw_announcement(self, s: RestoreState) -> None:
        Announcements(self.snapinfo).discard(s.vm.id, seat=self._seat, run=self.run_id)

    @step(
        "Safety backup of the VM as it is now",
        tr="10",
        items=lambda s: () if s.safety is None else (s.safety.name,),
        counts=lambda s: {"ontap.snapshot.create": len(s.volumes)},
        when=lambda s: s.safety is not None,
        otherwise="it was not asked for",
    )
    def save(self, s: RestoreState) -> None:
        if s.safety is not None:
            self.storage.ensure_snapshots(s.volumes, s.safety.name, comment=self._saved(s, s.safety))
            self.snapinfo.ensure_backup(s.safety)

    @save.undo
    def drop_save(self, s: RestoreState) -> None:
        if s.safety is not None:
            self.snapinfo.discard_backup(s.safety.dataset, s.safety.name, run=s.safety.run)
            self.storage.discard_snapshots(s.volumes, s.safety.name, comment=self._saved(s, s.safety))

    def _saved(self, s: RestoreState, safety: Backup) -> str:
        """Comment of the safety backup's Snapshot copies."""
        return f"{s.vm.name} before it is restored from {s.backup}" + (f", run {safety.run}" if safety.run else "")

    @step(
        "Mount the backup's image beside the live LUN",
        tr="6.7",
        items=lambda s: s.shown,
        counts=lambda s: {"ontap.volume.clone": len(s.copied), "windows.rescan": len(s.copied)},
        when=lambda s: bool(s.copied),
        otherwise="each LUN holds only files of this VM and is restored as a whole",
    )
    def mount(self, s: RestoreState) -> RestoreState:
        for image in self.track(s.shown):
            self._images(s).ensure_shown(image)
        return replace(s, luns=tuple(self._completed(s, lun) for lun in s.luns))

    def _completed(self, s: RestoreState, lun: RestoreLun) -> RestoreLun:
        """With the files that only the image tells: the rest of the VM's configuration, and a checkpoint's leaves."""
        if lun.shown is None:
            return lun
        root = lun.shown.access_path
        ids = tuple(i.casefold() for i in (s.vm.id, s.vm.checkpoint) if i)
        leaves = {leaf.casefold() for leaf in s.vm.leaves.values()}
        known = {file.target.casefold() for file in lun.files}
        more = []
        for path in self._node(s).snapdrive.files(root):
            target = lun.access_path + path[len(root) :]
            leaf = target.casefold().rpartition("\\")[2]
            wanted = target.casefold() in leaves or (
                leaf.startswith(ids) and (s.vm.state == "Saved" or not leaf.endswith(_RUNTIME))
            )
            if wanted and target.casefold() not in known:
                more.append(FileCopy(path[len(root) :], target))
        return replace(lun, files=(*lun.files, *more))

    @mount.undo
    def unmount(self, s: RestoreState) -> None:
        for image in s.shown:
            self._images(s).discard(image)

    @step(
        "Copy the files back under other names",
        tr="6.7/2",
        items=lambda s: tuple(file.partial for _, file in s.files),
        when=lambda s: bool(s.copied),
        otherwise="no file has to be copied",
    )
    def copy(self, s: RestoreState) -> None:
        node = self._node(s)
        for _, file in s.files:
            self._drop_copy(s, file)  # of an interrupted try; Windows may give it its full length before its contents
        sources = {file: lun.source(file) for lun, file in s.files}
        records = node.host.run("Get-Item", {"LiteralPath": list(sources.values())}, select=("Length",))
        sizes = {file: int(record["Length"]) for file, record in zip(sources, records, strict=True)}
        for lun in s.copied:
            need_room(node, lun, s.vm.name, sum(sizes[file] for file in lun.files))
        for file in self.track(sizes, size=sizes.__getitem__):
            folder = file.target.rpartition("\\")[0]
            node.host.run("New-Item", {"Path": folder, "ItemType": "Directory", "Force": True})
            what = {"LiteralPath": sources[file], "Destination": file.partial, "Force": True}
            patience = copy_seconds(sizes[file])
            node.host.run("Copy-Item", what, timeout=patience, on_percent=self.tell_percent)
            if VirtualDisks(node.host).length(file.partial) != sizes[file]:
                raise NotFound(
                    f"The copy of {file.target} is not complete",
                    next_action="Look for space on the volume and read the host's event log, then try again.",
                    tr="6.7",
                )

    @copy.undo
    def drop_copies(self, s: RestoreState) -> None:
        for _, file in s.files:
            self._drop_copy(s, file)

    def _drop_copy(self, s: RestoreState, file: FileCopy) -> None:
        """No half-made copy is there; the copying of a process that is dead by now may still have to end."""
        host = self._node(s).host
        if not host.run("Test-Path", {"LiteralPath": file.partial})[0]:
            return
        for attempt in range(_ATTEMPTS):
            try:
                host.run("Remove-Item", {"LiteralPath": file.partial, "Force": True})
                return
            except PowerShellError as error:
                if error.error_id != IN_USE or attempt + 1 == _ATTEMPTS:
                    raise
                host.sleep(10)

    @step(
        "Power off the VM",
        tr="6.7/1",
        items=lambda s: (s.vm.name,),
        when=lambda s: bool(s.was_on),
        otherwise="it is not registered",
    )
    def power_off(self, s: RestoreState) -> None:
        self.nodes[s.was_on].hyperv.ensure_off(s.vm.id)

    @power_off.before
    def look_before_it_goes_off(self, s: RestoreState) -> None:
        need_in_place(self.nodes, s)

    @power_off.undo
    def power_on(self, s: RestoreState) -> None:
        if s.was_running and (node := self.nodes.of_vm(s.vm.id)) is not None:  # it may have moved
            node.hyperv.ensure_running(s.vm.id)

    # --- from here on there is no undo

    @step(
        "Remove the VM's role from the cluster",
        tr="6.7",
        items=lambda s: (s.role,),
        when=lambda s: bool(s.role),
        otherwise="it is no role of a cluster",
        pivot=True,
    )
    def remove_role(self, s: RestoreState) -> None:
        host = self._node(s).host
        present = host.run("Get-ClusterGroup", select=("Name",))
        if s.role in {str(record["Name"]) for record in present}:
            host.run("Remove-ClusterGroup", {"VMId": s.vm.id, "RemoveResources": True, "Force": True})

    @remove_role.before
    def look_before_the_role_goes(self, s: RestoreState) -> None:
        self._need_as_planned(s)

    def _need_as_planned(self, s: RestoreState) -> None:
        """What the survey has decided holds still: the last look before there is no undo any more."""
        need_off(self.nodes, s)
        need_no_strangers(self.nodes, s)
        need_images(self.storage, self.snapinfo, s)

    @step("Remove the VM's registration", tr="6.7/1", items=lambda s: (s.vm.name,), pivot=True)
    def remove(self, s: RestoreState) -> None:
        for name in dict.fromkeys((s.was_on, s.host)):
            if name:
                self.nodes[name].hyperv.ensure_removed(s.vm.id)
        need_unregistered(self.nodes, s)

    @remove.before
    def look_before_the_vm_goes(self, s: RestoreState) -> None:
        self._need_as_planned(s)

    @step(
        "Restore the LUNs from the Snapshot copy",
        tr="6.7/2",
        items=lambda s: s.cloned,
        counts=lambda s: {"ontap.lun.clone": len(s.cloned)},
        when=lambda s: bool(s.cloned),
        otherwise="every LUN holds files of others",
    )
    def restore_luns(self, s: RestoreState) -> None:
        need_unregistered(self.nodes, s)
        node = self._node(s)
        for lun in self.track(s.cloned):
            if lun.resource:
                self._restore_clustered(node, lun)
                continue
            node.snapdrive.ensure_offline(lun.lun.unique_id)
            self.storage.restore_lun(lun.lun, snapshot=lun.snapshot, path=lun.image)
            disk = node.snapdrive.ensure_online(node.snapdrive.arrived(lun.lun))
            node.snapdrive.ensure_mounted(disk, lun.access_path)

    @restore_luns.before
    def look_before_the_luns_go_back(self, s: RestoreState) -> None:
        need_no_strangers(self.nodes, s)

    def _restore_clustered(self, node: Node, lun: RestoreLun) -> None:
        """A disk of the cluster goes offline as a resource: in maintenance it would stay in use."""
        cluster = ClusterDisks(node.host)
        cluster.ensure_offline(lun.resource)
        self.storage.restore_lun(lun.lun, snapshot=lun.snapshot, path=lun.image)
        cluster.ensure_online(lun.resource)
        for other in self.nodes.up():
            disk = other.snapdrive.disk(lun.lun.unique_id)
            if disk is not None and not disk.offline:
                other.snapdrive.clear_shadow(disk)
        if not node.host.run("Test-Path", {"LiteralPath": lun.access_path})[0]:
            node.host.run("Move-ClusterGroup", {"Name": AVAILABLE_STORAGE, "Node": node.name})

    @step(
        "Put the copied files in place",
        tr="6.7/2",
        items=lambda s: tuple(file.target for _, file in s.files),
        when=lambda s: bool(s.copied),
        otherwise="no file was copied",
    )
    def swap(self, s: RestoreState) -> None:
        need_unregistered(self.nodes, s)
        host = self._node(s).host
        files = VirtualDisks(host)
        for file in self.track([file for _, file in s.files]):
            if files.length(file.partial) is None:
                continue  # an earlier try has put it in place
            if files.length(file.target) is not None:
                host.run("Remove-Item", {"LiteralPath": file.target, "Force": True})
            host.run("Rename-Item", {"LiteralPath": file.partial, "NewName": file.target.rpartition("\\")[2]})

    @step("Register the VM", tr="6.7/3", items=lambda s: (s.vm.configuration_file,))
    def register(self, s: RestoreState) -> None:
        need_unregistered(self.nodes, s, but=s.host)
        self._node(s).hyperv.ensure_registered(s.vm.id, s.vm.configuration_file)

    @step(
        "Apply the backup's checkpoint",
        tr="6.7/3",
        items=lambda s: (f"{s.vm.name}: the disks below {', '.join(s.vm.leaves.values())}",),
        when=lambda s: bool(s.vm.checkpoint),
        otherwise="the backup has none",
    )
    def apply(self, s: RestoreState) -> None:
        """The configuration in the image starts from the checkpoint's leaves: the state of a crash."""
        wanted = (s.vm.checkpoint, [disk.path for disk in s.vm.disks])
        self._node(s).hyperv.ensure_checkpoints_applied({s.vm.id: wanted})

    @step(
        "Start the VM",
        tr="6.7/4",
        items=lambda s: (s.vm.name,),
        counts=lambda s: {"windows.vm.start": 1},
        when=lambda s: s.starts,
        otherwise="it ran neither at the time of the backup nor before the restore",
    )
    def start(self, s: RestoreState) -> None:
        self._node(s).hyperv.ensure_running(s.vm.id)

    @step(
        "Unmount the backup's image",
        tr="6.7",
        items=lambda s: s.shown,
        when=lambda s: bool(s.copied),
        otherwise="none was mounted",
    )
    def clean_up(self, s: RestoreState) -> None:
        self.unmount(s)

    @step(
        "Script after the restore",
        tr="6.7/4",
        items=lambda s: (s.script,),
        when=lambda s: bool(s.script),
        otherwise="none was given",
    )
    def post(self, s: RestoreState) -> RestoreState:
        try:
            self._node(s).host.run(s.script, s.script_parameters)
        except Cancelled:
            raise
        except SmhvLabError as error:  # the VM is back; what the script wanted is somebody's task now
            return replace(s, told=f"The script {s.script} failed: {error.message}")
        return replace(s, told=f"The script {s.script} ran")

    @step("Withdraw the announcement", tr="6.7", items=lambda s: (s.vm.name,))
    def withdraw(self, s: RestoreState) -> None:
        self.withdraw_announcement(s)

    def result(self, state: RestoreState) -> Restored:
        """What was done, and what is left to do by hand."""
        checklist = [text for key, text in state.warnings if key.endswith("-vhds")]
        if state.role:
            line = f"Add-ClusterVirtualMachineRole -VMId {state.vm.id} on {state.host}"
            checklist.append(f"Make {state.vm.name} highly available again: {line}")
            if state.role_was:
                checklist.append(f"Give its role {state.role} what it had: {', '.join(state.role_was)}")
            checklist.append("Set the role's preferred owners and its disks' dependencies; they are in no backup")
        elif self.nodes.cluster is not None:
            checklist.append(f"{state.vm.name} is no role of the cluster: make it highly available if it should be")
        return Restored(
            state.vm.name,
            state.backup,
            tuple(str(lun) for lun in state.luns),
            tuple(checklist),
            "" if state.safety is None else state.safety.name,
            state.told,
        )
