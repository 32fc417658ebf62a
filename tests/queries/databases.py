"""The databases whose answers are compared, each as a ledger with nothing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ledger import Ledger
from tests.postgres.server import Server

__all__ = ["DATABASES", "empty_ledgers"]


@contextmanager
def _sqlite() -> Iterator[Ledger]:
    with Ledger(":memory:") as book:
        yield book


@contextmanager
def _postgresql() -> Iterator[Ledger]:
    with Server.start() as server, Ledger(server.create_database("queries")) as book:
        yield book


# Another database is one more line: a context in which there is an empty ledger.
DATABASES: dict[str, Callable[[], AbstractContextManager[Ledger]]] = {"sqlite": _sqlite, "postgresql": _postgresql}


@contextmanager
def empty_ledgers(names: Iterable[str] = tuple(DATABASES)) -> Iterator[dict[str, Ledger]]:
    """Give an empty ledger in each of the named databases."""
    with ExitStack() as open_ones:
        yield {name: open_ones.enter_context(DATABASES[name]()) for name in names}
