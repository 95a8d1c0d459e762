"""Who to connect to. A profile holds addresses and user names; passwords live elsewhere (`smhvlab.secrets`)."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import platformdirs
import tomli_w

from smhvlab.errors import NotFound, ProfileError
from smhvlab.secrets import Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
LAB_CONFIGURATION = "SmhvLab"
"""The session configuration of a lab's hosts; its credentials can travel on to another computer."""

AUTHENTICATIONS = ("negotiate", "kerberos", "ntlm", "basic", "credssp")
"""How a session on a host may authenticate; only kerberos and credssp can delegate to a second host."""


@dataclass(frozen=True)
class SvmEndpoint:
    """A storage virtual machine (the TR's Vserver) that has a user of its own."""

    name: str
    user: str = "vsadmin"


@dataclass(frozen=True, kw_only=True)
class StorageEndpoint:
    """An ONTAP cluster's management address, HTTPS.

    Attributes:
        name: what outputs and logs call it.
        ca_file: PEM file with the CA that signed its certificate; None means the machine's usual CAs.
        svms: the SVMs with users of their own.
        svm: set on the endpoint that `as_svm` gives; "" is the cluster itself.
    """

    name: str
    host: str
    port: int = 443
    user: str = "admin"
    ca_file: str | None = None
    svms: tuple[SvmEndpoint, ...] = ()
    svm: str = ""

    @property
    def key(self) -> str:
        """Under which its password is kept: ``cluster1``, or ``cluster1/svm1`` for an SVM's user."""
        return f"{self.name}/{self.svm}" if self.svm else self.name

    def as_svm(self, name: str) -> StorageEndpoint:
        """The same address, as the SVM's own user. Raises `NotFound` if the profile has no user for that SVM."""
        for svm in self.svms:
            if svm.name == name:
                return replace(self, user=svm.user, svm=svm.name)
        raise NotFound(
            f"The profile has no user for the SVM {name} of {self.name}",
            next_action="Add the SVM and its user to the profile, or use the cluster's administrator.",
        )


@dataclass(frozen=True, kw_only=True)
class SqlLogin:
    """An SQL login of the databases in a host's VMs; its password is kept under ``key``."""

    key: str
    user: str


@dataclass(frozen=True, kw_only=True)
class HostEndpoint:
    """A Hyper-V host's PowerShell remoting address, HTTPS.

    Attributes:
        name: the computer's name, as the cluster and the outputs call it.
        user: ``DOMAIN\\user``, ``user@domain`` or a local user.
        ca_file: PEM file with the CA that signed its certificate; None means the machine's usual CAs.
        cluster: name of the failover cluster that it is a node of, None for a standalone host.
        authentication: one of `AUTHENTICATIONS`.
        configuration_name: the session configuration (JEA endpoint) to enter.
        sql_user: SQL login of the databases in its VMs.
    """

    name: str
    host: str
    port: int = 5986
    user: str
    ca_file: str | None = None
    cluster: str | None = None
    authentication: str = "negotiate"
    configuration_name: str = "Microsoft.PowerShell"
    sql_user: str = "sa"

    @property
    def key(self) -> str:
        """Under which its password is kept."""
        return self.name

    @property
    def sql(self) -> SqlLogin:
        """The SQL login of the databases in its VMs."""
        return SqlLogin(key=f"{self.name}/sql", user=self.sql_user)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One site: one storage cluster and one Hyper-V host, or the nodes of one failover cluster.

    Attributes:
        name: also the name of the saved file; letters, digits, ``_ . -``.
        proxy: address of the HTTP proxy for both wires, None to connect directly. The machine's proxy variables are
            never used.
        read_only: refuse every change.
        secrets: passwords by endpoint key, when whoever made the profile has them (a lab); never saved or shown.
        journals: folder of its runs' journals; None: the user's state folder. A lab's runs end with the lab.
    """

    name: str
    storage: StorageEndpoint
    hyperv: tuple[HostEndpoint, ...]
    proxy: str | None = None
    read_only: bool = False
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False, compare=False)
    journals: Path | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ProfileError(
                f"{self.name!r} is no name for a profile",
                next_action="Use letters, digits, underscore, dot and hyphen, at most 64.",
            )
        for host in self.hyperv:
            if host.authentication not in AUTHENTICATIONS:
                raise ProfileError(
                    f"Host {host.name} asks for the authentication {host.authentication!r}",
                    next_action=f"Use one of {', '.join(AUTHENTICATIONS)}.",
                )
        if len(self.hyperv) > 1 and (len({host.cluster for host in self.hyperv}) > 1 or not self.hyperv[0].cluster):
            raise ProfileError(
                f"The profile {self.name} has several hosts that are not the nodes of one failover cluster",
                next_action="Give each host the same cluster, or make a profile for each stand-alone host.",
            )

    def host(self, name: str) -> HostEndpoint:
        """The host of that name (case does not matter). Raises `NotFound`."""
        for host in self.hyperv:
            if host.name.casefold() == name.casefold():
                return host
        raise NotFound(
            f"The profile {self.name} has no host {name}",
            next_action=f"Its hosts are {', '.join(h.name for h in self.hyperv) or 'none'}.",
        )


def from_endpoints(
    source: Path | str | Mapping[str, object],
    *,
    name: str | None = None,
    storage: str | None = None,
    hyperv: Sequence[str] | None = None,
    site: str | None = None,
    read_only: bool = False,
) -> Profile:
    """The profile of a lab, from its ``endpoints.json`` or the same as a mapping.

    Args:
        source: path of the file, or its contents.
        name: the profile's name; the topology's by default.
        storage: which storage cluster, if the lab has several; the first by default.
        hyperv: names of hosts or failover clusters to take. By default all; in a lab of two sites, whose entries carry
            ``"site"``, those of the storage cluster's site.
        site: which site, in a lab of several; it becomes a part of the profile's name.
        read_only: refuse every change.

    Raises:
        ProfileError: the source cannot be read or lacks something.
        NotFound: no such storage cluster or host.
    """
    data = _read_endpoints(source)
    try:
        known = _entries(data, "storage")
        stores = [entry for entry in known if storage in (None, entry["name"]) and site in (None, entry.get("site"))]
        if not stores:
            wanted_store = f" {storage}" if storage else ""
            where = f" on a site {site}" if site else ""
            sites = sorted({str(entry["site"]) for entry in known if entry.get("site")})
            raise NotFound(
                f"The lab has no storage cluster{wanted_store}{where}",
                next_action=f"Its sites are {', '.join(sites)}." if site and sites else "Name another topology.",
            )
        store = stores[0]
        wanted = None if hyperv is None else {text.casefold() for text in hyperv}
        hosts = [
            entry
            for entry in _entries(data, "hyperv")
            if (
                {str(entry["name"]).casefold(), str(entry.get("cluster") or "").casefold()} & wanted
                if wanted is not None
                else entry.get("site") == store.get("site")
            )
        ]
        if wanted and not hosts:
            raise NotFound(
                f"The lab has no host or cluster {', '.join(sorted(wanted))}",
                next_action="Name hosts or failover clusters of its endpoints file.",
            )
        secrets = {
            str(entry["name"]): Secret(str(entry["password"])) for entry in (store, *hosts) if "password" in entry
        }
        for entry in hosts:
            login = entry.get("sql")
            if isinstance(login, Mapping):
                secrets[f"{entry['name']}/sql"] = Secret(str(login["password"]))
        svms = _entries(store, "svms")
        secrets |= {f"{store['name']}/{svm['name']}": Secret(str(svm["password"])) for svm in svms if "password" in svm}
        return Profile(
            name=name or str(data.get("topology") or "lab") + (f"-{site}" if site else ""),
            storage=_storage(store),
            hyperv=tuple(_host({"configuration_name": LAB_CONFIGURATION, **entry}) for entry in hosts),
            proxy=_optional(data, "proxy"),
            read_only=read_only,
            secrets=secrets,
            journals=None if isinstance(source, Mapping) else Path(source).resolve().parent / "journals",
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise ProfileError(
            "The endpoints of the lab cannot be understood",
            why=f"{type(problem).__name__}: {problem}",
            next_action="Start the lab again; it writes the file anew.",
        ) from problem


def profile_folder() -> Path:
    """Where saved profiles are: the user's configuration folder."""
    return platformdirs.user_config_path("smhvlab") / "profiles"


def save(profile: Profile, *, folder: Path | None = None) -> Path:
    """Write the profile as TOML, without passwords, and return the file."""
    target = (folder or profile_folder()) / f"{profile.name}.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    document: dict[str, object] = {"read_only": profile.read_only}
    if profile.proxy:
        document["proxy"] = profile.proxy
    storage = profile.storage
    document["storage"] = _filled(
        name=storage.name,
        host=storage.host,
        port=storage.port,
        user=storage.user,
        ca_file=storage.ca_file,
        svms=[{"name": svm.name, "user": svm.user} for svm in storage.svms],
    )
    document["hyperv"] = [
        _filled(
            name=host.name,
            host=host.host,
            port=host.port,
            user=host.user,
            ca_file=host.ca_file,
            cluster=host.cluster,
            authentication=host.authentication,
            configuration_name=host.configuration_name,
            sql_user=host.sql_user,
        )
        for host in profile.hyperv
    ]
    draft = target.with_name(target.name + ".new")
    draft.write_text(tomli_w.dumps(document), encoding="utf-8")
    draft.replace(target)
    return target


def load(name: str, *, folder: Path | None = None) -> Profile:
    """The saved profile of that name. Raises `ProfileError` if there is none or it cannot be read."""
    if not _NAME.match(name):
        raise ProfileError(
            f"{name!r} is no name for a profile",
            next_action="Use the name that it was saved under, the path of a lab's endpoints.json, or lab:TOPOLOGY.",
        )
    source = (folder or profile_folder()) / f"{name}.toml"
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(
            f"There is no profile {name}",
            next_action=f"Saved profiles: {', '.join(names(folder=folder)) or 'none'}. Save one first, or name a lab: "
            '"lab:standalone".',
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ProfileError(
            f"The profile {name} cannot be read", why=str(problem), next_action="Correct its file, or save it again."
        ) from problem
    try:
        return Profile(
            name=name,
            storage=_storage(document["storage"]),
            hyperv=tuple(_host(entry) for entry in _entries(document, "hyperv")),
            proxy=_optional(document, "proxy"),
            read_only=bool(document.get("read_only", False)),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise ProfileError(
            f"The profile {name} is incomplete",
            why=f"{type(problem).__name__}: {problem}",
            next_action="It needs a [storage] table and [[hyperv]] tables with name, host and user.",
        ) from problem


def names(*, folder: Path | None = None) -> list[str]:
    """Names of the saved profiles, sorted."""
    where = folder or profile_folder()
    return sorted(path.stem for path in where.glob("*.toml")) if where.is_dir() else []


def _read_endpoints(source: Path | str | Mapping[str, object]) -> Mapping[str, object]:
    if isinstance(source, Mapping):
        return source
    try:
        data = json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ProfileError(
            "The lab's endpoints file cannot be read",
            why=str(problem),
            next_action="Start the lab, or correct the path.",
        ) from problem
    if not isinstance(data, dict):
        raise ProfileError("The lab's endpoints file is no JSON object", next_action="Start the lab again.")
    return data


def _entries(data: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    entries = data.get(name) or []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(f"{name} is not a list of tables")
    return entries


def _storage(entry: object) -> StorageEndpoint:
    if not isinstance(entry, Mapping):
        raise TypeError("storage is not a table")
    return StorageEndpoint(
        name=str(entry["name"]),
        host=str(entry["host"]),
        port=int(entry.get("port", 443)),
        user=str(entry.get("user", "admin")),
        ca_file=_optional(entry, "ca_file"),
        svms=tuple(
            SvmEndpoint(name=str(svm["name"]), user=str(svm.get("user", "vsadmin"))) for svm in _entries(entry, "svms")
        ),
    )


def _host(entry: Mapping[str, object]) -> HostEndpoint:
    return HostEndpoint(
        name=str(entry["name"]),
        host=str(entry["host"]),
        port=int(str(entry.get("port", 5986))),
        user=str(entry["user"]),
        ca_file=_optional(entry, "ca_file"),
        cluster=_optional(entry, "cluster"),
        authentication=str(entry.get("authentication", "negotiate")),
        configuration_name=str(entry.get("configuration_name", "Microsoft.PowerShell")),
        sql_user=_sql_user(entry),
    )


def _sql_user(entry: Mapping[str, object]) -> str:
    login = entry.get("sql")
    return str(login["user"]) if isinstance(login, Mapping) else str(entry.get("sql_user", "sa"))


def _optional(entry: Mapping[str, object], name: str) -> str | None:
    value = entry.get(name)
    return None if value in (None, "") else str(value)


def _filled(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value not in (None, [], "")}
