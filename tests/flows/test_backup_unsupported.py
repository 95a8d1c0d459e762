"""The seven features of TR 11.8, and where VMs must not lie, each by its cause at the site."""

from __future__ import annotations

import pytest

import smhvlab.site
from smhvlab.errors import NotAllowed
from tests.flows.conftest import Start

FILE_SYSTEM = "HKLM:\\SYSTEM\\CurrentControlSet\\Control\\FileSystem"
AGENT = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\fssagent"


@pytest.mark.tr("R-11.8-01", "R-6.2-13")
@pytest.mark.parametrize(
    ("cause", "options", "said", "section"),
    [
        ("disk-on-share", {"vm": "app01"}, r"app01 lies on an SMB share \(\\\\files\\vms\\more.vhdx\)", "11.8"),
        ("replica-enabled", {"vm": "app01"}, "app01 is replicated by Hyper-V Replica", "11.8"),
        ("fibre-channel-adapter", {"vm": "app01"}, "app01 has a virtual Fibre Channel adapter", "11.8"),
        ("boots-from-lun", {"volume": "vm_shared"}, "hv1 has started from the LUN", "6.2"),
    ],
)
@pytest.mark.parametrize("consistency", ["application", "crash"])
def test_what_keeps_data_off_the_luns_is_refused(
    start: Start, cause: str, options: dict[str, object], said: str, section: str, consistency: str
) -> None:
    """Shares, replication, virtual Fibre Channel and SAN boot: no backup of either type, and one once it is mended."""
    lab = start("standalone-2012")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["app01"])
        lab.faults.cause(cause, **options)
        with pytest.raises(NotAllowed, match=said) as caught:
            site.backup("Set", consistency=consistency).plan()  # type: ignore[arg-type]
        assert (caught.value.tr, bool(caught.value.next_action)) == (section, True)
        lab.faults.mend(cause)
        assert site.backup("Set", consistency=consistency).plan()  # type: ignore[arg-type]


@pytest.mark.tr("R-11.8-01")
def test_snapinfo_and_checkpoints_on_a_share_are_refused(start: Start) -> None:
    """Remote file shares hold neither a VM's checkpoints nor the catalogue of backups."""
    lab = start("standalone-2012")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["app01"])
        host = site.tools().host
        host.run("Set-VM", {"Name": "app01", "SnapshotFileLocation": "\\\\files\\checkpoints"})
        with pytest.raises(NotAllowed, match="keeps its checkpoints on an SMB share") as caught:
            site.backup("Set").plan()
        assert caught.value.tr == "11.8"


@pytest.mark.tr("R-11.8-01", "R-11.1-02")
def test_what_only_burdens_the_array_is_reported(start: Start) -> None:
    """Native thin provisioning, ODX and the agent of remote VSS: the backup is made, and its record names all three."""
    lab = start("standalone-2012")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["app01"])
        assert site.backup("Set", consistency="crash").plan().state.warnings == ()
        host = site.tools().host
        for name in ("DisableDeleteNotification", "FilterSupportedFeaturesMode"):
            host.run("Set-ItemProperty", {"LiteralPath": FILE_SYSTEM, "Name": name, "Value": 0, "Type": "DWord"})
        host.run("New-Item", {"Path": AGENT, "Force": True})
        host.run("Set-ItemProperty", {"LiteralPath": AGENT, "Name": "Start", "Value": 3, "Type": "DWord"})
        done = site.backup("Set", consistency="crash").run_sync().result
        assert [text.partition(":")[2].partition(" is not")[0].strip() for text in done.backup.warnings] == [
            "Windows Server 2012 native thin provisioning",
            "offloaded data transfer (ODX)",
            "SMB VSS for remote file shares (remote VSS)",
        ]
        assert str(done).count("Warning: hv1: ") == 3
        assert site.tools().snapinfo.backup(done.backup.name).warnings == done.backup.warnings
