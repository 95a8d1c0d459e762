"""Which versions go together: Table 1, the lists of 5.4, 7.2 and 11.1 of the TR as data, and a resolver over them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smhvlab.advisor.facts import Host
from smhvlab.advisor.site_facts import Facts

IMT = "NetApp's Interoperability Matrix Tool has the last word on present versions (TR 5.4)."

Version = tuple[int, ...]


def version_of(text: str) -> Version:
    """The numbers of a version, e.g. (6, 4, 1, 4823); empty if there is none."""
    found = re.match(r"\D*(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


@dataclass(frozen=True)
class Supported:
    """An operating system of a list in 5.4: a pattern of its caption, and what else is needed."""

    name: str
    pattern: str
    needs: str = ""


HOSTS = {
    "2008r2": (
        Supported("Windows Server 2008 R2 x64 (Standard, Datacenter, Enterprise; full or core)", r"2008 R2(?! .*web)"),
        Supported("Hyper-V Server 2008 R2", r"Hyper-V Server 2008 R2"),
    ),
    "2012": (
        Supported("Windows Server 2012", r"Server 2012(?! R2)"),
        Supported("Hyper-V Server 2012", r"Hyper-V Server 2012(?! R2)"),
    ),
    "2022": (),
}
"""Where SMHV runs (TR 5.4, 11), by era."""

CONSOLES = (
    Supported("Windows Server 2008 x64 Standard or Enterprise, also with SP2 (full)", r"Server 2008(?! R2)"),
    Supported("Windows Server 2008 R2 x64 Standard or Enterprise (full)", r"Server 2008 R2"),
    Supported("Hyper-V Server 2008 R2 x64 (full or core)", r"Hyper-V Server 2008 R2"),
    Supported("Windows Vista x64 SP1, x86 SP1 or later", r"Vista", "SP1"),
    Supported("Windows XP x86 with SP3 or later", r"Windows XP", "SP3"),
    Supported("Windows Server 2003 x64 or x86 with SP2 or later", r"Server 2003", "SP2"),
)
"""From where SMHV can be managed remotely (TR 5.4)."""

GUESTS = (
    Supported("Windows Server 2008 R2 x64 (all editions)", r"Server 2008 R2"),
    Supported("Windows Server 2008 x64 Standard or Enterprise, also with SP2", r"Server 2008(?! R2)"),
    Supported("Windows Server 2003 x64 or x86 with SP2 or later", r"Server 2003", "SP2"),
    Supported("Windows Vista", r"Vista"),
    Supported("Windows XP", r"Windows XP"),
    Supported("SuSE Linux Enterprise Server 10 SP1 and SP2", r"(SLES|SUSE Linux Enterprise Server) ?10"),
    Supported("Red Hat Enterprise Linux 5.3 to 5.5", r"(RHEL|Red Hat Enterprise Linux).* 5\.[345]", "IC 2.1"),
)
"""Which guests can be backed up (TR 5.4)."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The versions of one host and its array; "" or () is: not installed.

    Attributes:
        era: of the host's Windows.
        seven_mode: whether the array runs 7-Mode.
        dsm: ``Data ONTAP DSM``, ``MSDSM``, or what else claims the paths; ``dsm_version`` is of the former.
    """

    era: str = "2012"
    host_os: str = ""
    ontap: Version = (8, 1, 1)
    seven_mode: bool = False
    smhv: Version = ()
    snapdrive: Version = ()
    dsm: str = "MSDSM"
    dsm_version: Version = ()
    host_utilities: Version = ()
    dotnet35: bool = True
    plugin: Version = ()


@dataclass(frozen=True)
class Verdict:
    """One line of the resolver: what is there, what the TR wants, whether that fits, and why it matters."""

    item: str
    have: str
    wanted: str
    ok: bool
    section: str
    why: str


def resolve(stack: Stack) -> list[Verdict]:
    """Hold a stack of versions against the TR's tables; one verdict per row that applies."""
    return [*_platform(stack), *_snapdrive(stack), *_multipathing(stack), *_rest(stack)]


def _text(version: Version) -> str:
    return ".".join(str(part) for part in version) or "none"


def _platform(s: Stack) -> Iterator[Verdict]:
    if s.seven_mode:
        yield Verdict(
            "ONTAP",
            _text(s.ontap) + " 7-Mode",
            "8.0 or earlier",
            s.ontap[:2] <= (8, 0),
            "5.4 Table 1",
            "7-Mode and clustered Data ONTAP need different host software.",
        )
    else:
        yield Verdict(
            "ONTAP",
            _text(s.ontap),
            "8.1.1 or later",
            s.ontap >= (8, 1, 1),
            "5.4 Table 1",
            "Clustered Data ONTAP is supported from 8.1.1.",
        )
    names = [known.name for known in HOSTS[s.era]]
    if s.era == "2022":
        yield Verdict(
            "Host",
            s.host_os,
            "no release of SMHV",
            True,
            "11",
            f"SMHV ended with its time; the flows need only its VSS provider. {IMT}",
        )
    else:
        fits = any(re.search(known.pattern, s.host_os) for known in HOSTS[s.era])
        yield Verdict("Host", s.host_os, "; ".join(names), fits, "5.4, 11", f"SMHV runs on these alone. {IMT}")


def _snapdrive(s: Stack) -> Iterator[Verdict]:
    if s.era == "2022":
        yield Verdict(
            "VSS provider",
            _text(s.plugin),
            "SnapCenter Plug-in for Microsoft Windows",
            bool(s.plugin),
            "9",
            "It holds the only Data ONTAP VSS hardware provider of this era.",
        )
        return
    if s.era == "2012":
        smhv, snapdrive = (1, 2), (6, 5)
    else:
        smhv, snapdrive = (1, 1), ((6, 2) if s.seven_mode else (6, 4))
    section = "11" if s.era == "2012" else "5.1, Table 1"
    yield Verdict(
        "SMHV",
        _text(s.smhv),
        f"{_text(smhv)} or later",
        s.smhv >= smhv,
        section,
        "An earlier one does not know this era.",
    )
    yield Verdict(
        "SnapDrive",
        _text(s.snapdrive),
        f"{_text(snapdrive)} or later",
        s.snapdrive >= snapdrive,
        section,
        "SMHV does everything on the array through SnapDrive and its VSS provider.",
    )
    if s.seven_mode:
        yield Verdict(
            "SnapDrive",
            _text(s.snapdrive),
            "6.3 or earlier (Table 1); 6.2 or later (5.1)",
            (6, 2) <= s.snapdrive[:2] <= (6, 3),
            "5.1, Table 1",
            "Read together, both sentences leave 6.2 and 6.3.",
        )


def _multipathing(s: Stack) -> Iterator[Verdict]:
    ontap_dsm = s.dsm.startswith("Data ONTAP DSM")
    release = _text(s.dsm_version) if ontap_dsm and s.dsm_version else ""
    have = f"{s.dsm or 'none'} {release}".strip()
    if s.era == "2012":
        yield Verdict(
            "DSM", have, "MSDSM", s.dsm == "MSDSM", "11.1", "SnapDrive on Windows Server 2012 does not support another."
        )
    elif s.era == "2008r2":
        if s.seven_mode:
            wanted, fits = "Data ONTAP DSM 3.2R1 to 3.4", ontap_dsm and (3, 2) <= s.dsm_version[:2] <= (3, 4)
        else:
            wanted = "Data ONTAP DSM 3.5, or MSDSM with Windows Host Utilities 6.0"
            fits = (ontap_dsm and s.dsm_version >= (3, 5)) or s.dsm == "MSDSM"
        why = "Without a supported DSM a lost path is a lost disk."
        yield Verdict("DSM", have, wanted, fits, "5.4 Table 1, 7.2", why)
    yield from _host_utilities(s, ontap_dsm)


def _host_utilities(s: Stack, ontap_dsm: bool) -> Iterator[Verdict]:
    have, item = _text(s.host_utilities), "Windows Host Utilities"
    if s.era == "2012":
        fits = s.host_utilities >= (6, 0, 1)
        why = "Mandatory on host and guest: they set the time-outs, and switch Windows' own space reclamation off."
        yield Verdict(item, have, "6.0.1 or later", fits, "11.1", why)
    elif s.era == "2008r2" and s.seven_mode:
        yield Verdict(item, have, "5.0", s.host_utilities[:1] == (5,), "5.4 Table 1", "They set the disks' time-outs.")
    elif s.era == "2008r2" and s.dsm == "MSDSM":
        why = "With Data ONTAP DSM 3.5 they are not needed; with MSDSM nobody else sets the time-outs."
        yield Verdict(item, have, "6.0", s.host_utilities >= (6, 0), "5.4 Table 1", why)
    elif s.era == "2008r2" and ontap_dsm:
        yield Verdict(
            item, have, "not needed with Data ONTAP DSM 3.5", True, "5.4 Table 1", "The DSM brings its tools."
        )


def _rest(s: Stack) -> Iterator[Verdict]:
    if s.era == "2012":
        why = "SnapDrive 6.5 is built on it; Windows Server 2012 comes with 4.x only switched on."
        yield Verdict(
            ".NET Framework 3.5", "installed" if s.dotnet35 else "not installed", "installed", s.dotnet35, "11.1", why
        )


def guest_support(caption: str, *, integration: str = "") -> Verdict:
    """Whether a guest operating system is in the list of 5.4. ``integration``: version of its components."""
    for known in GUESTS:
        if re.search(known.pattern, caption):
            pack = re.search(r"(?:SP|Service Pack) ?(\d)", caption)
            missing = (known.needs == "IC 2.1" and version_of(integration) < (2, 1)) or (
                known.needs == "SP2" and int(pack[1] if pack is not None else 0) < 2
            )
            wanted = f"{known.name}, with integration components 2.1" if known.needs == "IC 2.1" else known.name
            return Verdict("Guest", caption, wanted, not missing, "5.4", "Without them it cannot be backed up online.")
    return Verdict("Guest", caption, "a guest of the list in 5.4", False, "5.4", f"Not in the list. {IMT}")


def console_support(caption: str) -> Verdict:
    """Whether SMHV can be managed remotely from an operating system (5.4)."""
    for known in CONSOLES:
        if re.search(known.pattern, caption):
            return Verdict("Console", caption, known.name, True, "5.4", "It is in the list.")
    return Verdict("Console", caption, "a system of the list in 5.4", False, "5.4", f"Not in the list. {IMT}")


def smhv_of(host: Host) -> Version:
    """Version of SnapManager for Hyper-V on a host."""
    names = (p for p in host.software if "snapmanager" in p.name.casefold() and "hyper-v" in p.name.casefold())
    return next((version_of(p.version) for p in names), ())


def stack_of(facts: Facts, host: Host) -> Stack:
    """The versions of one host and the site's array."""

    def installed(part: str) -> Version:
        program = host.program(part)
        return version_of(program.version) if program is not None else ()

    return Stack(
        era=host.era,
        host_os=host.caption,
        ontap=facts.array.version,
        smhv=smhv_of(host),
        snapdrive=installed("SnapDrive"),
        dsm=host.dsm,
        dsm_version=installed("Data ONTAP DSM"),
        host_utilities=installed("Host Utilities"),
        dotnet35=host.program(".NET Framework 3.5") is not None,
        plugin=installed("SnapCenter Plug-in for Microsoft Windows"),
    )
