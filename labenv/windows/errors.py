"""ErrorRecords in the words and with the ids of the Windows modules that raise them."""

from __future__ import annotations

from labenv.devices import DeviceError, DeviceGone, OutOfSpace, ReadOnlyDevice
from labenv.windows.call import PsError
from labenv.windows.disks.errors import FileSystemError

IN_USE = 0x80070020
"""ERROR_SHARING_VIOLATION as HRESULT."""

_STORAGE = {
    1: "Not Supported",
    4: "Failed",
    5: "Invalid Parameter",
    6: "The disk is in use.",
    40000: "Not enough available capacity",
    40001: "Access denied",
    41000: "The disk has not been initialized.",
    41001: "The disk has already been initialized.",
    41002: "The disk is read only.",
    41003: "The disk is offline.",
    41004: "The disk's partition limit has been reached.",
    41006: "The parameter is not valid for this type of partition.",
    41009: "The operation is not supported on a critical disk.",
    41013: "Cannot convert the style of a disk with data or other known partitions on it.",
    41018: "The specified object is managed by the Microsoft Failover Clustering component. The disk must be in "
    "cluster maintenance mode and the cluster resource status must be online to perform this operation.",
    41019: "The specified object is managed by the Microsoft Failover Clustering component. The disk must be removed "
    "from the cluster to perform this operation.",
    42002: "The requested access path is already in use.",
    42004: "There is no such access path for this partition.",
    42007: "The access path is not valid.",
    42008: "The partition type does not allow this operation.",
    43001: "The specified file system is not supported.",
    43002: "The volume could not be locked or is in use.",
}


class FileProblem(Exception):
    """A file operation that Windows would refuse, with its HRESULT."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def sharing_violation(path: str) -> FileProblem:
    """The file is open elsewhere."""
    return FileProblem(
        IN_USE, f"The process cannot access the file '{path}' because it is being used by another process."
    )


def problem(error: Exception, path: str) -> FileProblem:
    """What Windows would call a failure of the file system or of the disk below it."""
    if isinstance(error, FileProblem):
        return error
    for kinds, code, text in (
        (OutOfSpace, 0x80070070, "There is not enough space on the disk."),
        (ReadOnlyDevice, 0x80070013, "The media is write protected."),
        (DeviceGone, 0x80070015, "The device is not ready."),
        (DeviceError, 0x8007045D, "The request could not be performed because of an I/O device error."),
    ):
        if isinstance(error, kinds):
            return FileProblem(code, f"{text} : '{path}'")
    name = type(error).__name__
    code, text = {
        "PathNotFound": (0x80070003, f"Could not find a part of the path '{path}'."),
        "FileExists": (0x80070050, "Cannot create a file when that file already exists."),
        "DirectoryNotEmpty": (0x80070091, f"The directory '{path}' is not empty."),
        "DiskFull": (0x80070070, f"There is not enough space on the disk. : '{path}'"),
        "InvalidName": (0x8007007B, "The filename, directory name, or volume label syntax is incorrect."),
        "IsADirectory": (0x80070005, f"Access to the path '{path}' is denied."),
        "NotADirectory": (0x8007010B, f"The directory name is invalid. : '{path}'"),
    }.get(name, (0x80070570, f"The file or directory '{path}' is corrupted and unreadable."))
    return FileProblem(code, text)


FILE_ERRORS = (FileProblem, FileSystemError, DeviceError)
"""What file operations can raise; ``problem`` turns each into a ``FileProblem``."""


def storage(code: int, *, target: object = None, detail: str = "") -> PsError:
    """A method of the storage management provider failed (MSFT_Disk, MSFT_Partition, MSFT_Volume)."""
    text = _STORAGE.get(code, "Failed")
    return PsError(
        f"{text.rstrip('.')}. {detail}" if detail else text,
        error_id=f"StorageWMI {code}",
        category="NotSpecified",
        target=target,
        exception="Microsoft.Management.Infrastructure.CimException",
    )


def cim_not_found(kind: str, name: str, value: object) -> PsError:
    """A query of a CDXML cmdlet selected nothing."""
    return PsError(
        f"No {kind} objects found with property '{name}' equal to '{value}'.  "
        "Verify the value of the property and retry.",
        error_id=f"CmdletizationQuery_NotFound_{name}",
        category="ObjectNotFound",
        target=str(value),
        exception="Microsoft.PowerShell.Cmdletization.Cim.CimJobException",
    )


def iscsi(code: int, text: str, *, target: object = None) -> PsError:
    """The iSCSI initiator service refused; ``code`` is its 0xEFFFxxxx status."""
    return PsError(
        text,
        error_id=f"HRESULT 0x{code:08x}",
        category="NotSpecified",
        target=target,
        exception="Microsoft.Management.Infrastructure.CimException",
    )


def hyperv(error_id: str, text: str, *, target: object = None) -> PsError:
    """A Hyper-V cmdlet failed; the category follows from the error id."""
    category = {
        "InvalidParameter": "InvalidArgument",
        "ObjectNotFound": "ObjectNotFound",
        "InvalidState": "InvalidOperation",
        "InvalidOperation": "InvalidOperation",
        "AccessDenied": "PermissionDenied",
        "ObjectInUse": "ResourceBusy",
    }.get(error_id, "NotSpecified")
    return PsError(
        text,
        error_id=error_id,
        category=category,
        target=target,
        exception="Microsoft.HyperV.PowerShell.VirtualizationException",
    )


def hyperv_file(text: str, error: FileProblem, *, error_id: str = "OperationFailed") -> PsError:
    """A Hyper-V cmdlet could not use a file: its text ends in the HRESULT."""
    return hyperv(error_id, f"{text} {error.message} (0x{error.code:08X})")


def no_management_service(host: str) -> PsError:
    """The service that answers the Hyper-V cmdlets does not run."""
    text = (
        f"Hyper-V encountered an error trying to access an object on computer '{host.upper()}' because the object was "
        "not found. The object might have been deleted, or you might not have permission to perform the task. Verify "
        "that the Virtual Machine Management service on the computer is running. If the service is running, try to "
        "perform the task again by using Run as Administrator."
    )
    return hyperv("ObjectNotFound", text)


def no_initiator_service() -> PsError:
    """The iSCSI initiator service does not run."""
    return iscsi(
        0xEFFF003E, "The Microsoft iSCSI Initiator Service is not running. Please start the service and retry."
    )


def vm_not_found(name: str) -> PsError:
    """No VM of that name."""
    return hyperv("InvalidParameter", f'Hyper-V was unable to find a virtual machine with name "{name}".', target=name)


def item(error_id: str, category: str, text: str, target: object, exception: str = "System.IO.IOException") -> PsError:
    """An item cmdlet failed."""
    return PsError(text, error_id=error_id, category=category, target=target, exception=exception)


def path_not_found(path: str) -> PsError:
    """An item cmdlet got a path that does not exist."""
    return item(
        "PathNotFound",
        "ObjectNotFound",
        f"Cannot find path '{path}' because it does not exist.",
        path,
        "System.Management.Automation.ItemNotFoundException",
    )
