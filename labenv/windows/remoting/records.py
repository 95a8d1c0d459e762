"""Bodies of the PSRP messages that a pipeline sends besides its output: errors, texts, progress, states."""

from __future__ import annotations

from labenv.windows.call import PsError
from labenv.windows.remoting.clixml import Writer, encode, text_of, type_name_of

COMPLETED, STOPPED, FAILED = 4, 3, 5
"""PSInvocationState values of a pipeline that has ended."""

_CATEGORIES = [
    "NotSpecified",
    "OpenError",
    "CloseError",
    "DeviceError",
    "DeadlockDetected",
    "InvalidArgument",
    "InvalidData",
    "InvalidOperation",
    "InvalidResult",
    "InvalidType",
    "MetadataError",
    "NotImplemented",
    "NotInstalled",
    "ObjectNotFound",
    "OperationStopped",
    "OperationTimeout",
    "SyntaxError",
    "ParserError",
    "PermissionDenied",
    "ResourceBusy",
    "ResourceExists",
    "ResourceUnavailable",
    "ReadError",
    "WriteError",
    "FromStdErr",
    "SecurityError",
    "ProtocolError",
    "ConnectionError",
    "AuthenticationError",
    "LimitsExceeded",
    "QuotaExceeded",
    "NotEnabled",
]
CATEGORIES = {name: number for number, name in enumerate(_CATEGORIES)}
"""System.Management.Automation.ErrorCategory: name -> number."""


def error_id(error: PsError) -> str:
    """FullyQualifiedErrorId: the id, and after a comma the class or function of the cmdlet if it is known."""
    return f"{error.error_id},{error.suffix}" if error.suffix else error.error_id


def write_error(writer: Writer, error: PsError, *, cmdlet: str, name: str | None = None) -> None:
    """Append an ErrorRecord in the form in which PSRP carries it."""
    reason = error.exception.rsplit(".", 1)[-1]
    target_name = text_of(error.target)
    target_type = "" if error.target is None else type_name_of(error.target).rsplit(".", 1)[-1]
    message = encode(error.message)
    writer.open_object(("System.Management.Automation.ErrorRecord", "System.Object"), name)
    writer.element("ToString", message)
    writer.raw("<MS>")
    types = [error.exception]
    types += [t for t in ("System.Exception", "System.Object") if t != error.exception]
    writer.open_object(types, "Exception")
    writer.element("ToString", f"{encode(error.exception)}: {message}")
    writer.raw("<Props>")
    writer.element("S", message, "Message")
    writer.value({}, name="Data")
    for nothing in ("InnerException", "TargetSite", "StackTrace", "HelpLink", "Source"):
        writer.value(None, name=nothing)
    writer.value(-2146233088, name="HResult")
    writer.raw("</Props>")
    writer.close_object()
    writer.value(error.target, name="TargetObject")
    writer.value(error_id(error), name="FullyQualifiedErrorId")
    writer.value(None, name="InvocationInfo")
    category = error.category if error.category in CATEGORIES else "NotSpecified"
    writer.value(CATEGORIES[category], name="ErrorCategory_Category")
    writer.value(cmdlet, name="ErrorCategory_Activity")
    writer.value(reason, name="ErrorCategory_Reason")
    writer.value(target_name, name="ErrorCategory_TargetName")
    writer.value(target_type, name="ErrorCategory_TargetType")
    activity = f" [{cmdlet}]," if cmdlet else ""
    writer.value(f"{category}: ({target_name}:{target_type}){activity} {reason}", name="ErrorCategory_Message")
    writer.value(False, name="SerializeExtendedInfo")
    writer.raw("</MS>")
    writer.close_object()


def error_record(error: PsError, *, cmdlet: str) -> bytes:
    """The body of an ERROR_RECORD message."""
    writer = Writer()
    write_error(writer, error, cmdlet=cmdlet)
    return writer.document()


def text_record(text: str, kind: str) -> bytes:
    """The body of a WARNING_RECORD, VERBOSE_RECORD or DEBUG_RECORD message; ``kind`` is e.g. ``Warning``."""
    writer = Writer()
    name = f"System.Management.Automation.{kind}Record"
    writer.open_object((name, "System.Management.Automation.InformationalRecord", "System.Object"))
    writer.element("ToString", encode(text))
    writer.raw("<MS>")
    writer.value(text, name="InformationalRecord_Message")
    writer.value(False, name="InformationalRecord_SerializeInvocationInfo")
    writer.raw("</MS>")
    writer.close_object()
    return writer.document()


def progress_record(activity: str, status: str, percent: int) -> bytes:
    """The body of a PROGRESS_RECORD message; 100 percent marks the activity as completed."""
    writer = Writer()
    writer.open_object(())
    writer.raw("<MS>")
    writer.value(activity, name="Activity")
    writer.value(0, name="ActivityId")
    writer.value(status, name="StatusDescription")
    writer.value(None, name="CurrentOperation")
    writer.value(-1, name="ParentActivityId")
    writer.value(percent, name="PercentComplete")
    kind = "System.Management.Automation.ProgressRecordType"
    writer.open_object((kind, "System.Enum", "System.ValueType", "System.Object"), "Type")
    completed = percent >= 100
    writer.element("ToString", "Completed" if completed else "Processing")
    writer.element("I32", "1" if completed else "0")
    writer.close_object()
    writer.value(-1, name="SecondsRemaining")
    writer.raw("</MS>")
    writer.close_object()
    return writer.document()


def pipeline_state(state: int, error: PsError | None = None, *, cmdlet: str = "") -> bytes:
    """The body of a PIPELINE_STATE message, with the error that ended the pipeline if one did."""
    writer = Writer()
    writer.open_object(())
    writer.raw("<MS>")
    writer.value(state, name="PipelineState")
    if error is not None:
        write_error(writer, error, cmdlet=cmdlet, name="ExceptionAsErrorRecord")
    writer.raw("</MS>")
    writer.close_object()
    return writer.document()


def stopped() -> PsError:
    """The error that a stopped pipeline ends with."""
    return PsError(
        "The pipeline has been stopped.",
        error_id="PipelineStopped",
        category="OperationStopped",
        exception="System.Management.Automation.PipelineStoppedException",
    )
