"""Rows as bytes for other programs: JSON Lines, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence

from ledger.errors import AskedWrongly

__all__ = ["BINARY", "FORMATS", "encoded", "format_of"]

Rows = Sequence[Mapping[str, object]]

FORMATS = ("table", "json", "jsonl", "csv", "parquet")
BINARY = frozenset({"parquet"})


def format_of(said: Namespace) -> str:
    """Return the format that is asked for; --json is one of them."""
    if said.as_json and said.format not in (None, "json"):
        raise AskedWrongly(f"--json and --format {said.format} are two formats: say one of them.")
    return "json" if said.as_json else said.format or "table"


def encoded(rows: Rows, columns: Sequence[str], format: str) -> bytes:
    """Return these columns of *rows* in a format that is made for other programs."""
    if format == "csv":
        return _csv(rows, columns)
    if format == "jsonl":
        lines = (json.dumps({name: row[name] for name in columns}, default=str) for row in rows)
        return "".join(f"{line}\n" for line in lines).encode()
    return _parquet(rows, columns)


def _csv(rows: Rows, columns: Sequence[str]) -> bytes:
    """RFC 4180 in UTF-8: a heading, CRLF, quotes where they are needed; NULL is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _parquet(rows: Rows, columns: Sequence[str]) -> bytes:
    from ledger.frames import to_arrow

    table = to_arrow(rows, columns)
    from pyarrow import parquet  # behind to_arrow, which says what is missing

    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()
