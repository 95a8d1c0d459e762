"""Tables with their columns and types even when they are empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SNAPSHOT_COLUMNS = {
    "volume": "str",
    "snapshot": "str",
    "create_time": "datetime64[us, UTC]",
    "size": "int64",
    "owners": "str",
    "svm": "str",
}
"""Columns of a table of Snapshot copies."""


def frame(rows: Sequence[Mapping[str, object]], types: Mapping[str, str]) -> pd.DataFrame:
    """A DataFrame of the rows with exactly these columns and types."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, kind in types.items():
        values = [row[name] for row in rows]
        dtype: Any = kind
        if kind.startswith("datetime"):
            columns[name] = pd.to_datetime(pd.Series(values, dtype="object"), utc=True).astype(dtype)
        else:
            columns[name] = pd.Series(values, dtype="object").astype(dtype)
    return pd.DataFrame(columns)
