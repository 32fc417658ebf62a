"""The gradient methods of the demo keep the properties that define them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ledger.demo.methods import METHODS, aligned_gradients, aligned_mtl, imtlg, mgda, pcgrad

Array = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def gradients(draw: st.DrawFn, tasks_max: int = 4, size: int = 9) -> Array:
    """Gradients of several objectives whose lengths differ by up to two orders of magnitude."""
    tasks = draw(st.integers(1, tasks_max))
    drawn = rng(draw(st.integers(0, 2**32 - 1))).normal(size=(tasks, size))
    lengths = draw(st.lists(st.floats(0.1, 10.0), min_size=tasks, max_size=tasks))
    # Less once the first itself it would be nothing, without a direction.
    shared = draw(st.floats(-1.5, 1.5).filter(lambda share: abs(share + 1) > 0.01)) * drawn[0]
    return np.array(lengths)[:, None] * (drawn + shared)


@st.composite
def degenerate(draw: st.DrawFn) -> Array:
    """Gradients made of few small integers: zeros, copies and exact opposites are common."""
    tasks = draw(st.integers(1, 5))
    row = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.0, 1.0]), min_size=3, max_size=3)
    return np.array(draw(st.lists(row, min_size=tasks, max_size=tasks)))


def simplex(corners: int, steps: int) -> Array:
    """Every point of the simplex whose weights are multiples of ``1 / steps``."""
    grid = itertools.product(range(steps + 1), repeat=corners)
    return np.array([point for point in grid if sum(point) == steps]) / steps


def unit_projections(direction: Array, rows: Array) -> Array:
    projections: Array = rows @ direction / np.linalg.norm(rows, axis=1)
    return projections


@given(rows=gradients())
def test_mgda_makes_no_objective_worse(rows: Array) -> None:
    """The direction of mgda has at least its own squared length along every gradient."""
    direction = mgda(rows, rng())

    assert (rows @ direction >= direction @ direction - 1e-9 * (rows**2).sum()).all()


@given(rows=gradients(tasks_max=3))
def test_mgda_finds_the_shortest_vector_of_the_hull(rows: Array) -> None:
    """No convex combination on a fine grid is shorter than mgda's direction, and the nearest is close."""
    shortest = np.linalg.norm(simplex(len(rows), 40) @ rows, axis=1).min()
    length = np.linalg.norm(mgda(rows, rng()))

    assert length <= shortest + 1e-9
    assert shortest - length <= np.linalg.norm(rows, axis=1).max() * len(rows) / 40


@given(rows=degenerate())
def test_mgda_is_exact_where_gradients_repeat_or_vanish(rows: Array) -> None:
    """Copies, opposites and zeros among the gradients do not keep mgda from the shortest vector."""
    direction = mgda(rows, rng())

    assert (rows @ direction >= direction @ direction - 1e-9).all()


def test_mgda_of_two_gradients_is_the_known_closed_form() -> None:
    """For gradients (2, 0) and (0, 1) the hull's nearest point to zero is (0.4, 0.8)."""
    assert mgda(np.array([[2.0, 0.0], [0.0, 1.0]]), rng()) == pytest.approx([0.4, 0.8])


@given(rows=gradients(tasks_max=2), seed=st.integers(0, 99))
def test_pcgrad_leaves_two_objectives_without_conflict(rows: Array, seed: int) -> None:
    """With one or two objectives the direction of pcgrad points against neither gradient."""
    assert (rows @ pcgrad(rows, rng(seed)) >= -1e-9).all()


@given(seed=st.integers(0, 99))
def test_pcgrad_adds_up_gradients_that_agree(seed: int) -> None:
    """Where no two gradients conflict, pcgrad is their sum."""
    rows = np.abs(rng(seed).normal(size=(4, 6)))

    assert pcgrad(rows, rng(seed)) == pytest.approx(rows.sum(axis=0))


@given(seed=st.integers(0, 9999))
def test_pcgrad_projects_each_gradient_from_the_others_in_some_order(seed: int) -> None:
    """Of three gradients, each was projected from the other two, never from itself, one after the other."""
    rows = rng(seed).normal(size=(3, 3))
    by_task = [[by_hand(rows[i], rows[j], rows[k]) for j, k in orders(i)] for i in range(3)]
    possible = [sum(choice) for choice in itertools.product(*by_task)]

    assert any(np.allclose(pcgrad(rows, rng(seed)), one) for one in possible)


def orders(task: int) -> list[tuple[int, int]]:
    first, second = (other for other in range(3) if other != task)
    return [(first, second), (second, first)]


def by_hand(gradient: Array, first: Array, second: Array) -> Array:
    for other in (first, second):
        cosine = gradient @ other / (np.linalg.norm(gradient) * np.linalg.norm(other))
        if cosine < 0:
            gradient = gradient - cosine * np.linalg.norm(gradient) * other / np.linalg.norm(other)
    return gradient


def test_pcgrad_projects_in_the_order_that_its_generator_gives() -> None:
    """The same seed gives the same direction, and some other seed another one."""
    rows = np.array([[1.0, 0.0, 0.2], [-1.0, 0.5, 0.0], [-0.2, -1.0, 0.1]])
    directions = {pcgrad(rows, rng(seed)).tobytes() for seed in range(20)}

    assert pcgrad(rows, rng(3)).tobytes() == pcgrad(rows, rng(3)).tobytes()
    assert len(directions) > 1


@given(rows=gradients())
def test_imtlg_projects_equally_onto_every_objective(rows: Array) -> None:
    """The direction of imtlg has one and the same projection onto all unit gradients."""
    direction = imtlg(rows, rng())

    assert unit_projections(direction, rows) == pytest.approx(
        np.full(len(rows), unit_projections(direction, rows).mean()),
        abs=1e-7 * float(np.linalg.norm(direction) + np.linalg.norm(rows, axis=1).max()),
    )


@given(rows=gradients(tasks_max=3))
def test_imtlg_is_an_affine_combination(rows: Array) -> None:
    """The weights of imtlg's direction over the gradients add up to one."""
    weights = np.linalg.lstsq(rows.T, imtlg(rows, rng()), rcond=None)[0]

    assert weights.sum() == pytest.approx(1.0, rel=1e-6)


def test_imtlg_passes_over_an_objective_without_gradient() -> None:
    """A zero gradient takes no part: the direction is fair to the other two."""
    rows = np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 1.0]])

    assert imtlg(rows, rng()) == pytest.approx(imtlg(rows[[0, 2]], rng()))


@given(rows=gradients())
def test_aligned_mtl_gives_every_component_one_length(rows: Array) -> None:
    """All singular values of the aligned gradients equal the smallest of the original ones."""
    before = np.linalg.svd(rows, compute_uv=False)
    after = np.linalg.svd(aligned_gradients(rows), compute_uv=False)

    assert after == pytest.approx(np.full(len(rows), before.min()), rel=1e-5)


@given(rows=gradients())
def test_aligned_mtl_conflicts_with_no_objective(rows: Array) -> None:
    """Aligned gradients are orthogonal to each other, so their sum points along each of them."""
    aligned = aligned_gradients(rows)

    assert (aligned @ aligned_mtl(rows, rng()) > 0).all()


@given(rows=degenerate(), name=st.sampled_from(sorted(METHODS)))
def test_every_method_survives_degenerate_gradients(rows: Array, name: str) -> None:
    """Zeros, copies and opposites among the gradients give a finite direction, never a warning."""
    assert np.isfinite(METHODS[name](rows, rng())).all()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_one_objective_alone_is_followed(name: str) -> None:
    """With a single objective every method is plain gradient descent."""
    alone = np.array([[0.5, -2.0, 1.0]])

    assert METHODS[name](alone, rng()) == pytest.approx(alone[0])


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_direction_scales_with_the_gradients(name: str) -> None:
    """Gradients ten thousand times as long give a direction ten thousand times as long."""
    rows = rng(5).normal(size=(4, 7))

    assert METHODS[name](1e4 * rows, rng()) == pytest.approx(1e4 * METHODS[name](rows, rng()))
