"""The editor of datasets: which VMs are backed up together (TR 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import ipywidgets as widgets

from smhvlab.panels.editor import Editor
from smhvlab.protection.datasets import differences
from smhvlab.snapinfo import Dataset, DatasetMember

_LABEL: Final = {"description_width": "8em"}


class DatasetEditor(Editor[Dataset]):
    """A form of one dataset: its name, its VMs, what it is for; see ``Editor``.

    A VM may be in several datasets; beside the list stands in which others the chosen VMs are, and who is in none.
    """

    what = "Dataset"

    def __init__(self, site: Any, name: str = "") -> None:
        self._others: dict[str, list[str]] = {}
        self._ids: dict[str, str] = {}
        super().__init__(site, name)
        self.view = self._layout()

    def _names(self) -> Sequence[str]:
        known = self.site.tools().snapinfo.datasets()
        self._ids = {vm.name: vm.id for vm in self.site.tools().nodes.vms()}
        self._others = {name: [] for name in self._ids}
        for dataset in known:
            for member in dataset.members:
                self._others.setdefault(member.name, []).append(dataset.name)
        self.inputs["vms"].options = sorted(self._others)
        return [dataset.name for dataset in known]

    def _make_inputs(self) -> dict[str, Any]:
        return {
            "name": widgets.Text(description="name", tooltip="Letters, digits, _ and -", style=_LABEL),
            "description": widgets.Text(description="description", tooltip="What it is for", style=_LABEL),
            "vms": widgets.SelectMultiple(description="VMs", tooltip="Its VMs", rows=8, style=_LABEL),
        }

    def _read(self, name: str) -> Dataset:
        return self.site.tools().snapinfo.dataset(name)

    def _show(self, thing: Dataset | None) -> None:
        self.inputs["name"].value = thing.name if thing is not None else ""
        self.inputs["name"].disabled = thing is not None  # backups carry the name
        self.inputs["description"].value = thing.description if thing is not None else ""
        here = [member.name for member in thing.members] if thing is not None else []
        self.inputs["vms"].options = sorted({*self._others, *here})
        self.inputs["vms"].value = tuple(here)

    def _wanted(self) -> Dataset:
        form = self.inputs
        known = {m.name: m.id for m in self.base.members} if self.base is not None else {}
        chosen = tuple(DatasetMember(known.get(name) or self._ids[name], name) for name in form["vms"].value)
        version = self.base.version if self.base is not None else 0
        return Dataset(form["name"].value.strip(), chosen, form["description"].value.strip(), version)

    def _store(self, thing: Dataset) -> Dataset:
        chosen = [member.name for member in thing.members]
        if self.base is None:
            return self.site.create_dataset(thing.name, chosen, description=thing.description)
        return self.site.change_dataset(thing.name, chosen, description=thing.description, version=thing.version)

    def _text(self) -> str:
        return f"{self.inputs['name'].value}: {', '.join(self.inputs['vms'].value)}; {self.inputs['description'].value}"

    def _different(self, theirs: Dataset) -> list[str]:
        return differences(self._wanted(), theirs)

    def _remarks(self) -> list[str]:
        own = self.inputs["name"].value
        told = []
        for vm in self.inputs["vms"].value:
            if others := [name for name in self._others.get(vm, ()) if name != own]:
                told.append(f"{vm} is in {', '.join(others)} too")
        if nobody := [vm for vm, known in self._others.items() if not known and vm not in self.inputs["vms"].value]:
            told.append(f"In no dataset: {', '.join(nobody)}")
        return told
