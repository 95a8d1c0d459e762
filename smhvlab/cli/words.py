"""What an error tells to do next, as it is typed in a terminal."""

from __future__ import annotations

import re
from typing import Final

_CALL: Final = re.compile(r"site\.(\w+)\(([^()]*)\)")
VERBS: Final = {
    **{name: name for name in ("backup", "backups", "budget", "busy", "check", "datasets", "detach", "disks", "luns")},
    **{
        name: name
        for name in ("mirrors", "mount", "mounts", "policies", "provision", "restore", "schedule", "snapshots")
    },
    **{name: name for name in ("unmount", "unprotected", "verify", "vms", "volumes")},
    "create_dataset": "dataset",
    "change_dataset": "dataset --change",
    "remove_dataset": "dataset --remove",
    "create_disk": "create-disk",
    "delete_backup": "delete-backup",
    "hot_add": "hot-add",
    "prepare_storage": "prepare-storage",
    "remove_policy": "policy remove",
    "restore_file": "restore-file",
    "set_policy": "policy set",
}
"""The command that does what a method of the site does; the others have none."""


def in_a_terminal(text: str) -> str:
    """The text with each ``site.method(arguments)`` as the command that does it, where there is one."""

    def command(found: re.Match[str]) -> str:
        method, arguments = found.groups()
        if method not in VERBS:
            return found[0]
        words = [part.strip().strip("\"'[]") for part in arguments.split(",") if "=" not in part]
        return " ".join(["smhvlab", VERBS[method], *(word for word in words if word)])

    return _CALL.sub(command, text)
