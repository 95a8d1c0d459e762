"""The advisor's panel filters, unfolds and looks again without blocking."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "advisor"))  # the sites of the rules' tests

from breaks import breaks  # needs the line above
from healthy import standalone

from smhvlab.advisor.catalogue import findings
from smhvlab.panels.advisor import AdvisorPanel
from smhvlab.panels.panel import VIEW

BROKEN = breaks()["ports-open"][0]


def panel(**options: object) -> AdvisorPanel:
    return AdvisorPanel(
        lambda: findings(standalone()),
        release=lambda: None,
        findings=findings(BROKEN),
        **options,  # type: ignore[arg-type]
    )


def test_findings_are_shown_with_what_a_reader_wants_to_know() -> None:
    """One object is live and readable where nothing runs; each row unfolds into why, how and what."""
    shown = panel()
    html = shown.render()
    assert "Port 808 (SMHV and SnapDrive) is not open." in html
    assert "Looked at" in html
    assert "<details>" in html
    assert {"text/plain", "text/html", VIEW} == set(shown._repr_mimebundle_())
    assert repr(shown).startswith("AdvisorPanel(1 error, ")


def test_filters_narrow_the_table() -> None:
    """By severity, section and any part of a rule, object or sentence."""
    shown = panel()
    shown.severity.value = "error"
    assert [finding.rule.id for finding in shown.rows()] == ["ports-open"]
    shown.severity.value = "note"
    assert all(str(finding.rule.severity) == "note" for finding in shown.rows())
    shown.severity.value = "all"
    shown.section.value = "5.3"
    assert {finding.rule.section for finding in shown.rows()} == {"5.3"}
    shown.text.value = "PORT 808"
    assert len(shown.frame()) == len(shown.rows()) > 0
    shown.text.value = "nothing like that"
    assert shown.rows() == []


def test_texts_of_a_site_are_escaped() -> None:
    """A VM's name is text, whatever it holds."""
    broken = breaks()["passthrough"][0]
    vm = replace(broken.vms[0], name="<b>")
    nasty = replace(broken, vms=(vm,))
    assert "<b>" not in AdvisorPanel(list, release=lambda: None, findings=findings(nasty)).render()


def test_looking_again_leaves_the_kernel_free() -> None:
    """The look runs in a thread of its own, the panel shows that it does, and then shows what was found."""
    gate, released = threading.Event(), threading.Event()

    def look() -> list[object]:
        gate.wait(10)
        return list(findings(standalone()))

    async def scene() -> None:
        shown = AdvisorPanel(look, release=released.set, findings=findings(BROKEN))  # type: ignore[arg-type]
        shown.again.click()
        assert shown.again.disabled
        assert "Looking at the site" in shown.render()
        shown.look()  # a second press changes nothing
        gate.set()
        await shown.settled(10)
        assert not shown.again.disabled
        assert "ports-open" not in {finding.rule.id for finding in shown.findings}
        assert released.is_set()

    asyncio.run(scene())


def test_a_look_that_fails_is_shown_and_the_findings_stay() -> None:
    """What was known is not lost because the site does not answer now."""

    def look() -> list[object]:
        raise ConnectionError("no answer")

    shown = AdvisorPanel(look, release=lambda: None, findings=findings(BROKEN))  # type: ignore[arg-type]
    shown.look()
    shown.wait(10)
    assert "no answer" in shown.render()
    assert len(shown.findings) == len(findings(BROKEN))
