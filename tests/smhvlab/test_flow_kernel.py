"""A flow that a cell awaits, in a real kernel: the stop button cancels it, and what had started is undone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

HERE = Path(__file__).parent
CELL = """
def seam(where):
    if where == "before make vol1/copy1":
        started.touch()
        while not go_on.exists():
            time.sleep(0.01)

site.seam = seam
await flow.run()
"""


class Kernel:
    """A kernel, and what its cells say."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def run(self, code: str) -> str:
        """Run a cell to its end; gives the error's name and value, "" if there is none."""
        return self.end_of(self.client.execute(code))

    def end_of(self, cell: str) -> str:
        while True:
            reply = self.client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == cell:
                content = reply["content"]
                return "" if content["status"] == "ok" else f"{content['ename']}: {content['evalue']}"


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A kernel on its own pipes, with a toy flow in it."""
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    manager = KernelManager(transport="ipc")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        made = Kernel(manager, client)
        setup = f"import sys, time, pathlib; sys.path.insert(0, {str(HERE)!r}); from toy_site import *"
        assert made.run(f"{setup}; site = ToySite(World()); flow = ToyFlow(site)") == ""
        yield made
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_the_stop_button_waits_for_the_request_and_undoes(kernel: Kernel, tmp_path: Path) -> None:
    """The interrupt is raised in the cell after the request in flight has ended and everything is undone."""
    started, go_on = tmp_path / "started", tmp_path / "go_on"
    assert kernel.run(f"started, go_on = pathlib.Path({str(started)!r}), pathlib.Path({str(go_on)!r})") == ""
    cell = kernel.client.execute(CELL, stop_on_error=False)  # else what follows at once is aborted
    deadline = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kernel.manager.interrupt_kernel()
    time.sleep(0.5)  # time for a wrong flow to leave the request and undo too early
    go_on.touch()
    assert kernel.end_of(cell).partition(":")[0] in ("CancelledError", "KeyboardInterrupt")
    assert kernel.run("assert site.world.made == ['vol1/copy1'], site.world.made") == ""
    assert kernel.run("assert site.world.things == set(), site.world.things") == ""
    assert kernel.run("assert flow.record.outcome == 'undone', flow.record") == ""
    assert kernel.run("site.seam = quiet; assert (await flow.run()).outcome == 'done'") == ""


def test_buttons_work_while_a_cell_awaits(kernel: Kernel) -> None:
    """A stepper in a kernel: a click starts, an awaited cell sees the end, the picture follows."""
    assert kernel.run("from smhvlab.panels.stepper import StepperPanel; panel = StepperPanel(flow); panel") == ""
    assert kernel.run("panel.next_button.click(); await panel.settled()") == ""
    assert kernel.run("assert panel.status.value == 'waiting for your approval of: Look at them'") == ""
    assert kernel.run("panel.run_button.click(); await panel.settled()") == ""
    assert kernel.run("assert panel.outcome == 'done', panel") == ""
    assert kernel.run("assert '✓ done' in panel.picture.value") == ""
