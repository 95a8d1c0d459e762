"""The exercise of the lesson on mounted backups: each check looks at the site itself (TR 6.8)."""

from __future__ import annotations

from smhvlab.exercises.first import Exercise, Goal
from smhvlab.leftovers import leftovers
from smhvlab.site import Site


def rescued_files(
    site: Site, *, vm: str = "sql01", folder: str = "C:\\rescued", files: tuple[str, ...] = ("bb2.mdf", "bb2.ldf")
) -> Exercise:
    """Bring single files of a VM out of a verified backup, and leave nothing behind (TR 6.8)."""

    def backups() -> list[str]:
        found = site.tools().snapinfo.backups()
        return [backup.name for backup in found if vm in {entry.name for entry in backup.vms}]

    def verified() -> str:
        marked = site.tools().snapinfo.catalogue().verified & set(backups())
        return "" if marked else f"None of {', '.join(backups())} was verified"

    def copies() -> str:
        host = site.tools().host
        for file in files:
            path = f"{folder}\\{file}"
            if not host.run("Test-Path", {"LiteralPath": path})[0]:
                return f"There is no {path}"
            if not int(host.run("Get-Item", {"LiteralPath": path}, select=("Length",))[0]["Length"]):
                return f"{path} is empty"
        return ""

    def clean() -> str:
        mounts = site.mounts()
        if len(mounts):
            return f"{mounts.iloc[0]['backup']} is mounted at {mounts.iloc[0]['path']}"
        left = leftovers(site.tools(), pending=False)
        return str(left[0]) if left else ""

    return Exercise(
        f"{' and '.join(files)} of {vm}, out of a backup",
        "6.8",
        (
            Goal(
                f"There is a backup of {vm}",
                lambda: "" if backups() else f"SnapInfo has no backup of {vm}",
                f"Make a dataset of {vm}, then site.backup(...). It has to hold {vm}, not only its neighbours.",
            ),
            Goal(
                "A backup of it was verified",
                verified,
                "site.verify(backup) is the flow. Which VM lends its database engine?",
            ),
            Goal(
                f"{' and '.join(files)} as of a backup are in {folder} on the host",
                copies,
                f'The folder has to be there first: site.tools().host.run("New-Item", {{"Path": {folder!r}, '
                '"ItemType": "Directory"}). Then site.restore_file(backup, vm, guest_path=..., to=...) once '
                "for each file.",
            ),
            Goal(
                "Nothing is mounted, and nothing is left over",
                clean,
                "site.mounts() lists what is mounted, site.unmount(...) takes it away.",
            ),
        ),
    )
