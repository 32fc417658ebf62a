"""The ledger, through which everything goes."""

from __future__ import annotations

from ledger.adopting.front import Adopting
from ledger.as_of import LookingBack
from ledger.following import Following
from ledger.sweeping import Sweeping
from ledger.tracking.front import Tracking

__all__ = ["Ledger"]


class Ledger(Tracking, Adopting, LookingBack, Following, Sweeping):
    """One ledger of training runs: `Ledger("runs.db")`, or `Ledger()` for the one that the environment names.

    Nothing is opened before it is used. It may be shared by threads and be carried over a fork; as a
    context manager it closes itself.
    """
