"""Conditions on what lies in JSON: below a path, of what kind, and as text or as a number.

SQLite looks into the text of a document; PostgreSQL into jsonb, or into what `ledger_json` makes of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from ledger.store.spelling import VERBATIM, Expression, Spelled

__all__ = ["Found", "each_found", "each_tag"]

Clause = sa.ColumnElement[bool]


class _Document(FunctionElement[Any]):
    """A column that holds JSON, as what a database looks into."""

    inherit_cache = True


@compiles(_Document, "sqlite")
def _text_of_document(element: _Document, compiler: SQLCompiler, **kw: object) -> str:
    (column,) = element.clauses
    return str(compiler.process(column, **kw))


@compiles(_Document, "postgresql")
def _jsonb_of_document(element: _Document, compiler: SQLCompiler, **kw: object) -> str:
    (column,) = element.clauses
    spelled = str(compiler.process(column, **kw))
    if isinstance(column, sa.Column) and isinstance(column.table, sa.Table) and column.name in VERBATIM:
        return spelled.removesuffix(VERBATIM[column.name]) + column.name
    return f"ledger_json({spelled})"


class _At(Spelled):
    inherit_cache = True
    on_sqlite = "json_extract({0}, {1})"
    on_postgresql = "jsonb_path_query_first({0}, ('strict ' || {1})::jsonpath, '{{}}', true)"


class _KindAt(Spelled):
    inherit_cache = True
    on_sqlite = "json_type({0}, {1})"
    on_postgresql = "jsonb_typeof(jsonb_path_query_first({0}, ('strict ' || {1})::jsonpath, '{{}}', true))"


class _Is(Spelled):
    """Whether something is of a kind; it is given with its kind."""

    inherit_cache = True


class _IsText(_Is):
    inherit_cache = True
    on_sqlite = "{1} = 'text'"
    on_postgresql = "{1} = 'string'"


class _IsNumber(_Is):
    inherit_cache = True
    on_sqlite = "{1} IN ('integer', 'real')"
    on_postgresql = "{1} = 'number'"


class _IsTrue(_Is):
    inherit_cache = True
    on_sqlite = "{1} = 'true'"
    on_postgresql = "{0} = 'true'::jsonb"


class _IsFalse(_Is):
    inherit_cache = True
    on_sqlite = "{1} = 'false'"
    on_postgresql = "{0} = 'false'::jsonb"


class _AsText(Spelled):
    type = sa.Text()
    inherit_cache = True
    on_sqlite = "{0}"
    on_postgresql = "({0} #>> '{{}}')"


class _AsNumber(Spelled):
    inherit_cache = True
    on_sqlite = "{0}"
    on_postgresql = "ledger_number({0})"


class _WholeNumber(Spelled):
    inherit_cache = True
    on_sqlite = "{0}"
    on_postgresql = "{0}::numeric"


class _Float(Spelled):
    inherit_cache = True
    on_sqlite = "{0}"
    on_postgresql = "ledger_exactly({0})"


class _EachTag(Spelled):
    inherit_cache = True
    on_sqlite = "json_each({0})"
    on_postgresql = (
        "(SELECT CASE jsonb_typeof(each) WHEN 'string' THEN each #>> '{{}}' END AS value FROM jsonb_array_elements("
        "CASE jsonb_typeof({0}) WHEN 'array' THEN {0} ELSE '[]' END) AS each)"
    )


class _EachFound(FunctionElement[str]):
    """A document, and paths into it: the list of what is found at each, null where nothing is, as JSON text."""

    type = sa.Text()
    inherit_cache = True


@compiles(_EachFound, "sqlite")
def _extracted(element: _EachFound, compiler: SQLCompiler, **kw: object) -> str:
    document, *paths = (compiler.process(clause, **kw) for clause in element.clauses)
    if len(paths) == 1:
        # Of one path SQLite gives the bare value, where true is 1, and of two a list. An object has no [0].
        paths.append("'$[0]'")
    return f"json_extract({', '.join([document, *paths])})"


@compiles(_EachFound, "postgresql")
def _queried(element: _EachFound, compiler: SQLCompiler, **kw: object) -> str:
    document, *paths = element.clauses
    found = [compiler.process(_At(document, path), **kw) for path in paths]
    return f"jsonb_build_array({', '.join(found)})::text"


class Found:
    """What lies at the first of some paths at which there is something."""

    def __init__(self, column: Expression, paths: Sequence[str]) -> None:
        document = _Document(column)
        spelled = [sa.bindparam(None, path, type_=sa.Text(), unique=True) for path in paths]
        self._value = _first([_At(document, path) for path in spelled])
        self.kind = _first([_KindAt(document, path) for path in spelled])
        self.text: sa.ColumnElement[str] = _AsText(self._value)
        self.number: Expression = _AsNumber(self._value)

    @property
    def is_text(self) -> Clause:
        return _IsText(self._value, self.kind)

    @property
    def is_number(self) -> Clause:
        return _IsNumber(self._value, self.kind)

    def is_truth(self, truth: str) -> Clause:
        """Return whether it is true, or false."""
        made = _IsTrue if truth == "true" else _IsFalse
        return made(self._value, self.kind)

    def compared(self, value: float) -> Expression:
        """Return a number as this one is compared with: exactly, whole or not."""
        given = sa.bindparam(None, value, type_=sa.types.NullType(), unique=True)
        return _WholeNumber(given) if isinstance(value, int) else _Float(given)


def each_tag(column: Expression) -> sa.TableValuedAlias:
    """Return the texts of a list, as rows with a `value`."""
    return _EachTag(_Document(column)).table_valued("value", name="tag")


def each_found(column: Expression, paths: Sequence[str]) -> sa.ColumnElement[str]:
    """Return the list of what lies at each of the paths, as JSON text; NULL where there is no document."""
    spelled = [sa.bindparam(None, path, type_=sa.Text(), unique=True) for path in paths]
    return _EachFound(_Document(column), *spelled)


def _first(found: Sequence[Expression]) -> Expression:
    return found[0] if len(found) == 1 else sa.func.coalesce(*found)
