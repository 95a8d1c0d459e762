"""Errors of the array: every code it can answer with, its HTTP status and our wording of its message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labenv.ontap.snapmirror_errors import SNAPMIRROR_ERRORS

ERRORS: Mapping[str, tuple[int, str]] = {
    # any collection
    "1": (409, "an entry of that name already exists"),
    "2": (400, "An invalid value was entered for one of the fields: {reason}"),
    "3": (404, "API not found: {path}"),
    "4": (404, "entry doesn't exist"),
    "6": (403, "not authorized for that command"),
    "8": (409, "the entry is in use: {reason}"),
    "262179": (400, 'Unexpected argument "{name}".'),
    "262188": (400, 'Field "{field}" was specified twice.'),
    "262196": (400, 'Field "{field}" cannot be set in this operation'),
    "262197": (400, 'The value "{value}" is invalid for field "{field}" (<{expected}>)'),
    "262198": (400, "The request body is not valid JSON: {reason}"),
    "6691623": (401, "User is not authorized{reason}"),
    # jobs
    "458762": (409, "The job is already in a terminal state."),
    "458783": (409, "This job does not support pause."),
    "458784": (409, "This job does not support cancel."),
    "460770": (500, "The job failed: {reason}"),
    # SVMs
    "2621462": (404, 'SVM "{svm}" does not exist.'),
    "2621706": (400, 'The given UUID "{uuid}" and name "{name}" do not refer to the same SVM.'),
    "2621707": (400, 'No SVM was given: either "svm.name" or "svm.uuid" is needed.'),
    "13434908": (409, 'The name "{name}" is already in use by another SVM or by the cluster.'),
    # licences
    "1115127": (400, "The cluster has no valid iSCSI licence."),
    "1115132": (409, 'The licence "{name}" is already installed.'),
    "1115141": (400, 'The licence key "{key}" is not valid.'),
    # nodes
    "852046": (409, 'The HA partner of node "{node}" is not running, so it cannot take it over.'),
    # aggregates
    "786439": (409, 'An aggregate already uses the name "{name}".'),
    "786446": (400, 'There is no node "{node}" in the cluster.'),
    "786497": (409, 'The aggregate "{name}" has volumes and cannot be deleted.'),
    "786771": (404, 'The aggregate "{name}" does not exist.'),
    "19726341": (409, "There are not enough spare disks: {reason}"),
    # interfaces
    "1376963": (409, 'The address {address} is already used by the interface "{name}".'),
    "1966140": (409, 'An interface "{name}" already exists in that SVM.'),
    "1966269": (400, "An IPv4 prefix length is between 1 and 32, not {netmask}."),
    "1967111": (400, "A home node is needed: location.home_node, location.home_port or location.broadcast_domain."),
    "1967127": (400, 'svm.uuid or svm.name is needed if scope is "svm".'),
    "1967146": (404, 'There is no SVM "{svm}".'),
    "1967153": (400, 'There is no node "{node}" to host the interface.'),
    "1967398": (400, "Both ip.address and ip.netmask are needed."),
    "53281065": (400, 'There is no service policy "{policy}".'),
    # iSCSI
    "5373960": (409, "The iSCSI service is enabled: disable it before deleting it."),
    "5374077": (409, 'An iSCSI service already exists for SVM "{svm}".'),
    "5374078": (404, "The SVM has no iSCSI service."),
    # initiator groups
    "5373958": (400, 'The initiator group name "{name}" is not valid.'),
    "5374023": (409, 'An initiator group "{name}" already exists in SVM "{svm}".'),
    "5374033": (400, "Initiators must be supplied."),
    "5374034": (404, 'The initiator "{initiator}" is not a member of the initiator group.'),
    "5374035": (409, 'The initiator "{initiator}" is already in the initiator group.'),
    "5374038": (400, 'The Fibre Channel WWPN "{initiator}" is not valid.'),
    "5374039": (400, 'The iSCSI initiator name "{initiator}" is not valid.'),
    "5374732": (
        409,
        'The initiator "{initiator}" is in initiator group "{igroup}" with another operating system type.',
    ),
    "5374733": (
        409,
        'The initiator "{initiator}" is in initiator group "{igroup}" with another operating system type.',
    ),
    "5374734": (
        409,
        'The initiator "{initiator}" is in initiator group "{igroup}" with another operating system type.',
    ),
    "5374852": (404, 'The initiator group "{igroup}" does not exist.'),
    "5374878": (404, 'The initiator group "{igroup}" does not exist in that SVM.'),
    "1254193": (409, 'The initiator "{initiator}" would be mapped to LUN "{lun}" more than once.'),
    "1254213": (409, "The initiator group is mapped; give allow_delete_while_mapped to delete it all the same."),
    "1254324": (409, 'The initiator "{initiator}" would see logical unit number {number} twice.'),
    "1254259": (409, 'A portset "{name}" already exists in that SVM.'),
    "5374063": (409, 'The portset "{name}" is bound to an initiator group.'),
    "1254264": (409, "The initiator group is bound to a portset already: unbind it first."),
    "5374027": (400, 'The portset "{name}" has no interfaces.'),
    "5374028": (400, 'The protocol of portset "{name}" does not fit the initiator group.'),
    "5374911": (404, "The portset does not exist."),
    "5374083": (404, "The SVM has no Fibre Channel Protocol service."),
    "5374906": (404, 'There is no interface "{name}" in the SVM.'),
    "5374907": (400, "The interface's UUID and name do not refer to the same interface."),
    "5374908": (404, "The portset does not exist."),
    "5374910": (400, "An interface is named by its uuid, ip.uuid or ip.name."),
    "5374914": (400, 'The interface "{name}" is not for the portset\'s protocol.'),
    "5374915": (409, "The interface is in the portset already."),
    "5374916": (404, "The interface is not in the portset."),
    "5374608": (409, "The last reporting node of a LUN map cannot be removed."),
    "5374920": (404, 'There is no node "{node}" in the cluster.'),
    "5374921": (400, "The node's UUID and name do not refer to the same node."),
    "5374923": (400, "The node is named by its uuid or name."),
    # LUN maps
    "1254201": (404, 'The LUN "{lun}" does not exist.'),
    "1254207": (409, 'The LUN "{lun}" is already mapped to initiator group "{igroup}".'),
    "5374053": (409, "The LUN is being restored and takes no mapping until that is done."),
    "5374238": (400, 'This is not possible for "{name}": it is inside a Snapshot copy.'),
    "5374581": (409, 'Node "{node}" has no iSCSI interface for SVM "{svm}".'),
    "5374901": (400, "Either lun.uuid or lun.name is needed."),
    "5374902": (400, "Either igroup.uuid or igroup.name is needed."),
    "5374922": (404, "The LUN map does not exist."),
    # LUNs
    "917927": (404, 'The volume "{volume}" was not found.'),
    "918235": (404, 'A volume with UUID "{volume}" was not found.'),
    "918236": (400, 'The volume UUID "{uuid}" and the name "{name}" do not refer to the same volume.'),
    "1254196": (409, 'A LUN already exists at "{name}".'),
    "1254197": (409, "The LUN is mapped; give allow_delete_while_mapped to delete it all the same."),
    "1254226": (400, "New LUN size is the same as the old LUN size"),
    "1260121": (400, "A LUN can only be cloned within its own volume."),
    "1260136": (409, 'The destination "{name}" already exists.'),
    "5242927": (404, 'The qtree "{qtree}" was not found.'),
    "5374121": (400, 'LUN names are made of A-Z, a-z, 0-9, "-", ".", "_", "{{" and "}}": not "{name}".'),
    "5374124": (400, "The size {size} is too small for a LUN."),
    "5374125": (400, "The size {size} is too large for a LUN."),
    "5374127": (400, 'The LUN name "{name}" is not valid: /vol/<volume>/<lun>.'),
    "5374237": (400, "LUNs cannot be created on an SVM's root volume."),
    "5374242": (409, 'A LUN already exists at "{name}".'),
    "5374858": (400, 'The volume of "{name}" is not that of location.volume.'),
    "5374859": (400, "No volume was given for the LUN: name or location.volume."),
    "5374861": (400, 'The last part of "{name}" is not location.logical_unit.'),
    "5374862": (400, "No base name was given for the LUN."),
    "5374866": (409, 'The volume "{volume}" is offline.'),
    "5374874": (400, "clone.source.uuid and clone.source.name do not refer to the same LUN."),
    "5374875": (404, 'The LUN "{lun}" was not found.'),
    "5374876": (404, 'The LUN "{lun}" was not found.'),
    "5374883": (400, '"{field}" cannot be given for a LUN clone: it comes from the source.'),
    "5374884": (400, '"{field}" is needed for a new LUN.'),
    "5374892": (409, "The size of a LUN cannot be reduced from {old} to {new} bytes."),
    "5374899": (400, "A LUN in a Snapshot copy is named by clone.source.name, not by UUID."),
    "5374942": (400, "clone and copy cannot be given together."),
    "5376466": (400, "A LUN cannot be renamed to a name inside a Snapshot copy."),
    "13565952": (409, "The clone operation failed: {reason}"),
    # volumes
    "524511": (409, 'Failed to restore Snapshot copy "{snapshot}": {reason}'),
    "524601": (404, 'Parent volume "{name}" not found.'),
    "524615": (409, 'Failed to delete volume "{name}" because it has one or more clones.'),
    "524849": (409, "The FlexClone volume cannot be split from its parent: {reason}"),
    "787141": (400, "aggregates.name and aggregates.uuid refer to different aggregates."),
    "917508": (404, 'The aggregate "{name}" could not be found.'),
    "917526": (409, 'The volume name "{name}" is already in use in SVM "{svm}".'),
    "917531": (409, "The root volume cannot be deleted: the SVM has other volumes."),
    "917534": (400, "A volume of {size} bytes is too small: at least {least}."),
    "917536": (500, "The job failed: {reason}"),
    "917551": (404, 'The snapshot policy "{policy}" was not found.'),
    "917628": (400, "These fields cannot be changed for a volume of this type."),
    "917775": (409, 'The volume "{name}" is not online.'),
    "917835": (400, "A snapshot reserve over 90 percent is not possible when a volume is created."),
    "917886": (400, "A volume name has at most 203 characters."),
    "917887": (400, "A volume name begins with a letter or an underscore."),
    "917888": (400, 'Only letters, digits and "_" can be in a volume name, not "{character}".'),
    "918242": (400, "Exactly one aggregate is needed for a flexible volume: aggregates.name or aggregates.uuid."),
    "918243": (400, "The Snapshot copy's UUID is not that of the given name."),
    "918244": (400, 'A clone cannot be of type "{type}".'),
    "918247": (400, '"{field}" cannot be given for a FlexClone volume.'),
    "918248": (400, '"{field}" cannot be given together with clone.split_initiated.'),
    "918251": (400, '"{field}" cannot be given together with a restore.'),
    "918652": (400, '"{state}" is not a state that can be set: online, offline or restricted.'),
    "9437886": (409, 'Volume "{name}" has newer Snapshot copies that are locked and have not expired.'),
    "9437885": (409, 'The volume "{name}" is not online.'),
    "13107307": (400, "A volume of this type cannot be created here: its type is rw or dp."),
    "13107405": (409, 'A volume "{name}" is being created in SVM "{svm}" already.'),
    "13107406": (409, 'Another operation is in progress on volume "{name}".'),
    # Snapshot copies
    "524481": (409, 'The Snapshot copy was not deleted, because volume "{name}" is fenced by a Snapshot operation.'),
    "524479": (409, 'Volume "{name}" is not online or has no space for a Snapshot copy.'),
    "525059": (409, 'A Snapshot copy "{snapshot}" already exists in volume "{volume}".'),
    "525062": (409, "Cannot exceed maximum number of snapshots: volume {volume} has {count}."),
    "1520351": (409, "Snapshot operation is not allowed: clones backed by Snapshot copies are being made in {volume}."),
    "1638461": (400, "Snapshot copies can only be created on read/write (RW) volumes."),
    "1638477": (400, 'The name "{name}" begins with a prefix that is kept for the system.'),
    "1638480": (409, "Newer Snapshot copies are references of data protection relationships."),
    "1638518": (400, 'The Snapshot copy name "{name}" is not valid.'),
    "1638532": (409, 'Volume "{volume}" is being reverted.'),
    "1638555": (
        409,
        'Snapshot copy "{snapshot}" of volume "{volume}" on Vserver "{svm}" has not expired or is locked. Look at its '
        "owners and expiry time.",
    ),
    "1638600": (404, 'The Snapshot copy "{snapshot}" does not exist.'),
    # files
    "131073": (400, 'Operation not permitted: "{path}" is a LUN.'),
    "131102": (400, "Read-only file system."),
    "131138": (409, "Directory not empty."),
    "917752": (409, 'The volume "{name}" is offline.'),
    "917898": (400, 'The range "{value}" is not of the form source-block:destination-block:block-count.'),
    "5242956": (404, "There is no qtree with ID {id}."),
    "6488064": (400, "This command is not supported: {reason}"),
    "6488081": (400, 'The "{field}" field is not supported for this operation.'),
    "6488082": (409, 'Failed to rename "{path}".'),
    "6488118": (409, "File exists."),
    "6684674": (404, "No such file or directory."),
    "917812": (400, 'A relative path is needed for destination_path, not "{path}".'),
    # consistency groups
    "262285": (400, "Elements cannot be removed from a consistency group by PATCH."),
    "53411842": (404, "The consistency group does not exist."),
    "53411843": (404, 'A consistency group with UUID "{uuid}" was not found.'),
    "53411860": (409, 'A consistency group "{name}" already exists in that SVM.'),
    "53411861": (404, 'The volume "{volume}" does not exist.'),
    "53411864": (400, 'To add the existing volume "{volume}", give provisioning_options.action "add".'),
    "53411865": (409, 'The volume "{volume}" is in another consistency group.'),
    "53411918": (409, "A Snapshot operation on the consistency group is not possible now: {reason}"),
    "53411921": (409, "Failed to create a Snapshot copy of the consistency group: {reason}"),
    "53411925": (409, "Failed to find a previously initiated two-phase Snapshot operation for the consistency group."),
    "53412008": (409, 'The Snapshot copy "{snapshot}" is a reference of a replication relationship.'),
    "53412007": (409, 'The Snapshot copy "{snapshot}" has not expired or is locked.'),
    # schedules and policies
    "459758": (409, 'The schedule "{name}" is in use.'),
    "461785": (400, "A cron schedule cannot have an interval."),
    "461786": (400, "An interval schedule cannot have cron fields."),
    "459760": (400, "The schedule is not valid: cron or interval is needed."),
    "1638407": (400, "A count is needed for each schedule of a snapshot policy."),
    "1638408": (400, "A schedule name is needed for each copy of a snapshot policy."),
    "1638413": (404, 'The schedule "{name}" was not found.'),
    "1638415": (409, 'The policy "{name}" is used by volume "{volume}".'),
    "1638431": (409, 'The built-in policy "{name}" cannot be deleted.'),
    "1638451": (400, "The policy would keep {total} Snapshot copies, more than {limit}."),
    "1638508": (409, "Another schedule of the policy has the same prefix."),
    "1638527": (409, 'A snapshot policy "{name}" already exists.'),
    # accounts and certificates
    "1261215": (404, 'The role "{role}" was not found.'),
    "3735558": (400, "The certificate's subject has no common name."),
    "3735622": (400, 'The certificate type "{type}" is not supported: only client_ca is.'),
    "5636125": (400, 'The account "{name}" comes with the system and cannot be changed or deleted.'),
    "5636176": (400, 'The application "{application}" has no authentication by "{methods}".'),
    "5636178": (400, "An application is needed for each entry of applications."),
    "7077897": (400, 'The account name "{name}" is not valid.'),
    "7077911": (400, 'The account "{name}" does not log in with a password.'),
    "7077918": (400, "The password contains the account's name."),
    "7077919": (400, "A password has at least {least} characters."),
    "7077920": (400, "A password has both letters and digits."),
    "7077929": (400, "An account without a password cannot be locked."),
    "7078900": (400, "A password is needed for an account that logs in with one."),
    "52559972": (400, "The certificate is not valid yet."),
    "52559973": (400, "The certificate has expired."),
    "52559975": (400, "public_certificate is not a certificate in PEM form."),
    # events
    "983173": (400, "The application's event could not be recorded: {reason}"),
    **SNAPMIRROR_ERRORS,
}
"""Code -> (HTTP status, message with the names of its arguments)."""


class ApiError(Exception):
    """The array refuses a request, or a job fails.

    Attributes:
        code: ONTAP's code, a key of ``ERRORS``.
        status: HTTP status.
        target: field that the error is about.
    """

    def __init__(self, code: str, *, target: str = "", status: int | None = None, **values: Any) -> None:
        known, template = ERRORS[code]
        self.code = code
        self.status = known if status is None else status
        self.target = target
        self.message = template.format(**values)
        super().__init__(f"{code}: {self.message}")

    def body(self) -> dict[str, Any]:
        """The error as the API sends it."""
        error: dict[str, Any] = {"message": self.message, "code": self.code}
        if self.target:
            error["target"] = self.target
        return {"error": error}


def invalid_value(value: object, field: str, expected: str) -> ApiError:
    """Code 262197 for a value that does not fit its field."""
    return ApiError("262197", target=field, value=value, field=field, expected=expected)
