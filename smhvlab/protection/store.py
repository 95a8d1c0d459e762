"""Where policies are kept: numbered TOML files beside SnapInfo, written once, so that they travel with it (TR 5.2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from smhvlab.errors import NameTaken, NotFound
from smhvlab.protection.policy import Policy, differences, from_toml, validate
from smhvlab.snapinfo import SnapInfo
from smhvlab.snapinfofiles import damage


class PolicyStore:
    """The policies of one SnapInfo folder; the highest number of each counts."""

    def __init__(self, snapinfo: SnapInfo) -> None:
        self._snapinfo = snapinfo

    def policies(self) -> list[Policy]:
        """The present version of every policy that was not removed, by name."""
        return [policy for policy in self._newest()[0] if not policy.removed]

    def damaged(self) -> dict[str, str]:
        """Files of policies that cannot be read, with the reason: these policies are in no list."""
        return self._newest()[1]

    def _newest(self) -> tuple[list[Policy], dict[str, str]]:
        newest = {name: (number, path) for name, number, path in self._snapinfo.versions("Policies")}
        found, damaged = self._snapinfo.read_sound([path for _, path in newest.values()], "#", from_toml)
        return [replace(found[path], version=n) for n, path in newest.values() if path in found], damaged

    def policy(self, name: str) -> Policy:
        """A policy's present version. Raises NotFound; NotAllowed: its file is damaged."""
        policies, damaged = self._newest()
        for policy in policies:
            if policy.name.casefold() == name.casefold() and not policy.removed:
                return policy
        for path, why in damaged.items():
            if path.rsplit("\\", 2)[1].casefold() == name.casefold():
                raise damage(path, why)
        raise NotFound(
            f"There is no policy {name}", next_action="List them with site.policies(), or set one.", tr="5.2"
        )

    def history(self, name: str) -> list[Policy]:
        """Every version of a policy, oldest first; a removal is a version too."""
        known = self._snapinfo.versions("Policies")
        mine = [(number, path) for own, number, path in known if own.casefold() == name.casefold()]
        texts = self._snapinfo.read_all([path for _, path in mine], "#")
        return [replace(from_toml(text), version=n) for (n, _), text in zip(mine, texts, strict=True)]

    def write(self, policy: Policy, *, now: datetime) -> Policy:
        """Write the next version after the one that the policy was made from.

        Raises:
            NameTaken: somebody else has written that version; ``why`` has what theirs says differently.
            NotAllowed: the policy cannot work.
        """
        validate(policy)
        stored = replace(policy, version=policy.version + 1, since=policy.since or now.replace(microsecond=0))
        folder = f"{self._snapinfo.folder()}\\Policies\\{policy.name}"
        try:
            self._snapinfo.write_once(folder, f"{stored.version:06}.toml", stored.toml(), "#")
        except NameTaken as taken:
            theirs = self.history(policy.name)[-1]
            told = "; ".join(differences(policy, theirs)) or "theirs says the same"
            raise NameTaken(
                f"Policy {policy.name}: version {stored.version} is there already, written by another console",
                why=told,
                next_action=f"Nothing was overwritten. Look at theirs, set version = {theirs.version} in yours "
                "and set it again if it still holds.",
                tr="5.2",
            ) from taken
        return stored

    def remove(self, policy: Policy, *, now: datetime) -> Policy:
        """Take a policy away, by a version that says so; its backups and its versions stay. Raises as ``write``."""
        return self.write(replace(policy, removed=True), now=now)
