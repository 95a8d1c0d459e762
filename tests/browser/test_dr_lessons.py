"""The lessons and the runbook of disaster recovery as a reader opens them: pictures of their stored outputs (TR 8)."""

from __future__ import annotations

import pytest

from tests.browser.pages import Screen, Workbench, assert_readable, open_lesson


@pytest.mark.long
@pytest.mark.parametrize(
    "lesson",
    [
        "01_replicate_and_rehearse",
        "02_failover",
        "03_failback",
        "04_failback_site_destroyed",
        "05_active_secondary",
        "failover",
    ],
)
def test_a_lesson_can_be_read_before_it_is_run(workbench: Workbench, screen: Screen, lesson: str) -> None:
    """Sites, plans and runbooks stand in the page in both themes, with nothing fetched from elsewhere."""
    page = open_lesson(screen, workbench.document(f"dr/{lesson}.ipynb"))
    page.locator(".jp-OutputArea").get_by_text("Two sites").first.wait_for(timeout=30_000)
    screen.shoot(f"dr-{lesson}")
    assert_readable(screen, lesson)
    assert screen.outside == set()
