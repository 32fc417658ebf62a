"""What a sweep concludes of one run from what the ledger knows and what witnesses say. Asks nobody, writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from ledger.events import Crashed, Event
from ledger.events.times import parse_moment, text_of
from ledger.witnesses.kinds import Testimony

if TYPE_CHECKING:
    from ledger.store.silent import Silent

__all__ = ["Verdict", "Word", "judged", "moved_meanwhile"]

Action = Literal["crashed", "completed", "failed", "left"]
Word = tuple[str, Testimony]  # which witness, and what it says

SKEW_MAX = timedelta(minutes=10)  # by which clocks may differ
_MICROSECOND = timedelta(microseconds=1)
# Who is believed before all others, in this order: a process with its start time, and a machine, are looked at
# themselves. A scheduler, and whoever else, may have lost sight of one; among those a word that a run lives counts,
# since ending a run that lives takes more to mend than leaving one that does not.
_BELIEVED_FIRST = ("process", "ec2")


@dataclass(frozen=True)
class Verdict:
    """What a sweep did with a run, or would do, and why; times are texts, as in rows."""

    run_id: str
    liveness: str
    action: Action
    end_reason: str | None
    ended_at: str | None
    detected_by: str | None
    presumed: bool
    exit_code: int | None
    why: str


def judged(run: Silent, words: Sequence[Word], unheard: Sequence[str], now: datetime) -> tuple[Verdict, Event | None]:
    """Return the verdict and the end that follows from it, if one does.

    *unheard* are the witnesses that could not be asked. The end occurs after all that is known of the run.
    """
    fitting = [word for word in words if not _is_of_earlier(word, run)]
    said = [f"{name}: {testimony.words}" for name, testimony in fitting]
    said += [
        f"{n}: {t.words}, before its last sign of life, so of another one" for n, t in words if (n, t) not in fitting
    ]
    said += [f"{name} could not be asked" for name in unheard]
    believed = _believed(fitting)
    if any(testimony.alive for _, testimony in believed):
        return _left(run, "; ".join(said)), None
    if believed:
        return _witnessed(run, believed, "; ".join(said), now)
    if run.row["liveness"] != "lost":
        return _left(run, "; ".join(["it never beat, so only a witness could tell", *said])), None
    return _presumed(run, "; ".join([_silence(run, now), *(said or ["no witness knows of it"])]), now)


def moved_meanwhile(verdict: Verdict) -> Verdict:
    """Return the verdict on a run of which something came in while witnesses were asked."""
    why = "something came in while it was looked at; the next sweep looks again"
    return Verdict(verdict.run_id, verdict.liveness, "left", None, None, None, presumed=False, exit_code=None, why=why)


def _is_of_earlier(word: Word, run: Silent) -> bool:
    """Whether it tells of an end before the run's last sign of life: of another job with that number."""
    ended_at = word[1].ended_at
    if word[1].alive or ended_at is None:
        return False
    return text_of(parse_moment(ended_at)) < text_of(_shifted(run.known_to_live_at, -SKEW_MAX))


def _believed(words: Sequence[Word]) -> Sequence[Word]:
    """The words that decide: all of them say that the run lives, or all that it does not."""
    dead = [word for word in words if not word[1].alive]
    alive = [word for word in words if word[1].alive]
    for name in _BELIEVED_FIRST:
        if any(word[0] == name for word in alive):
            return alive
        if any(word[0] == name for word in dead):
            return dead
    return alive or dead


def _witnessed(run: Silent, words: Sequence[Word], why: str, now: datetime) -> tuple[Verdict, Event | None]:
    name, testimony = max(words, key=_tells_how)  # the first of those that tell most
    times = [t.ended_at for t in (testimony, *(other for _, other in words)) if t.ended_at is not None]
    ended_at = text_of(parse_moment(times[0])) if times else run.known_to_live_at
    said: dict[str, object] = {"ended_at": ended_at, "detected_by": name, "occurred_at": _after_all(run, now)}
    if testimony.status == "crashed":
        said["presumed"] = False
    verdict = Verdict(
        run.run_id,
        run.row["liveness"],
        testimony.status,
        testimony.end_reason,
        ended_at,
        name,
        presumed=False,
        exit_code=testimony.exit_code,
        why=why,
    )
    return verdict, testimony.end(run.run_id, **said)


def _tells_how(word: Word) -> bool:
    return word[1].status != "crashed" or word[1].end_reason not in (None, "unknown")


def _presumed(run: Silent, why: str, now: datetime) -> tuple[Verdict, Event | None]:
    end = Crashed(
        run_id=run.run_id,
        ended_at=run.last_sign,
        end_reason="unknown",
        detected_by="sweep",
        presumed=True,
        occurred_at=_after_all(run, now),
    )
    verdict = Verdict(
        run.run_id,
        run.row["liveness"],
        "crashed",
        "unknown",
        run.last_sign,
        "sweep",
        presumed=True,
        exit_code=None,
        why=why,
    )
    return verdict, end


def _left(run: Silent, why: str) -> Verdict:
    return Verdict(run.run_id, run.row["liveness"], "left", None, None, None, presumed=False, exit_code=None, why=why)


def _silence(run: Silent, now: datetime) -> str:
    minutes, seconds = divmod(max(0, int((now - parse_moment(run.last_sign)).total_seconds())), 60)
    span = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return f"launched {span} ago without a sign of life" if run.row["status"] == "launched" else f"silent for {span}"


def _after_all(run: Silent, now: datetime) -> datetime:
    """Now, or behind what the ledger knows of the run: that may bear the time of a clock that is ahead of ours."""
    return max(now, _shifted(run.newest_occurred_at, _MICROSECOND))


def _shifted(moment: str, by: timedelta) -> datetime:
    try:
        return parse_moment(moment) + by
    except OverflowError:
        return parse_moment(moment)
