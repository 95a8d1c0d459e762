"""The service's configuration, as a Get on its config resource tells it."""

from __future__ import annotations

from collections.abc import Mapping

from labenv.windows.remoting.wsman import CONFIG, MAX_TIMEOUT

Tree = Mapping[str, "str | Tree"]


def config_element(envelope: int, shells_per_user: int) -> str:
    """The cfg:Config element; ``envelope`` in bytes."""
    auth: Tree = {"Basic": "true", "Kerberos": "false", "Negotiate": "true", "Certificate": "false", "CredSSP": "false"}
    ports: Tree = {"HTTP": "5985", "HTTPS": "5986"}
    tree: Tree = {
        "MaxEnvelopeSizekb": str(envelope // 1024),
        "MaxTimeoutms": str(int(MAX_TIMEOUT * 1000)),
        "MaxBatchItems": "32000",
        "MaxProviderRequests": "4294967295",
        "Service": {
            "MaxConcurrentOperations": "4294967295",
            "MaxConcurrentOperationsPerUser": "1500",
            "EnumerationTimeoutms": "240000",
            "MaxConnections": "300",
            "MaxPacketRetrievalTimeSeconds": "120",
            "AllowUnencrypted": "false",
            "Auth": {**auth, "CbtHardeningLevel": "Relaxed"},
            "DefaultPorts": ports,
            "AllowRemoteAccess": "true",
        },
        "Winrs": {
            "AllowRemoteShellAccess": "true",
            "IdleTimeout": "7200000",
            "MaxConcurrentUsers": "10",
            "MaxShellRunTime": "2147483647",
            "MaxProcessesPerShell": "25",
            "MaxMemoryPerShellMB": "1024",
            "MaxShellsPerUser": str(shells_per_user),
        },
    }
    return f'<cfg:Config xmlns:cfg="{CONFIG}">{_elements(tree)}</cfg:Config>'


def _elements(tree: Tree) -> str:
    return "".join(
        f"<cfg:{name}>{value if isinstance(value, str) else _elements(value)}</cfg:{name}>"
        for name, value in tree.items()
    )
