"""What a site keeps of its hosts besides SnapInfo: reports, mail, AutoSupport (TR 5.4, 6.1), as numbered TOML versions.

The SnapInfo folder itself is in each host's registry; the rest is in ``Settings`` below that folder, to go with it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import msgspec
import tomli_w

from smhvlab.errors import NameTaken, NotAllowed
from smhvlab.snapinfo import SnapInfo

_PART: Final = "Settings"


@dataclass(frozen=True, kw_only=True)
class Smtp:
    """A mail server. Its password, if it wants one, is kept like every other: under the key ``smtp``, never here.

    Attributes:
        security: ``none``, ``starttls`` or ``tls``.
        ca_file: the CA that signed its certificate; "" means the machine's usual ones.
        user: "" if it takes mail without a login.
        timeout: seconds after which it is given up.
    """

    server: str
    port: int = 25
    sender: str = "smhvlab@localhost"
    security: Literal["none", "starttls", "tls"] = "none"
    user: str = ""
    ca_file: str = ""
    timeout: float = 10.0

    @property
    def key(self) -> str:
        """Under which its password is kept."""
        return "smtp"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a host or cluster.

    Attributes:
        manages: ``host`` (its dedicated VMs) or ``cluster`` (the shared VMs).
        reports: folder for reports; "" until it is set: then no VM can join a dataset (TR 5.4).
        to: who gets mail when a policy names nobody.
        autosupport: whether events go to the array's application log, from where AutoSupport takes them.
        version: number of the stored version; 0 for settings that were never saved.
    """

    manages: Literal["host", "cluster"] = "host"
    reports: str = ""
    smtp: Smtp | None = None
    to: tuple[str, ...] = ()
    autosupport: bool = False
    version: int = field(default=0, compare=False)

    def toml(self) -> str:
        """The settings as TOML."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return tomli_w.dumps({k: v for k, v in told.items() if k != "version" and v not in (None, [], "")})


def load(snapinfo: SnapInfo) -> Settings:
    """The present settings; those of a fresh host if none were saved."""
    known = snapinfo.versions(_PART)
    if not known:
        return Settings()
    _, number, path = known[-1]
    (text,) = snapinfo.read_all([path], "#")
    return replace(from_toml(text), version=number)


def from_toml(text: str) -> Settings:
    """Settings of a TOML text. Raises NotAllowed, with the field."""
    try:
        settings: Settings = msgspec.convert(tomllib.loads(text), Settings)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise NotAllowed(
            "The settings do not fit", why=str(error), next_action="Mend the field that it names.", tr="5.4"
        ) from error
    return settings


def save(snapinfo: SnapInfo, settings: Settings) -> Settings:
    """Write the next version after the one that they were made from. Raises NameTaken: another console was faster."""
    stored = replace(settings, version=settings.version + 1)
    try:
        snapinfo.write_once(f"{snapinfo.folder()}\\{_PART}", f"{stored.version:06}.toml", stored.toml(), "#")
    except NameTaken as taken:
        raise NameTaken(
            f"Version {stored.version} of the settings is there already, written by another console",
            next_action="Nothing was overwritten. Read the settings again and repeat the change.",
            tr="6.1",
        ) from taken
    return stored
