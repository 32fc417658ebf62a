"""Combine the gradients of several objectives into one direction.

Row t of *gradients* is the gradient of objective t; the direction is what gradient
descent then follows. Directions depend on the gradients through their Gram matrix
alone, so that every linear system here is as small as the number of objectives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
MethodName = Literal["mgda", "pcgrad", "imtlg", "aligned_mtl"]
Method: TypeAlias = Callable[[Array, np.random.Generator], Array]

RELATIVE_ZERO = 1e-12


def mgda(gradients: Array, _rng: np.random.Generator) -> Array:
    """Take the shortest vector in the convex hull of the gradients.

    No objective gets worse along it to first order (Désidéri, 2012; Sener and Koltun, 2018).
    """
    direction: Array = min_norm_weights(gradients @ gradients.T) @ gradients
    return direction


def pcgrad(gradients: Array, rng: np.random.Generator) -> Array:
    """Project from each gradient what conflicts with the others, then add up (Yu et al., 2020)."""
    others = [rng.permutation(np.delete(gradients, mine, axis=0)) for mine in range(len(gradients))]
    projected = np.array([without_conflicts(*pair) for pair in zip(gradients, others, strict=True)])
    direction: Array = projected.sum(axis=0)
    return direction


def imtlg(gradients: Array, _rng: np.random.Generator) -> Array:
    """Find the affine combination with equal projections onto all unit gradients (Liu et al., 2021).

    A gradient of length zero has no direction to be fair to, and takes no part.
    """
    norms = np.linalg.norm(gradients, axis=1)
    present = norms > RELATIVE_ZERO * norms.max(initial=0.0)
    if not present.any():
        return np.zeros_like(gradients[0])
    units = gradients[present] / norms[present, None]
    direction: Array = equal_projection_weights(units @ gradients[present].T) @ gradients[present]
    return direction


def aligned_mtl(gradients: Array, _rng: np.random.Generator) -> Array:
    """Add up the gradients after their principal components are given one length.

    Independent component alignment (Senushkin et al., 2023).
    """
    aligned: Array = aligned_gradients(gradients).sum(axis=0)
    return aligned


METHODS: dict[MethodName, Method] = {"mgda": mgda, "pcgrad": pcgrad, "imtlg": imtlg, "aligned_mtl": aligned_mtl}


def min_norm_weights(gram: Array) -> Array:
    """Solve min w'Gw over the simplex exactly, by Wolfe's active set method (1976)."""
    support = [int(np.argmin(np.diag(gram)))]
    weights = np.zeros(len(gram))
    weights[support] = 1.0
    slack = RELATIVE_ZERO * float(np.diag(gram).max())
    # Each outer step shortens the vector, so no support comes twice; rounding can break that.
    for _ in range(2 ** len(gram)):
        slopes = gram @ weights
        steepest = int(np.argmin(slopes))
        if slopes[steepest] >= weights @ slopes - slack or steepest in support:
            break
        support.append(steepest)
        weights, support = toward_affine_minimum(gram, weights, support)
    return weights


def toward_affine_minimum(gram: Array, weights: Array, support: list[int]) -> tuple[Array, list[int]]:
    """Walk to the minimum over the support's affine hull, dropping members that turn negative."""
    while True:
        goal = np.zeros_like(weights)
        goal[support] = affine_minimum(gram[np.ix_(support, support)])
        leaving = [i for i in support if goal[i] <= RELATIVE_ZERO]
        if not leaving:
            return goal, support
        reach, first = min((weights[i] / max(weights[i] - goal[i], np.finfo(float).tiny), i) for i in leaving)
        weights = weights + min(reach, 1.0) * (goal - weights)
        weights[first] = 0.0
        support = [i for i in support if i != first]


def affine_minimum(gram: Array) -> Array:
    """Minimise w'Gw over all weights of sum one, whatever their signs."""
    return bordered_solution(gram / max(float(np.diag(gram).max()), np.finfo(float).tiny))


def equal_projection_weights(projections: Array) -> Array:
    """Return weights of sum one whose combination projects equally onto every unit gradient."""
    return bordered_solution(projections / np.abs(projections).max())


def bordered_solution(matrix: Array) -> Array:
    """Solve ``matrix @ w = c * ones`` with ``sum(w) = 1``; the shortest answer when there are many."""
    count = len(matrix)
    system = np.block([[matrix, -np.ones((count, 1))], [np.ones((1, count)), np.zeros((1, 1))]])
    goal = np.append(np.zeros(count), 1.0)
    solution: Array = np.linalg.lstsq(system, goal, rcond=None)[0]
    return solution[:count]


def without_conflicts(gradient: Array, others: Array) -> Array:
    """Remove from *gradient*, one by one, the part that points against each of *others*."""
    for other in others:
        along, squared_length = gradient @ other, other @ other
        if along < 0 and squared_length > 0:
            gradient = gradient - (along / squared_length) * other
    return gradient


def aligned_gradients(gradients: Array) -> Array:
    """Return the gradients with every singular value that is not zero set to the smallest of them."""
    eigenvalues, vectors = np.linalg.eigh(gradients @ gradients.T)
    present = eigenvalues > len(gradients) * np.finfo(float).eps * max(float(eigenvalues.max()), 0.0)
    if not present.any():
        return np.zeros_like(gradients)
    kept, basis = eigenvalues[present], vectors[:, present]
    balance = (basis * np.sqrt(kept.min() / kept)) @ basis.T
    aligned: Array = balance @ gradients
    return aligned
