"""Rows and histories become frames whose types are those of the columns, full or empty."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import Ledger
from ledger.errors import InvalidValue, MissingExtra, UnknownColumn
from ledger.frames import tabled, to_arrow, to_pandas, to_polars
from ledger.projections.run import COLUMNS
from tests.builders import launched, metrics_logged
from tests.places import on_both

FRAMES = {"pandas": to_pandas, "polars": to_polars, "arrow": to_arrow}
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
KINDS = {
    "pandas": {"text": "string", "json": "string", "integer": "Int64", "real": "float64", "moment": "datetime64[us, UTC]"},
    "polars": {"text": pl.String, "json": pl.String, "integer": pl.Int64, "real": pl.Float64, "moment": pl.Datetime("us", "UTC")},
    "arrow": {"text": pa.string(), "json": pa.string(), "integer": pa.int64(), "real": pa.float64(), "moment": pa.timestamp("us", "UTC")},
}  # fmt: skip

Frame = Callable[..., Any]
every_frame = pytest.mark.parametrize("kind", FRAMES)


def types_of(frame: Any) -> dict[str, Any]:
    """Return each column's type, whichever library's frame it is."""
    if isinstance(frame, pa.Table):
        return dict(zip(frame.schema.names, frame.schema.types, strict=True))
    return dict(frame.schema) if isinstance(frame, pl.DataFrame) else dict(frame.dtypes)


def rows_of(frame: Any) -> list[dict[str, Any]]:
    """Return plain rows, with None for what is missing."""
    if isinstance(frame, pa.Table):
        return frame.to_pylist()
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    return [{name: plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def plain(value: Any) -> Any:
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def expected(row: dict[str, Any]) -> dict[str, Any]:
    """Return a run's row with datetimes for its moments."""
    moments = {name for name, column in COLUMNS.items() if column.kind == "moment"}
    return {name: datetime.fromisoformat(value) if value and name in moments else value for name, value in row.items()}


@on_both
@every_frame
def test_runs_come_with_their_types(book: Ledger, kind: str) -> None:
    """Each column of a run has the type of its declaration and its own values, in the rows' order."""
    book.insert_run("r", None, {"training": {"batch_size": 8, "lr": 1e-4}}, run_name="näme", at=MOMENT)
    book.update_run_status("r", "completed", duration_seconds=60, final_metrics_json={"loss": math.nan})
    book.insert_run("s", None, None)
    rows = book.query_runs()
    frame = FRAMES[kind](rows)

    assert {n: t for n, t in types_of(frame).items() if n != "liveness"} == {
        n: KINDS[kind][c.kind] for n, c in COLUMNS.items()
    }
    assert rows_of(frame) == [expected(row) for row in rows]


@every_frame
def test_no_runs_have_all_columns(kind: str) -> None:
    """An empty list is a frame without rows that has every column of a run, with its type."""
    frame = FRAMES[kind]([])

    assert list(types_of(frame)) == [*COLUMNS, "liveness"]
    assert types_of(frame) == types_of(FRAMES[kind]([dict.fromkeys([*COLUMNS, "liveness"])]))
    assert rows_of(frame) == []


@on_both
@every_frame
def test_a_history_comes_with_its_types(book: Ledger, kind: str) -> None:
    """Steps are integers and metrics floats, with what is missing missing; none is an empty column."""
    book.append([launched(), metrics_logged(1, columns={"step": [1, 2], "loss": [0.5, 1], "acc": [None, 2]})])
    frame = FRAMES[kind](book.get_history("r"))
    names = types_of(frame)

    assert names == {"step": KINDS[kind]["integer"], "acc": KINDS[kind]["integer"], "loss": KINDS[kind]["real"]}
    assert rows_of(frame) == [{"step": 1, "acc": None, "loss": 0.5}, {"step": 2, "acc": 2, "loss": 1.0}]


def test_nan_is_not_missing_where_a_frame_can_tell() -> None:
    """In polars and Arrow a NaN that was logged is another thing than a value that was not."""
    table = {"loss": [math.nan, None, math.inf]}

    assert to_polars(table)["loss"].is_nan().to_list() == [True, None, False]
    assert to_arrow(table)["loss"].null_count == 1
    assert to_pandas(table)["loss"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("values", "kind", "made"),
    [
        ([True, None], "boolean", [True, None]),
        ([1, None, 2], "integer", [1, None, 2]),
        ([1, 2.5], "real", [1.0, 2.5]),
        ([2**70], "real", [float(2**70)]),
        ([10**400], "text", ["1" + "0" * 400]),
        ([True, 1], "text", ["true", "1"]),
        (["2026-01-02T03:04:05.678901Z", None], "moment", [MOMENT, None]),
        ([MOMENT], "moment", [MOMENT]),
        (["2026-13-02T03:04:05.678901Z"], "text", ["2026-13-02T03:04:05.678901Z"]),
        (["2026-01-02"], "text", ["2026-01-02"]),
        ([datetime(2026, 1, 2)], "text", ["2026-01-02T00:00:00"]),
        (["a", {"b": [1, math.inf]}], "text", ["a", '{"b":[1,"Infinity"]}']),
        (["\ud800"], "text", ["\\ud800"]),
        ([None], "real", [None]),
        ([], "real", []),
    ],
)
def test_what_is_not_declared_has_the_type_of_its_values(values: list[Any], kind: str, made: list[Any]) -> None:
    """Of a mixture that is no number the texts stay, and the rest is JSON."""
    (column,) = tabled({"x": values})

    assert (column.kind, vars(column)["values"]) == (kind, made)
    if "\ud800" not in values:
        assert [f({"x": values}).shape[0] for f in FRAMES.values()] == [len(values)] * 3


def test_a_strangers_column_may_have_a_runs_name() -> None:
    """Rows of another kind keep what their values are."""
    assert [column.kind for column in tabled([{"status": 5, "created_at": "2026-01", "month": "2026-01"}])] == [
        "integer",
        "text",
        "text",
    ]


def test_rows_may_differ_in_their_columns() -> None:
    """What a row lacks is missing in it."""
    assert rows_of(to_polars([{"a": 1}, {"b": "x"}])) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


@every_frame
def test_columns_are_chosen(kind: str) -> None:
    """With columns= there are these, in this order, also of no rows; one that is not there is refused."""
    assert list(types_of(FRAMES[kind]([{"run_id": "r", "a": 1, "host": "h"}], ["a", "run_id"]))) == ["a", "run_id"]
    assert list(types_of(FRAMES[kind]([], ["month", "run_id"]))) == ["month", "run_id"]
    with pytest.raises(UnknownColumn, match="Did you mean 'host'"):
        FRAMES[kind]([{"host": "h"}], ["hots"])


@pytest.mark.parametrize("wrong", [5, "rows", [5], [{"a": 1}, None], {"run_id": "r"}, {"a": [1], "b": [1, 2]}])
def test_what_is_no_table_is_refused(wrong: Any) -> None:
    """A single row, a text and columns of several lengths are errors that say what is wanted."""
    with pytest.raises(InvalidValue, match="wanted"):
        to_arrow(wrong)


@every_frame
@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ([{"run_id": "r"}], ["run_id", "run_id"]),
        ([], ["run_id", "run_id"]),
        ([{"run_id": "r"}], "run_id"),
        ([{"run_id": "r"}], 5),
        ([{"run_id": "r"}], [5]),
        ([{"run_id": "r"}], [["run_id"]]),
        ([], [None]),
        ([{5: "r"}], None),
        ({5: ["r"], "a": [1]}, None),
    ],
)
def test_names_are_texts_and_differ(kind: str, table: Any, columns: Any) -> None:
    """A name that is asked for twice, or is no text, is refused in the same way by every library."""
    with pytest.raises(InvalidValue, match="name"):
        FRAMES[kind](table, columns)


@pytest.mark.parametrize(("kind", "module"), [("pandas", "pandas"), ("polars", "polars"), ("arrow", "pyarrow")])
def test_a_missing_extra_is_named(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the error has the line that installs it."""
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(MissingExtra, match=rf"\[{kind}\]"):
        FRAMES[kind]([])


CELLS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(codec="utf-8"))


@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["a", "b", "status", "created_at"]), CELLS, min_size=1), max_size=5)
)
def test_any_rows_make_a_frame(rows: list[dict[str, Any]]) -> None:
    """Whatever the values are, all three libraries take them, and agree."""
    texts = [str(rows_of(frame(rows))).replace("nan", "None") for frame in (to_polars, to_arrow)]

    assert texts[0] == texts[1]
    assert to_pandas(rows).shape[0] == len(rows)
