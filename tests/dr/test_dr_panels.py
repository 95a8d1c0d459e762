"""The panels of two sites, and notebooks that are run as runbooks."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path

import nbformat
import pytest

from labenv.lab import Lab
from smhvlab.cli.main import main
from smhvlab.dr import sites
from smhvlab.dr.sites import SitePair
from smhvlab.errors import ConfirmationNeeded, NotFound, SmhvLabError
from smhvlab.panels.runbook import Part, RunbookPanel
from smhvlab.runbook import RunbookFailed, run
from smhvlab.site import Site
from tests.dr.scene import backup, kill_primary, prepare

DOWN = frozenset({"primary-down"})


def test_sites_and_a_runbook_are_shown_and_printed(pair: SitePair, lab: Lab, tmp_path: Path) -> None:
    """Who is alive and runs what, which way each mirror goes; a runbook part by part, and as a page with boxes."""
    prepare(pair)
    backup(pair)
    panel = pair.panel()
    assert "dr-pair-A: alive; runs app01, sql01, web01" in panel.describe()
    assert "svm1:vm_sql01 -> svm2:vm_sql01: snapmirrored" in panel.describe()
    assert "snapmirrored" in panel.render()
    kill_primary(lab)
    panel.look()
    panel.wait()
    assert "dr-pair-A: does not answer; runs no VM" in panel.describe()
    there = pair.secondary
    parts = [Part("operator of B", there.dr.connect_snapinfo(), DOWN), Part("operator of B", there.dr.failover(), DOWN)]
    book = RunbookPanel("Failover <to B>", parts)
    assert "Failover &lt;to B&gt;" in book.render()
    plan = book.plan()
    assert plan is not None
    page = book.save_paper(tmp_path / "page.html").read_text("utf-8")
    assert page.count("☐") == len(plan.steps) + len(plan.confirmations) + len(parts[1].flow.steps()) + 1
    assert "no undo from here on" in page
    assert book.next() is not None
    panel.look()
    panel.wait()
    assert "svm1:snapinfo -> svm2:snapinfo: uninitialized, in use there, not updated" in panel.describe()
    assert repr(book) == "Failover <to B>: 1 of 2 parts done"
    strict = RunbookPanel("Strict", [Part("nobody", there.dr.failover())])
    with pytest.raises(SmhvLabError):
        strict.next()
    assert "primary-down" in strict.render()
    strict.next_button.click()
    assert (strict.next_button.disabled, strict.cancel_button.disabled) == (True, False)
    strict.wait()
    assert (strict.position, type(strict.error).__name__) == (0, "ConfirmationNeeded")
    assert not strict.next_button.disabled


def test_the_sites_are_read_again_and_again_until_somebody_stops(
    pair: SitePair, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads of their own, which leave no connection; an error is shown above what was known; it goes on."""
    looks: list[str] = []
    real = sites.life_of

    def life_of(site: Site | None) -> sites.Life:
        looks.append(threading.current_thread().name)
        if len(looks) == 5:  # the first site at the third look
            raise ConnectionError("torn <wire>")
        return real(site)

    monkeypatch.setattr(sites, "life_of", life_of)

    async def scene() -> None:
        panel = pair.panel(every=0.01)
        pictures: list[str] = []
        panel.picture.observe(lambda change: pictures.append(change["new"]), names="value")
        panel.keep.value = True
        async with asyncio.timeout(60):
            while len(looks) < 8 or panel.again.disabled:  # noqa: ASYNC110 # other threads append to it
                await asyncio.sleep(0.01)
        kill_primary(lab)
        async with asyncio.timeout(60):
            while "does not answer" not in panel.describe():  # noqa: ASYNC110 # as above
                await asyncio.sleep(0.01)
        panel.close()
        await panel.settled()
        count = len(looks)
        await asyncio.sleep(0.1)
        assert len(looks) == count
        torn = [text for text in pictures if "torn &lt;wire&gt;" in text]
        assert torn
        assert all("sql01" in text for text in torn)
        assert panel.error is None
        assert any("Looking at the site" in text for text in pictures)

    asyncio.run(scene())
    here = threading.current_thread().name
    assert [name == here for name in looks[:3]] == [True, True, False]


NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def notebook(path: Path, *cells: str) -> None:
    """A notebook whose first cell holds the parameters."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])  # type: ignore[no-untyped-call]
    book.cells[0].metadata["tags"] = ["parameters"]
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(book, path)


def test_a_run_keeps_notebook_report_and_journals_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters arrive with their types; what it writes into its run's folder is found; failures are kept too."""
    home = tmp_path / "notebooks" / "dr"
    home.mkdir(parents=True)
    parameters = 'site_name: str = "lab:x"  # the site\nrows: int = 3  # how many\nrun_folder: str = ""  # of the run'
    write = "from pathlib import Path\nPath(run_folder, 'journal.jsonl').write_text(f'{site_name} {rows + 1}')"
    show = (
        "from smhvlab.panels.panel import Panel\nimport ipywidgets\n"
        "class Shown(Panel):\n    view = ipywidgets.VBox()\n"
        "    def render(self):\n        return '<b>all ' + '8 VMs run</b>'\n"
        "    def describe(self):\n        return 'x'\n"
        "Shown()"
    )
    notebook(home / "book.ipynb", parameters, write, show)
    notebook(home / "bad.ipynb", parameters, "raise ValueError('no luck')")
    done = run("dr/book", {"site": "lab:y", "rows": "5"}, home=home.parent, runs=tmp_path / "runs")
    assert [path.read_text("utf-8") for path in done.journals] == ["lab:y 6"]
    page = done.report.read_text("utf-8")
    assert "lab:y" in page
    assert "<b>all 8 VMs run</b>" in page  # the picture of a panel, where nothing runs
    assert not re.search(r"<script|<link|<iframe|@import|src=|url\(['\"]?http", page)
    assert {path.parent for path in (done.notebook, done.report)} == {done.folder}
    with pytest.raises(RunbookFailed, match="ValueError: no luck"):
        run("dr/bad", {}, home=home.parent, runs=tmp_path / "bad")
    assert len(list((tmp_path / "bad").rglob("*.html"))) == 1
    for name, given, told in (("dr/none", {}, "no notebook"), ("dr/book", {"cows": 1}, "no parameter cows")):
        with pytest.raises(NotFound, match=told):
            run(name, given, home=home.parent, runs=tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    (home.parent / "00_start_here.ipynb").touch()
    assert main(["run", "dr/book", "-p", "rows", "--json"]) == 1
    assert "is no parameter" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_the_runbook_practises_on_its_own_lab_only(pair: SitePair, lab: Lab, tmp_path: Path) -> None:
    """Standing sites are left as they are unless the disaster is real; a confirmation that is missing is named."""
    sites = {"site": f"{lab.profile}#B", "other_site": f"{lab.profile}#A"}
    with pytest.raises(RunbookFailed, match="Only a lab that was started for this test") as refused:
        run("dr/failover", sites, home=NOTEBOOKS, runs=tmp_path)
    assert "-p practise=false" in refused.value.next_action
    assert (len(pair.primary.datasets()), len(pair.secondary.mirrors())) == (0, 0)
    prepare(pair)
    backup(pair)
    kill_primary(lab)
    with pytest.raises(ConfirmationNeeded, match="does not have: primary-down") as asked:
        RunbookPanel("Unconfirmed", [Part("nobody", pair.secondary.dr.connect_snapinfo())]).next()
    assert "-p confirm=primary-down." in asked.value.next_action
    assert set(pair.secondary.mirrors()["state"]) == {"snapmirrored"}


def test_the_verbs_take_two_sites(pair: SitePair, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan over both sites from a terminal, then the run; the doctor looks into the journals that are named."""
    prepare(pair)
    backup(pair)
    kill_primary(lab)
    both = ["--site", f"{lab.profile}#B", "--partner", f"{lab.profile}#A"]
    assert main(["connect-snapinfo", *both, "--json", "--node", "hv9"]) == 1
    assert "no host hv9" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert main(["connect-snapinfo", *both, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [question["key"] for question in told["accept"]] == ["primary-down"]
    assert main(["connect-snapinfo", *both, "--json", "--yes", "--accept", "primary-down"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["merged"]
    assert main(["doctor", *both, "--journals", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
