"""What the databases spell differently: each a Core expression with a spelling for SQLite and one for PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = [
    "MOMENT",
    "VERBATIM",
    "Expression",
    "Spelled",
    "Texts",
    "among",
    "descending",
    "each_named",
    "lease_in",
    "not_by_index",
    "place_in",
    "postgresql_dialect",
    "seconds_between",
    "segment_in",
    "stated",
]

# A moment as text is a timestamptz on PostgreSQL; there the driver gives and takes it as text all the same.
MOMENT: sa.types.TypeEngine[str] = sa.Text().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")

# What lies in jsonb on PostgreSQL, which keeps neither the order of keys nor every number, and the column beside it
# that has the text. Who names the column in Core means the text.
VERBATIM = {name: f"{name}_text" for name in ("config_json", "final_metrics_json")}

_SQLITE, _POSTGRESQL = "sqlite", "postgresql"
Expression = sa.ColumnElement[Any]


class Texts(sa.types.UserDefinedType[list[str]]):
    """Several texts in one parameter."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "TEXT[]"


class Spelled(FunctionElement[Any]):
    """Takes the words from a template, which the clauses fill, for each kind of database."""

    inherit_cache = True
    on_sqlite = on_postgresql = ""


@compiles(Spelled, _SQLITE)
def _spell_for_sqlite(element: Spelled, compiler: SQLCompiler, **kw: object) -> str:
    return element.on_sqlite.format(*(compiler.process(clause, **kw) for clause in element.clauses))


@compiles(Spelled, _POSTGRESQL)
def _spell_for_postgresql(element: Spelled, compiler: SQLCompiler, **kw: object) -> str:
    return element.on_postgresql.format(*(compiler.process(clause, **kw) for clause in element.clauses))


class _Among(Spelled):
    # Of no type: a Boolean would be compared with 1 on SQLite, and no index serves that.
    inherit_cache = True
    on_sqlite = "{0} IN (SELECT value FROM json_each({1}))"
    on_postgresql = "{0} = ANY({1}::text[])"


class _EachNamed(Spelled):
    inherit_cache = True
    on_sqlite = "json_each({0})"
    on_postgresql = '(SELECT unnest({0}::text[]) COLLATE "C" AS value)'


class _PlaceIn(Spelled):
    type = sa.BigInteger()
    inherit_cache = True
    on_sqlite = "instr({0}, {1})"
    on_postgresql = "strpos({0}, {1})"


class _NotByIndex(Spelled):
    type = sa.Text()
    inherit_cache = True
    on_sqlite = "+{0}"
    on_postgresql = "({0} || '')"


class _SecondsBetween(Spelled):
    type = sa.Double()
    inherit_cache = True
    # A day's fraction is a float, whose last digits would make 600 s more than 600 s.
    on_sqlite = "round((julianday({0}) - julianday({1})) * 86400.0, 3)"
    on_postgresql = "round(extract(epoch FROM ({0} - {1})), 3)"


class _Lease(Spelled):
    type = sa.Double()
    inherit_cache = True
    on_sqlite = "json_extract({0}, '$.lease')"
    on_postgresql = "(nullif({0}, '')::json ->> 'lease')::numeric"


class _Segment(Spelled):
    type = sa.Text()
    inherit_cache = True
    on_sqlite = "json_extract({0}, '$.segment_start')"
    on_postgresql = "(nullif({0}, '')::json ->> 'segment_start')"


class _Descending(Spelled):
    """NULLs come last: on SQLite by themselves, and there an index in this order serves only so."""

    inherit_cache = True
    on_sqlite = "{0} DESC"
    on_postgresql = "{0} DESC NULLS LAST"


class _Stated(Spelled):
    """One text of a payload. What somebody made unreadable behind our back must not keep an index from being kept."""

    type = sa.Text()
    inherit_cache = True
    on_sqlite = (
        "CASE WHEN json_valid({0}) THEN "
        "coalesce(json_extract({0}, '$.wandb_run_id'), json_extract({0}, '$.columns.wandb_run_id')) END"
    )
    on_postgresql = "coalesce(ledger_json({0}) ->> 'wandb_run_id', ledger_json({0}) #>> '{{columns,wandb_run_id}}')"


def among(column: Expression, parameter: str) -> sa.ColumnElement[bool]:
    """Return whether a text is among those that the parameter of this name lists."""
    return _Among(column, sa.bindparam(parameter, None, type_=Texts()))


def each_named(parameter: str) -> sa.FromClause:
    """Return the texts that the parameter of this name lists, as rows with a `value`."""
    made: sa.FromClause = _EachNamed(sa.bindparam(parameter, None, type_=Texts())).table_valued("value", name="named")
    return made


def place_in(column: Expression, value: object) -> sa.ColumnElement[int]:
    """Return where a text occurs in another, 0 for nowhere."""
    return _PlaceIn(column, value if isinstance(value, sa.ColumnElement) else sa.literal(value, sa.Text()))


def not_by_index(column: Expression) -> Expression:
    """Return a column's value, for a condition that no index is to be chosen for."""
    return _NotByIndex(column)


def seconds_between(later: Expression, earlier: Expression) -> sa.ColumnElement[float]:
    """Return how many seconds lie between two moments, to the millisecond."""
    return _SecondsBetween(later, earlier)


def lease_in(beside: Expression) -> sa.ColumnElement[float]:
    """Return the lease that is carried along beside a row."""
    return _Lease(beside)


def segment_in(beside: Expression) -> sa.ColumnElement[str]:
    """Return since when a run has been active without a break, as it is carried along beside a row."""
    return _Segment(beside)


def descending(column: Expression) -> Expression:
    """Return the order from the largest down, NULLs last."""
    return _Descending(column)


def stated(payload: Expression) -> sa.ColumnElement[str]:
    """Return the W&B id that a payload states, as itself or among amended columns."""
    return _Stated(payload)


class _VerbatimPreparer(psycopg.PGIdentifierPreparer_psycopg):
    def quote(self, ident: str) -> str:
        return super().quote(VERBATIM.get(ident, ident))


class _Dialect(psycopg.PGDialect_psycopg):
    preparer = _VerbatimPreparer
    supports_statement_cache = True


_made: Callable[..., sa.Dialect] = _Dialect


@cache
def postgresql_dialect() -> sa.Dialect:
    """Return the dialect of queries; that of the schema is SQLAlchemy's own."""
    return _made(paramstyle="format")
