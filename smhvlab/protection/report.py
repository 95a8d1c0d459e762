"""Reports: one HTML file that opens without a network: tables, plot, evidence; each table also as CSV (TR 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Final, TypeVar

from smhvlab.errors import NotAllowed, SmhvLabError
from smhvlab.protection.hosts import check_report_folder
from smhvlab.protection.settings import load
from smhvlab.wires.wave import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from smhvlab.protection.scheduler import Diary
    from smhvlab.site import Site

T = TypeVar("T")
_STYLE: Final = (
    "body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#222;background:#fff}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #ddd;padding:3px 10px 3px 0;text-align:left;vertical-align:top}"
    "th{color:#555;font-weight:600}.note{color:#8a4b00}ul{margin:.2em 0}"
    "@media (prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}th{color:#aaa}"
    ".note{color:#e0a458}}"
)


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        html: the file to open.
        tables: the CSV files beside it.
        host: on which host they are, "" for this station.
        missing: parts that could not be read, each with the reason.
    """

    html: PurePath
    tables: tuple[PurePath, ...]
    missing: tuple[str, ...] = ()
    host: str = ""

    def __str__(self) -> str:
        where = f" in {self.html.parent} of {self.host}" if self.host else ""
        lines = [f"{self.html.name}, and {len(self.tables)} tables as CSV{where}"]
        return "\n".join([*lines, *(f"  missing: {text}" for text in self.missing)])


def write(site: Site, folder: Path, *, days: float = 30, diary: Diary | None = None) -> Report:
    """Write the report of a site to a folder of this station; an older one there is replaced.

    Args:
        days: how far the Snapshot budget looks ahead.
        diary: runs to tell of, such as those of ``site.run_until``.

    Raises:
        NotAllowed: the folder cannot be written.
    """
    files, missing = _compose(site, days, diary)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise NotAllowed(
            f"The report cannot be written to {folder}", why=str(error), next_action="Name another folder.", tr="5.4"
        ) from error
    html, *tables = (folder / name for name in files)
    return Report(html, tuple(tables), tuple(missing))


def write_to_host(site: Site, *, days: float = 30, diary: Diary | None = None) -> Report:
    """Write the report of a site to the report folder of its host, each into a folder named by the time (TR 5.4).

    Raises:
        NotAllowed: no report folder is set, or it is on a cluster shared volume.
        PowerShellError: the host cannot write there.
    """
    tools = site.tools()
    reports = load(tools.snapinfo).reports
    broken = [check for check in check_report_folder(reports) if check.level == "error"]
    if broken:
        raise NotAllowed(
            f"There is no place for reports; the rule is: {broken[0].rule}",
            why=broken[0].finding,
            next_action="Name a folder with site.add_host(...) or site.set_settings(...), or report to this station.",
            tr=broken[0].tr,
        )
    files, missing = _compose(site, days, diary)
    folder = PureWindowsPath(reports) / site.now().strftime("%m-%d-%Y_%H.%M.%S")
    tools.host.run("New-Item", {"Path": str(folder), "ItemType": "Directory", "Force": True})
    written = {"NoNewline": True, "Encoding": "UTF8", "Force": True}
    collect(
        tools.host.begin("Set-Content", {"LiteralPath": str(folder / name), "Value": text, **written})
        for name, text in files.items()
    )
    html, *tables = (folder / name for name in files)
    return Report(html, tuple(tables), tuple(missing), tools.host.endpoint.name)


def _compose(site: Site, days: float, diary: Diary | None) -> tuple[dict[str, str], list[str]]:
    """The files of a report by name, the page first, and what could not be read."""
    now = site.now()
    tables, missing = _tables(site, days, diary)
    parts = [f"<h1>Protection of {escape(site.name)}</h1><p>{now:%Y-%m-%d %H:%M} UTC, the site's time</p>"]
    parts += [f'<p class="note">Not read: {escape(text)}</p>' for text in missing]
    plot = _tried("Snapshot budget", missing, lambda: site.budget(days=days))
    if plot is not None:
        parts.append(f"<h2>Snapshot budget</h2><p>{plot._repr_html_()}</p>")
        if (policies := dict(tables).get("Policies")) is not None and policies.empty:
            parts.append("<p>There is no policy yet: nothing is taken or deleted by itself.</p>")
        if plot.forecasts:
            parts.append(plot.figure().to_html(full_html=False, include_plotlyjs=True, div_id="budget"))
    for title, table in tables:
        body = table.to_html(index=False, border=0, escape=True) if len(table) else "<p>none</p>"
        parts.append(f"<h2>{escape(title)}</h2>{body}")
    backups = _tried("evidence", missing, lambda: site.tools().snapinfo.backups()) or []
    parts.append("<h2>Evidence</h2>")
    for backup in backups:
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in backup.evidence)
        parts.append(f"<p>{escape(backup.name)}</p><ul>{sentences}</ul>")
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Protection of {escape(site.name)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    files = {f"{title.lower().replace(' ', '-')}.csv": table.to_csv(index=False) for title, table in tables}
    return {"report.html": page, **files}, missing


def _tables(site: Site, days: float, diary: Diary | None) -> tuple[Sequence[tuple[str, pd.DataFrame]], list[str]]:
    """Title and contents of each table; what could not be read is told."""
    wanted: dict[str, Callable[[], pd.DataFrame]] = {
        "Policies": site.policies,
        "Datasets": site.datasets,
        "Unprotected VMs": site.unprotected,
        "Budget": lambda: site.budget(days=days).frame(),
        "Coming runs": lambda: site.schedule(days=1),
        "Overlaps": site.overlaps,
        "Backups": site.backups,
        "Retention": site.retention,
        "Snapshot copies": site.snapshots,
    }
    missing: list[str] = []
    found = [(title, table) for title, make in wanted.items() if (table := _tried(title, missing, make)) is not None]
    if diary is not None:
        found.insert(0, ("Runs", diary.frame()))
    return found, missing


def _tried(title: str, missing: list[str], make: Callable[[], T]) -> T | None:
    """What a part of the report needs; a part that cannot be read must not keep the others away."""
    try:
        return make()
    except SmhvLabError as error:
        missing.append(f"{title}: {error.message}")
        return None
