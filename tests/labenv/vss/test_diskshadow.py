"""DiskShadow's scripts, and what vssadmin says."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from labenv.windows.vss import cab
from labenv.windows.vss.document import COMPONENTS, MANIFEST

from .bench import HYPERV, ONTAP, SQL01, Bench, backup

HYPERV_WRITER = "Microsoft Hyper-V VSS Writer"


@pytest.mark.tr("R-AP-01", "R-9-06")
def test_the_registered_providers(bench: Bench) -> None:
    """The hardware provider is there with its name, type, id and version."""
    ran = bench.vssadmin("providers")
    assert ran.code == 0
    at = ran.lines.index("Provider name: 'Data ONTAP VSS Hardware Provider'")
    assert ran.lines[at + 1 : at + 3] == ["   Provider type: Hardware", f"   Provider Id: {ONTAP}"]
    assert ran.lines[at + 3].startswith("   Version: 6.")
    assert "Microsoft Software Shadow Copy provider 1.0" in ran.text
    listed = bench.script("list providers")
    assert ONTAP in listed.text
    assert "Number of providers registered: 2" in listed.text


def test_the_writers_are_stable(bench: Bench) -> None:
    """vssadmin list writers: state and last error of each."""
    ran = bench.vssadmin("writers")
    assert f"   Writer Id: {HYPERV}" in ran.lines
    assert ran.text.count("   State: [1] Stable\n   Last error: No error") == len(bench.states())


@pytest.mark.parametrize("arguments", [("delete", "shadows"), ("list",), ("list", "nothing")])
def test_vssadmin_only_lists(bench: Bench, arguments: tuple[str, ...]) -> None:
    """Everything else is refused with exit code 2."""
    assert bench.go(bench.native("vssadmin.exe", *arguments)).code == 2


def test_list_writers_metadata_names_every_vm_with_its_files(bench: Bench) -> None:
    """What a crash-consistent backup asks in the old eras: components, files, volumes; nothing is frozen."""
    ran = bench.script("list writers metadata")
    assert ran.code == 0
    vm = bench.host.vm("sql01")
    assert f'+ Component "{HYPERV_WRITER}:\\{str(vm.id).upper()}"' in ran.text
    assert "Path = C:\\VMs\\sql01\\sql01, Filespec = sql01_vhd0.vhd" in ran.text
    assert [step for _, step in bench.trace() if step != "Identify"] == []
    assert "+ Component" not in bench.script("list writers status").text


def test_the_metadata_cabinet(bench: Bench) -> None:
    """A manifest, each writer's metadata and the components document; at the end it says that the backup succeeded."""
    ran = bench.script(*backup(SQL01))
    files = cab.unpack(bench.host.files.read("C:\\Windows\\Temp\\x.cab"))
    manifest = ElementTree.fromstring(files[MANIFEST])  # noqa: S314 - our own file
    assert [w.get("name") for w in manifest.findall("WRITER")] == [w.name for w in bench.host.vss.writers]
    document = ElementTree.fromstring(files[COMPONENTS])  # noqa: S314 - as above
    assert document.get("snapshotSetId") == str(ran.set_id)
    found = document.findall("WRITER_COMPONENTS/COMPONENT")
    vm = str(bench.host.vm("sql01").id).upper()
    assert [(c.get("componentName"), c.get("backupSucceeded")) for c in found] == [(vm, "yes")]
    shadow = document.find("SNAPSHOT_SET_DESCRIPTION/SNAPSHOT_DESCRIPTION")
    assert shadow is not None
    assert "Persistent" in str(shadow.get("attributes"))
    metadata = ElementTree.fromstring(files[f"Writer{len(bench.host.vss.writers)}.xml"])  # noqa: S314 - as above
    names = {f.get("filespec") for f in metadata.iter("FILE_LIST")}
    assert {"sql01_vhd0.vhd", "app01_vhd1.vhd"} <= names
    with pytest.raises(ValueError, match="damaged"):
        cab.unpack(bench.host.files.read("C:\\Windows\\Temp\\x.cab").replace(b"yes", b"yeS"))
    with pytest.raises(ValueError, match="not an uncompressed"):
        cab.unpack(b"MSCF" + bytes(100))
    with pytest.raises(ValueError, match="cut off"):
        cab.unpack(b"MSCF")


def test_a_backup_that_was_not_ended_did_not_succeed(bench: Bench) -> None:
    """Without END BACKUP the writers never hear of a success, and the document says no."""
    ran = bench.script(*backup(SQL01)[:-1])
    assert ran.code == 0
    document = cab.unpack(bench.host.files.read("C:\\Windows\\Temp\\x.cab"))[COMPONENTS]
    assert b'backupSucceeded="no"' in document
    assert (HYPERV_WRITER, "BackupComplete") not in bench.trace()
    assert set(bench.states().values()) == {(1, 0)}


def test_volatile_shadow_copies_end_with_the_script(bench: Bench) -> None:
    """Without SET CONTEXT PERSISTENT nothing stays."""
    before = bench.footprint()
    ran = bench.script(*backup(SQL01)[1:])
    assert ran.code == 0
    assert "Number of shadow copies listed: 1" in ran.text
    assert bench.footprint() == before
    assert bench.vssadmin("shadows").code == 1


def test_listing_and_deleting(bench: Bench) -> None:
    """By id, set and volume; a Snapshot copy that was renamed is still found, one that was deleted is not shown."""
    first = bench.script(*backup(SQL01))
    second = bench.script(*backup("V:\\"))
    listed = bench.vssadmin("shadows")
    assert listed.code == 0
    assert f"Contents of shadow copy set ID: {{{first.set_id}}}" in listed.text
    assert "Provider: 'Data ONTAP VSS Hardware Provider'" in listed.text
    assert "Number of shadow copies listed: 1" in bench.script(f"list shadows set {{{first.set_id}}}").text
    assert "Number of shadow copies listed: 1" in bench.script("list shadows volume V:").text
    assert bench.script("list shadows set {00000000-0000-0000-0000-000000000000}").code == 1
    key = bench.array.volume_key("vm_sql01")
    for record in bench.rest("GET", f"/storage/volumes/{key}/snapshots", fields="name")["records"]:
        new = record["name"].replace(f"{{{first.set_id}}}", "SQL_03-04-2013_08.00.00")
        bench.rest("PATCH", f"/storage/volumes/{key}/snapshots/{record['uuid']}", {"name": new})
    assert bench.snapshots("vm_sql01") == ["SQL_03-04-2013_08.00.00", "SQL_03-04-2013_08.00.00_backup"]
    assert str(first.set_id) in bench.vssadmin("shadows").text
    bench.host.power_cut()
    assert str(first.set_id) in bench.vssadmin("shadows").text
    for record in bench.rest("GET", f"/storage/volumes/{key}/snapshots")["records"]:
        bench.rest("DELETE", f"/storage/volumes/{key}/snapshots/{record['uuid']}")
    assert str(first.set_id) not in bench.vssadmin("shadows").text
    assert bench.script(f"delete shadows set {{{second.set_id}}}").code == 0
    assert bench.snapshots("vm_shared") == []
    assert bench.vssadmin("shadows").code == 1


@pytest.mark.tr("R-9-07")
def test_a_software_shadow_copy_occupies_its_lun(bench: Bench) -> None:
    """Without a provider the hardware one is taken; the system's leaves its difference area on the LUN."""
    system = "{b5946137-7b9f-4925-af80-51abd60b20d5}"
    ran = bench.script("set context persistent nowriters", f"add volume V:\\ provider {system}", "create")
    assert ran.code == 0, ran.text
    area = [e.name for e in bench.host.files.listdir("V:\\System Volume Information")]
    assert len(area) == 1
    assert "Type: Differential" in bench.vssadmin("shadows").text
    assert bench.snapshots("vm_shared") == []
    hardware = bench.script(
        "set context persistent nowriters", "add volume V:\\ alias v", "create", "list shadows id %v%"
    )
    assert hardware.code == 0, hardware.text
    assert "Hardware_Assisted" in hardware.text
    assert bench.snapshots("vm_shared") == [f"{{{hardware.set_id}}}"]  # no writers: nothing is recovered
    assert bench.script("delete shadows oldest V:\\").code == 0
    assert not bench.host.files.listdir("V:\\System Volume Information")
    local = bench.script("add volume C:\\", "create")
    assert local.code == 0, local.text
    assert "GLOBALROOT" in local.text


def test_a_lun_without_a_known_storage_system(bench: Bench) -> None:
    """The provider refuses what it cannot find, and the system provider would take it."""
    bench.run("Remove-Item", LiteralPath="HKLM:\\SYSTEM\\CurrentControlSet\\Services\\SWSvc\\Parameters", Recurse=True)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert "8004230e" in ran.text


@pytest.mark.parametrize(("name", "value"), [("UserName", "nobody"), ("Address", "10.10.0.99")])
def test_a_wrong_setting_of_the_provider(bench: Bench, name: str, value: str) -> None:
    """A wrong user is refused by the array, a wrong address answers nothing; mended in the registry, all is well."""
    key = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\SWSvc\\Parameters\\StorageSystems\\svm1"
    old = bench.run("Get-ItemProperty", LiteralPath=key)[0].notes[name]
    bench.run("Set-ItemProperty", LiteralPath=key, Name=name, Value=value)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert "80042306" in ran.text
    logged = bench.events("Navssprv", 4363)[0]
    assert ("6691623" if name == "UserName" else "nothing answers") in logged.message
    assert bench.snapshots("vm_sql01") == []
    bench.run("Set-ItemProperty", LiteralPath=key, Name=name, Value=old)
    assert bench.script(*backup(SQL01)).code == 0


def test_no_password_can_be_read_on_the_host(bench: Bench) -> None:
    """The registry holds address and user only."""
    key = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\SWSvc\\Parameters\\StorageSystems\\svm1"
    found = bench.run("Get-ItemProperty", LiteralPath=key)[0].notes
    assert {name for name in found if not name.startswith("PS")} == {"Address", "UserName"}


@pytest.mark.parametrize(
    "lines",
    [
        ["nonsense"],
        ["set context sometimes"],
        ["set option fast"],
        ["set option noautorecover rollbackrecover"],
        ["set something"],
        ["writer like {66841cd4-6ded-4f4b-8f17-fd23f8ddc3de}"],
        ["begin restore"],
        ["end backup"],
        ["begin backup", "begin backup"],
        ["create"],
        ["add"],
        ["add volume V:\\ provider nobody"],
        ["add volume V:\\ alias"],
        ["add volume Q:\\"],
        ["add volume V:\\", "add volume V:\\"],
        ["add volume V:\\ alias v", "create", "create"],
        ["add volume V:\\ provider {11111111-1111-1111-1111-111111111111}", "create"],
        ["list everything"],
        ["list shadows some"],
        ["delete shadows"],
        ["delete everything"],
        ["expose %x% Z:"],
        ['set metadata "C:\\x.cab'],
        ["set metadata C:\\nowhere\\at\\all\\x.cab", "add volume V:\\", "create"],
    ],
)
def test_scripts_that_are_refused(bench: Bench, lines: list[str]) -> None:
    """A line that fails ends the script with exit code 1; nothing stays."""
    if lines == ["add"]:
        assert bench.script(*lines).code == 0
        return
    before = bench.footprint()
    ran = bench.script(*lines, "exit")
    assert ran.code == 1, ran.text
    assert "-> exit" not in ran.lines
    assert bench.footprint() == before


def test_small_commands(bench: Bench) -> None:
    """Comments, settings, aliases, quotes and EXIT."""
    ran = bench.script(
        "# a comment",
        "REM another",
        "",
        "SET CONTEXT VOLATILE NOWRITERS",
        "set option differential",
        'set metadata "C:\\Windows\\Temp\\my file.cab"',
        "set",
        "add alias here V:\\",
        "add volume %here%",
        "add",
        "reset",
        "add",
        "exit",
        "nonsense",
    )
    assert ran.code == 0
    assert "METADATA C:\\Windows\\Temp\\my file.cab" in ran.lines
    assert "VOLUME V:\\" in ran.lines
    assert "No volumes were added." in ran.lines
    assert ran.lines[-1] == "-> exit"


def test_an_excluded_writer_or_component(bench: Bench) -> None:
    """What is excluded is not frozen; a verified writer that is excluded ends the script."""
    vm = str(bench.host.vm("app01").id).upper()
    ran = bench.script(f'writer exclude "{HYPERV_WRITER}:\\{vm}"', *backup("V:\\"))
    assert ran.code == 0
    assert [lane for lane, step in bench.trace() if step == "freeze"] == ["guest web01"]
    both = bench.script(f"writer exclude {HYPERV}", *backup("V:\\"))
    assert both.code == 1
    alone = bench.script(f'writer exclude "{HYPERV_WRITER}"', *backup("V:\\", verify=""))
    assert alone.code == 0


@pytest.mark.parametrize("arguments", [(), ("/s",), ("/x", "C:\\x.dsh"), ("/s", "C:\\missing.dsh")])
def test_diskshadow_needs_a_script(bench: Bench, arguments: tuple[str, ...]) -> None:
    """Nothing else can be run: exit code 2."""
    assert bench.go(bench.native("diskshadow.exe", *arguments)).code == 2


def test_a_script_in_unicode_and_a_log(bench: Bench) -> None:
    """UTF-16 scripts are read; /l writes what was printed."""
    bench.host.files.write("C:\\Windows\\Temp\\u.dsh", "list providers\r\n".encode("utf-16"))
    ran = bench.go(bench.native("diskshadow.exe", "/s", "C:\\Windows\\Temp\\u.dsh", "/l", "C:\\Windows\\Temp\\u.log"))
    assert ran.code == 0
    logged = bench.host.files.read("C:\\Windows\\Temp\\u.log").decode("utf-16")
    assert logged.splitlines() == ran.lines
