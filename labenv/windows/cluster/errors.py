"""Errors of the FailoverClusters cmdlets.

The ids ``ClusterEndpointNotRegistered``, ``ClusterRpcConnection``, and the cmdlet's own name for whatever the cluster
service refuses, are those that real nodes have printed; that of a missing object is by analogy with them.
"""

from __future__ import annotations

from labenv.windows.call import PsError

EXCEPTION = "Microsoft.FailoverClusters.PowerShell.ClusterCmdletException"


class ClusterProblem(Exception):
    """What the cluster service refuses, with its Win32 code; a cmdlet reports it under its own name."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def refused(cmdlet: str, text: str, *, target: object = None) -> PsError:
    """The cluster service refused; the error id is the cmdlet's name."""
    return PsError(text, error_id=cmdlet, category="NotSpecified", target=target, exception=EXCEPTION)


def not_found(kind: str, name: object) -> PsError:
    """There is no such object in the cluster."""
    return PsError(
        f"The cluster {kind} '{name}' could not be found.",
        error_id="ClusterObjectNotFound",
        category="ObjectNotFound",
        target=str(name),
        exception=EXCEPTION,
    )


def not_running() -> PsError:
    """The cluster service of this node is not running."""
    return PsError(
        "The cluster service is not running. Make sure that the service is running on all nodes in the cluster. There "
        "are no more endpoints available from the endpoint mapper",
        error_id="ClusterEndpointNotRegistered",
        category="ConnectionError",
        exception=EXCEPTION,
    )


def not_reachable(name: str) -> PsError:
    """No cluster answers under this name."""
    return PsError(
        f"Check the spelling of the cluster name. Otherwise, there might be a problem with your network: '{name}' does "
        "not answer. The RPC server is unavailable",
        error_id="ClusterRpcConnection",
        category="ConnectionError",
        target=name,
        exception=EXCEPTION,
    )
