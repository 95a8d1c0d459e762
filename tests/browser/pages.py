"""What the browser tests act on: a workbench under way, and the page that looks at it."""

from __future__ import annotations

import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nbformat

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

THEMES: tuple[Literal["light", "dark"], ...] = ("dark", "light")
FIRST = "00_start_here.ipynb"

READY = """async () => {
  const panel = jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
}"""

RUN = """async ([from, to]) => {
  const notebook = jupyterapp.shell.currentWidget.content;
  for (let n = from; n < to; n++) {
    notebook.activeCellIndex = n;
    await jupyterapp.commands.execute('notebook:run-cell');
  }
}"""

CELLS = """() => jupyterapp.shell.currentWidget.content.model.sharedModel.cells
  .filter(cell => cell.cell_type === 'code')
  .map(cell => [cell.execution_count, cell.outputs.map(output => output.output_type)])"""

THEMED = """dark => (document.body.dataset.jpThemeLight === 'false') === dark
  && !document.querySelector('#jupyterlab-splash')"""

# What a reader cannot read: text that is too pale for WCAG AA, or that is wider than its place. Plotly's text has one
# colour for both themes, so it cannot be at 4.5 in each.
UNREADABLE = """() => {
  const parse = text => { const m = text.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = node => {
    for (let up = node; up; up = up.parentElement) {
      const colour = parse(getComputedStyle(up).backgroundColor);
      if (colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const area of document.querySelectorAll('.jp-OutputArea-output')) {
    if (area.scrollWidth > area.clientWidth + 1) found.push('too wide: ' + area.textContent.slice(0, 60));
    const walker = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
      if (node.closest('button[disabled], style, title, select')) continue;
      const style = getComputedStyle(node);
      const ink = light(parse(node.closest('svg') ? style.fill : style.color)), paper = light(ground(node));
      const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
      const least = node.closest('.js-plotly-plot') ? 4.2 : 4.5;
      if (ratio < least) found.push(`contrast ${ratio.toFixed(1)}: ${walker.currentNode.data.slice(0, 60)}`);
    }
    for (const label of area.querySelectorAll('svg[role=img] text')) {
      const box = label.getBoundingClientRect(), picture = label.ownerSVGElement.getBoundingClientRect();
      if (box.right > picture.right + 1 || box.left < picture.left - 1) found.push('cut off: ' + label.textContent);
    }
  }
  return found;
}"""


@dataclass
class Workbench:
    """``smhvlab lab`` under way: the address that it printed, and the folder of its notebooks."""

    url: str
    folder: Path
    process: subprocess.Popen[str]

    @property
    def base(self) -> str:
        """The server's address."""
        return self.url.partition("/lab")[0]

    def document(self, name: str) -> str:
        """The address of one notebook without the side bars, with nothing open from before."""
        return f"{self.base}/doc/tree/{name}?reset&{self.url.partition('?')[2]}"

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; returns the exit code and what was printed since."""
        self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest


@dataclass
class Screen:
    """A page of the browser, and every address outside this machine that it asked for."""

    page: Page
    shots: Path
    outside: set[str] = field(default_factory=set)

    def heard(self, url: str) -> None:
        """Note a request that leaves the machine."""
        if not re.match(r"(http|ws)://127\.0\.0\.1[:/]|data:|blob:|about:", url):
            self.outside.add(url)

    def show(self, theme: Literal["light", "dark"]) -> None:
        """Switch the desktop's theme, which JupyterLab follows."""
        self.page.emulate_media(color_scheme=theme)
        self.page.wait_for_function(THEMED, arg=theme == "dark")

    def shoot(self, name: str, *, of: Locator | None = None) -> None:
        """Keep pictures of the page as it is, or of a part of it, in both themes."""
        for theme in THEMES:
            self.show(theme)
            (of or self.page).screenshot(path=self.shots / f"{name}-{theme}.png")


def open_lesson(screen: Screen, address: str) -> Page:
    """Open a notebook and wait until its kernel answers (the indicator alone says so too early)."""
    page = screen.page
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext", timeout=60_000)
    page.evaluate(READY)
    return page


def cell_with(workbench: Workbench, text: str, *, lesson: str = FIRST) -> int:
    """Number of the first cell of a lesson whose source has the text."""
    notebook: Any = nbformat.read(workbench.folder / lesson, as_version=4)
    return next(n for n, cell in enumerate(notebook.cells) if text in cell.source)


def assert_readable(screen: Screen, name: str) -> None:
    """Nothing on the page is too pale, too wide or cut off, in either theme."""
    for theme in THEMES:
        screen.show(theme)
        problems = screen.page.evaluate(UNREADABLE)
        assert not problems, f"{name}, {theme} theme: {problems}"
