"""To whom a W&B id belongs, for any claims: one of the claimants, whatever the order, and never in a circle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.projections.claims import Claim, settle

RUNS = ("a", "b", "c", "d", "e")


@st.composite
def claims(draw: st.DrawFn) -> list[Claim]:
    """Claims of several runs to one id: with ties, with resumed runs, with circles of them."""
    runs = draw(st.lists(st.sampled_from(RUNS), unique=True))
    resumed = st.none() | st.sampled_from([*RUNS, "elsewhere"])
    return [Claim("w", run, draw(st.sampled_from("123")), draw(st.sampled_from("xy")), draw(resumed)) for run in runs]


def yields_to(one: Claim, other: Claim, among: list[Claim]) -> bool:
    """Whether *other* resumes *one*, itself or step by step, and not the other way round as well."""
    return one.run_id in before(other, among) and other.run_id not in before(one, among)


def before(claim: Claim, among: list[Claim]) -> set[str]:
    """The claimants that can be reached by going from run to resumed run."""
    by_run = {each.run_id: each for each in among}
    found: set[str] = set()
    for _ in among:
        for run_id in {claim.run_id, *found}:
            resumed = by_run[run_id].resumes_run_id
            found |= {resumed} & by_run.keys()
    return found


@given(claims())
def test_some_claimant_holds_a_claimed_id(made: list[Claim]) -> None:
    """An id that is claimed has exactly one holder, a claimant; circles of resumed runs do not leave it to nobody."""
    assert settle(made) in ({claim.run_id for claim in made} or {None})


@given(claims().flatmap(lambda made: st.tuples(st.just(made), st.permutations([*made, *made[:2]]))))
def test_settling_is_order_free(both: tuple[list[Claim], list[Claim]]) -> None:
    """In any order, and with claims said twice, the same run holds the id."""
    made, shuffled = both

    assert settle(shuffled) == settle(made)


@given(claims())
def test_the_holder_yields_to_nobody_and_is_the_earliest_of_those(made: list[Claim]) -> None:
    """A run that another claimant resumes yields to it; of the rest the earliest claim holds, run_id breaking ties."""
    rest = [one for one in made if not any(yields_to(one, other, made) for other in made)]
    earliest = min(rest, key=lambda claim: (claim.occurred_at, claim.event_id, claim.run_id), default=None)

    assert settle(made) == (earliest.run_id if earliest else None)


def test_run_id_breaks_ties() -> None:
    """Two claims of one moment and one event id go by run_id."""
    assert settle([Claim("w", "b", "1", "x", None), Claim("w", "a", "1", "x", None)]) == "a"


def test_nobody_holds_what_nobody_claims() -> None:
    """No claim, no holder."""
    assert settle([]) is None
