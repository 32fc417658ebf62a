"""The rows of the earlier API's file, a page at a time in the order of their run ids, each with its objectives."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ledger.adopting.opening import reading_old
from ledger.errors import shortened
from ledger.events.envelope import storable_text
from ledger.projections.run import COLUMNS

__all__ = ["OldFile", "OldRow", "Scalar", "Unusable"]

Scalar = str | int | float | bytes | None

PAGE_ROWS_MAX = 200
PAGE_BYTES_MAX = 4_000_000

_RUNS = "training_runs"
_OBJECTIVES = "run_objectives"
_TEXTS = f"FROM {_RUNS} WHERE typeof(run_id) = 'text'"
_BY_RUN = "run_id COLLATE BINARY"  # whatever the column was declared with
_RUN_IDS = f"SELECT run_id {_TEXTS} GROUP BY {_BY_RUN}"
_TWICE = f"{_RUN_IDS} HAVING count(*) > 1"
_NO_TEXT = f"SELECT run_id, count(*) FROM {_RUNS} WHERE typeof(run_id) <> 'text' GROUP BY run_id, typeof(run_id)"
_FIRST_PAGE = f"SELECT * {_TEXTS} ORDER BY {_BY_RUN}"
# As a cast of bytes, a text that is no UTF-8 goes back as it came.
_NEXT_PAGE = f"SELECT * {_TEXTS} AND {_BY_RUN} > CAST(? AS TEXT) ORDER BY {_BY_RUN}"
_WITHOUT_RUN = (
    f"SELECT run_id, count(*) FROM {_OBJECTIVES} WHERE run_id IS NULL "
    f"OR run_id NOT IN (SELECT run_id FROM {_RUNS} WHERE run_id IS NOT NULL) GROUP BY run_id"
)


@dataclass(frozen=True)
class OldRow:
    """A row as it was stored, and the rows of `run_objectives` that are of its run."""

    run_id: str
    values: dict[str, Scalar]
    objectives: tuple[dict[str, Scalar], ...] = ()


@dataclass(frozen=True)
class Unusable:
    """Rows that can be of no run: what stands in `run_id`, how many rows of which table they are, and why."""

    run_id: str
    table: str
    count: int
    why: str


class OldFile:
    """One file of the earlier API. Between two pages its writers go on."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        with reading_old(path):
            self.count: int = connection.execute(f"SELECT count(*) FROM {_RUNS}").fetchone()[0]
            self._twice = {run_id for (run_id,) in connection.execute(_TWICE)}
            columns = [name.lower() for _, name, *_ in connection.execute(f"PRAGMA table_info({_OBJECTIVES})")]
        self._has_objectives = "run_id" in columns

    def unusable(self) -> list[Unusable]:
        """Return the rows without a run id of their own that an event can bear."""
        with reading_old(self._path):
            made = [
                Unusable(shortened(value), _RUNS, count, "its run_id is no text; give it one of its own")
                for value, count in self._connection.execute(_NO_TEXT)
            ]
            for (run_id,) in self._connection.execute(_RUN_IDS).fetchall():
                if run_id in self._twice:
                    why = "several rows have this run_id; keep the right one"
                    made.append(Unusable(shortened(run_id), _RUNS, self._count_of(run_id), why))
                elif not _usable(run_id):
                    why = "its run_id is blank, or not all of it is text; give it another"
                    made.append(Unusable(shortened(run_id), _RUNS, 1, why))
            if self._has_objectives:
                why = "its run is not in training_runs"
                for value, count in self._connection.execute(_WITHOUT_RUN):
                    made.append(Unusable(shortened(value), _OBJECTIVES, count, why))
        return made

    def _count_of(self, run_id: str) -> int:
        counted = self._connection.execute(
            f"SELECT count(*) {_TEXTS} AND {_BY_RUN} = CAST(? AS TEXT)", (_bindable(run_id),)
        )
        return int(counted.fetchone()[0])

    def pages(self) -> Iterator[list[OldRow]]:
        """Yield the rows that can be adopted. A page, and what belongs to it, is of one moment."""
        last: str | None = None
        while True:
            with reading_old(self._path):
                self._connection.execute("BEGIN")
                try:
                    page = self._page(last)
                    objectives = self._objectives_of([str(row["run_id"]) for row in page])
                finally:
                    self._connection.execute("COMMIT")
            if not page:
                return
            last = str(page[-1]["run_id"])
            yield [
                OldRow(run_id, row, tuple(objectives.get(run_id, ())))
                for row in page
                if _usable(run_id := str(row["run_id"])) and run_id not in self._twice
            ]

    def _page(self, last: str | None) -> list[dict[str, Scalar]]:
        page: list[dict[str, Scalar]] = []
        size = 0
        said = () if last is None else (_bindable(last),)
        with closing(self._connection.execute(_FIRST_PAGE if last is None else _NEXT_PAGE, said)) as found:
            names = [_named(column[0]) for column in found.description]
            for row in found:
                page.append(dict(zip(names, row, strict=True)))
                size += sum(len(value) for value in row if isinstance(value, str | bytes))
                if len(page) >= PAGE_ROWS_MAX or size >= PAGE_BYTES_MAX:
                    break
        return page

    def _objectives_of(self, run_ids: list[str]) -> dict[str, list[dict[str, Scalar]]]:
        made: dict[str, list[dict[str, Scalar]]] = {}
        asked = [run_id for run_id in run_ids if _usable(run_id)]
        if not self._has_objectives or not asked:
            return made
        marks = ", ".join("?" * len(asked))
        found = self._connection.execute(f"SELECT * FROM {_OBJECTIVES} WHERE run_id IN ({marks})", asked)
        names = [column[0] for column in found.description]
        place = next(place for place, name in enumerate(names) if name.lower() == "run_id")
        for row in found:
            said = {name: value for at, (name, value) in enumerate(zip(names, row, strict=True)) if at != place}
            made.setdefault(str(row[place]), []).append(said)
        return {run_id: sorted(rows, key=repr) for run_id, rows in made.items()}


def _named(name: str) -> str:
    """SQLite takes RUN_ID for run_id, and so do we."""
    return name.lower() if name.lower() in COLUMNS else name


def _usable(run_id: str) -> bool:
    return bool(run_id.strip()) and storable_text(run_id)


def _bindable(text: str) -> str | bytes:
    """A text with bytes that are no UTF-8 goes back as it came."""
    return text if storable_text(text.replace("\x00", "")) else text.encode("utf-8", "surrogateescape")
