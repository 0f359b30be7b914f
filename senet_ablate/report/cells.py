"""Numbers as texts, in the cells of tables and in sentences."""

from collections.abc import Iterable

import pandas as pd


def number(
    value: float | None,
    form: str = "",
    low: float | None = None,
    high: float | None = None,
    mark: str = "",
) -> str:
    """A number, a mark behind it, and its interval, where it has one; empty for a missing one."""
    if pd.isna(value):
        return ""
    interval = "" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]"
    return f"{value:{form}}{mark}{interval}"


def span(values: Iterable[float], form: str = "") -> str:
    """From the least to the greatest, or the one that they all are."""
    found = pd.Series(values)
    return " to ".join(dict.fromkeys(f"{one:{form}}" for one in (found.min(), found.max())))


def filled(cells: pd.DataFrame, but: str = "") -> pd.DataFrame:
    """A table of texts without the columns that are empty, but for one of them."""
    return cells.loc[:, (cells != "").any() | (cells.columns == but)]
