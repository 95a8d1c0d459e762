"""The resolver for Table 1, the lists of 5.4, 7.2 and 11.1."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smhvlab.advisor.compatibility import Stack, console_support, guest_support, resolve, version_of

R2 = Stack(
    era="2008r2",
    host_os="Microsoft Windows Server 2008 R2 Enterprise",
    ontap=(8, 1, 1),
    smhv=(1, 1, 0),
    snapdrive=(6, 4, 1),
    dsm="Data ONTAP DSM",
    dsm_version=(3, 5),
)
SEVEN_MODE = replace(R2, ontap=(8, 0, 2), seven_mode=True, snapdrive=(6, 3), dsm_version=(3, 4), host_utilities=(5, 0))
W2012 = Stack(
    era="2012",
    host_os="Microsoft Windows Server 2012 Datacenter",
    smhv=(1, 2),
    snapdrive=(6, 5),
    host_utilities=(6, 0, 1),
)


def wrong(stack: Stack) -> set[str]:
    """Items that do not fit."""
    return {verdict.item for verdict in resolve(stack) if not verdict.ok}


@pytest.mark.parametrize("stack", [R2, SEVEN_MODE, W2012, Stack(era="2022", plugin=(6, 1))])
def test_a_column_of_the_tables_fits(stack: Stack) -> None:
    """The versions of one column of Table 1, or of 11.1, are supported together."""
    assert wrong(stack) == set()


@pytest.mark.tr("R-5.1-01", "R-5.4-03", "R-5.4-04", "R-5.4-05", "R-5.4-06", "R-7.2-02", "R-11-01", "R-AH-03")
@pytest.mark.tr("R-11.1-01", "R-11.1-03", "R-8-01")
@pytest.mark.parametrize(
    ("stack", "item"),
    [
        (replace(R2, snapdrive=(6, 3, 2)), "SnapDrive"),
        (replace(R2, ontap=(8, 1, 0)), "ONTAP"),
        (replace(R2, dsm_version=(3, 4)), "DSM"),
        (replace(R2, smhv=(1, 0)), "SMHV"),
        (replace(R2, host_os="Microsoft Windows Server 2003"), "Host"),
        (replace(R2, dsm="MSDSM"), "Windows Host Utilities"),
        (replace(SEVEN_MODE, snapdrive=(6, 4)), "SnapDrive"),
        (replace(SEVEN_MODE, ontap=(8, 1, 1)), "ONTAP"),
        (replace(SEVEN_MODE, dsm_version=(3, 5)), "DSM"),
        (replace(SEVEN_MODE, host_utilities=(6, 0)), "Windows Host Utilities"),
        (replace(W2012, dsm="Data ONTAP DSM", dsm_version=(3, 5)), "DSM"),
        (replace(W2012, host_utilities=(6, 0, 0)), "Windows Host Utilities"),
        (replace(W2012, dotnet35=False), ".NET Framework 3.5"),
        (replace(W2012, snapdrive=(6, 4, 2)), "SnapDrive"),
        (replace(W2012, smhv=(1, 1)), "SMHV"),
        (replace(W2012, host_os="Microsoft Windows Server 2012 R2 Standard"), "Host"),
        (Stack(era="2022"), "VSS provider"),
    ],
)
def test_what_does_not_fit_is_named_with_its_reason(stack: Stack, item: str) -> None:
    """One version that is out of its row makes that row fail, and says what is wanted and why."""
    assert wrong(stack) == {item}
    (verdict,) = (v for v in resolve(stack) if not v.ok)
    assert verdict.wanted
    assert verdict.why.endswith(".")
    assert verdict.section


def test_msdsm_on_2008_r2_needs_the_host_utilities() -> None:
    """With Data ONTAP DSM they are not needed, with MSDSM they are (Table 1)."""
    assert wrong(replace(R2, dsm="MSDSM", host_utilities=(6, 0))) == set()


@pytest.mark.tr("R-5.4-08")
@pytest.mark.parametrize(
    ("caption", "integration", "fits"),
    [
        ("Windows Server 2008 R2 Datacenter", "", True),
        ("Windows XP Professional", "", True),
        ("SUSE Linux Enterprise Server 10 SP2", "", True),
        ("Red Hat Enterprise Linux 5.4", "2.1", True),
        ("Red Hat Enterprise Linux 5.4", "2.0", False),
        ("Red Hat Enterprise Linux 6.0", "2.1", False),
        ("Windows 2000 Server", "", False),
        ("Windows Server 2003 Standard SP2", "", True),
        ("Windows Server 2003 Standard SP1", "", False),
    ],
)
def test_guests_of_the_list(caption: str, integration: str, fits: bool) -> None:
    """Guests of 5.4, Red Hat only with integration components 2.1, Server 2003 from its second service pack on."""
    assert guest_support(caption, integration=integration).ok is fits


@pytest.mark.tr("R-5.4-07", "R-5.4-09")
def test_consoles_of_the_list() -> None:
    """Where SMHV can be managed from, and that everything else is a matter of the Interoperability Matrix Tool."""
    assert console_support("Windows Vista Business").ok
    assert console_support("Hyper-V Server 2008 R2").ok
    refused = console_support("Windows 11 Pro")
    assert not refused.ok
    assert "Interoperability Matrix Tool" in refused.why


def test_versions_are_numbers() -> None:
    """The first number of a text begins a version; a text without one is none."""
    assert version_of("6.4.1.4823") == (6, 4, 1, 4823)
    assert version_of("SnapDrive 6.5") == (6, 5)
    assert version_of("unknown") == ()
