"""Tables with their columns and types even when they are empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SNAPSHOT_COLUMNS = {
    "volume": "str",
    "snapshot": "str",
    "create_time": "datetime64[us, UTC]",
    "size": "int64",
    "owners": "str",
}
"""Columns of a table of Snapshot copies."""


def frame(rows: Sequence[Mapping[str, object]], types: Mapping[str, str]) -> pd.DataFrame:
    """A DataFrame of the rows with exactly these columns and types."""
    import pandas as pd

    columns: dict[str, pd.Series[object]] = {}
    for name, kind in types.items():
        values = [row[name] for row in rows]
        if kind.startswith("datetime"):
            columns[name] = pd.to_datetime(pd.Series(values, dtype="object"), utc=True).astype(kind)
        else:
            columns[name] = pd.Series(values, dtype="object").astype(kind)
    return pd.DataFrame(columns)
