"""scikit-learn's digits as a multi-objective problem: four questions about one picture of 8 by 8 pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ledger.demo.methods import Array

Rows: TypeAlias = NDArray[np.intp]

EDGE = 8
TEST_SHARE = 0.3


@dataclass(frozen=True)
class Question:
    """What one objective asks of every picture.

    The *goal* is one-hot for a class; for a measure it is one standardised column, and *scale* its unit.
    """

    goal: Array
    scale: float = 1.0

    @property
    def is_class(self) -> bool:
        return len(self.goal[0]) > 1

    def of(self, rows: Rows) -> Self:
        return type(self)(self.goal[rows], self.scale)

    def judge(self, outputs: Array) -> Array:
        """Return per picture: 1 or 0 for a class that is right or wrong, the absolute error of a measure."""
        if self.is_class:
            hits: Array = (outputs.argmax(axis=1) == self.goal.argmax(axis=1)).astype(float)
            return hits
        error: Array = np.abs(outputs - self.goal)[:, 0] * self.scale
        return error

    def blind(self) -> float:
        """Return what an answer that never looks achieves: always the commonest class, or the mean."""
        if self.is_class:
            return float(self.goal.mean(axis=0).max())
        return float(np.abs(self.goal - self.goal.mean()).mean() * self.scale)

    def normalize(self, values: Array, blind: float) -> Array:
        """Rescale values so that 0 is the blind answer and 1 the perfect one, for every objective."""
        perfect = 1.0 if self.is_class else 0.0
        return (values - blind) / (perfect - blind)


@dataclass(frozen=True)
class Pictures:
    """Some pictures, which digit each shows, and what the objectives ask of them."""

    pixels: Array
    digit: Array
    questions: dict[str, Question]

    def __len__(self) -> int:
        return len(self.pixels)

    def of(self, rows: Rows) -> Self:
        questions = {name: question.of(rows) for name, question in self.questions.items()}
        return type(self)(self.pixels[rows], self.digit[rows], questions)

    def showing(self, digits: Iterable[int]) -> Pictures:
        return self.of(np.flatnonzero(np.isin(self.digit, list(digits))))


def prepare(path: Path) -> None:
    """Take the pictures out of scikit-learn, once for all processes that will train on them."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, pixels=bunch.data / bunch.data.max(), digit=bunch.target.astype(float))


def load(path: Path, seed: int) -> tuple[Pictures, Pictures]:
    """Return pictures to train on and pictures to judge by, split at random."""
    with np.load(path) as stored:
        everything = pictures(stored["pixels"], stored["digit"])
    order = np.random.default_rng(seed).permutation(len(everything))
    cut = round(len(order) * TEST_SHARE)
    return everything.of(order[cut:]), everything.of(order[:cut])


def pictures(pixels: Array, digit: Array) -> Pictures:
    square = pixels.reshape(-1, EDGE, EDGE)
    questions = {
        "digit": classes(digit, 10),
        "parity": classes(digit % 2, 2),
        "ink": measure(pixels.mean(axis=1)),
        "asymmetry": measure(np.abs(square - square[:, :, ::-1]).mean(axis=(1, 2))),
    }
    return Pictures(pixels, digit, questions)


def classes(values: Array, count: int) -> Question:
    return Question(np.eye(count)[values.astype(int)])


def measure(values: Array) -> Question:
    scale = float(values.std())
    return Question(((values - values.mean()) / scale)[:, None], scale)
