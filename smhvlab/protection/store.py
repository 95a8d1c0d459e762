"""Where policies are kept: numbered TOML files beside SnapInfo, written once, so that they travel with it (TR 5.2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from smhvlab.errors import NameTaken, NotFound
from smhvlab.protection.policy import Policy, differences, from_toml, validate
from smhvlab.snapinfo import SnapInfo


class PolicyStore:
    """The policies of one SnapInfo folder; the highest number of each counts."""

    def __init__(self, snapinfo: SnapInfo) -> None:
        self._snapinfo = snapinfo

    def policies(self) -> list[Policy]:
        """The present version of every policy that was not removed, by name."""
        newest: dict[str, tuple[int, str]] = {}
        for number, name, path in self._versions():
            newest[name] = max(newest.get(name, (0, "")), (number, path))
        found = self._load([entry for _, entry in sorted(newest.items())])
        return [policy for policy in found if not policy.removed]

    def policy(self, name: str) -> Policy:
        """A policy's present version. Raises NotFound."""
        for policy in self.policies():
            if policy.name.casefold() == name.casefold():
                return policy
        raise NotFound(
            f"There is no policy {name}", next_action="List them with site.policies(), or set one.", tr="5.2"
        )

    def history(self, name: str) -> list[Policy]:
        """Every version of a policy, oldest first; a removal is a version too."""
        return self._load([(n, path) for n, own, path in self._versions() if own.casefold() == name.casefold()])

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

    def _versions(self) -> list[tuple[int, str, str]]:
        """Number, policy and path of every version."""
        parts = [(path, path.rsplit("\\", 2)) for path in self._snapinfo.files("Policies")]
        found = [(int(part[2].removesuffix(".toml")), part[1], path) for path, part in parts]
        return sorted(found, key=lambda entry: (entry[1], entry[0]))

    def _load(self, entries: list[tuple[int, str]]) -> list[Policy]:
        texts = self._snapinfo.read_all([path for _, path in entries], "#")
        return [replace(from_toml(text), version=n) for (n, _), text in zip(entries, texts, strict=True)]
