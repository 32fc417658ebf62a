"""Train the network on several objectives at once, and judge what it has learnt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ledger.demo.configs import Config, Objective
from ledger.demo.digits import Pictures, Question
from ledger.demo.methods import METHODS, Array
from ledger.demo.network import Slopes, answers, look, new_network, slopes

Metrics = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """Slopes of every objective on one batch, by alias."""

    slopes: dict[str, Slopes]
    weights: dict[str, float]

    @property
    def loss(self) -> float:
        return sum(self.weights[alias] * part.loss for alias, part in self.slopes.items())

    def metrics(self) -> Metrics:
        parts = {f"objectives/{alias}/loss": part.loss for alias, part in self.slopes.items()}
        return {"train/loss": self.loss, **parts}


class Learner:
    """A network on its way through the training pictures, as one config says."""

    def __init__(self, config: Config, training: Pictures, judging: Pictures) -> None:
        self.config = config
        self.training = training
        self.judging = judging
        self.rng = np.random.default_rng(config.training.seed)
        goals = {o.alias: training.questions[o.params.target].goal.shape[1] for o in config.objectives}
        self.network = new_network(goals, self.rng)
        self.start = self.network.trunk.copy()

    def measure(self) -> Measured:
        """Draw a batch and differentiate every objective on it."""
        rows = self.rng.choice(len(self.training), size=self.config.training.batch_size, replace=False)
        batch = self.training.of(rows)
        seen = look(self.network.trunk, batch.pixels)
        parts = {
            o.alias: slopes(self.network, o.alias, seen, batch.questions[o.params.target])
            for o in self.config.objectives
        }
        return Measured(parts, {o.alias: o.weight for o in self.config.objectives})

    def move(self, measured: Measured) -> None:
        """Take one step: the trunk along the combined direction, each head along its own."""
        training, reward = self.config.training, self.config.reward
        gradients = np.array([measured.weights[a] * part.trunk for a, part in measured.slopes.items()])
        direction = METHODS[reward.gradient_method](gradients, self.rng)
        pull = reward.beta * (self.network.trunk - self.start)
        self.network.trunk -= training.learning_rate * clipped(direction + pull, training.max_grad_norm)
        for alias, part in measured.slopes.items():
            self.network.heads[alias] -= training.learning_rate * clipped(part.head, training.max_grad_norm)

    def judge(self) -> Metrics:
        """Return what a W&B summary carries: every objective over all pictures and over each scaffold."""
        found: Metrics = {}
        for o in self.config.objectives:
            found |= self.judged(o, self.judging, f"objectives/{o.alias}")
            for scaffold in self.config.generation.scaffolds:
                shown = self.judging.showing(scaffold.digits)
                found |= self.judged(o, shown, f"scaffolds/{scaffold.name}/{o.alias}")
        return found

    def judged(self, judged: Objective, pictures: Pictures, prefix: str) -> Metrics:
        target = judged.params.target
        output = answers(self.network, pictures, judged.alias)
        values = pictures.questions[target].judge(output)
        normalized = normalize(values, self.training.questions[target])
        return {
            f"{prefix}/raw_mean": float(values.mean()),
            f"{prefix}/normalized_mean": float(normalized.mean()),
            f"{prefix}/raw_std": float(values.std()),
            f"{prefix}/normalized_std": float(normalized.std()),
        }

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, trunk=self.network.trunk, heads=np.hstack(list(self.network.heads.values())))


def normalize(values: Array, seen_in_training: Question) -> Array:
    return seen_in_training.normalize(values, seen_in_training.blind())


def clipped(gradient: Array, norm_max: float | None) -> Array:
    norm = float(np.linalg.norm(gradient))
    return gradient if norm_max is None or norm <= norm_max else gradient * (norm_max / norm)
