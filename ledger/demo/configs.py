"""A run's config: its shape, written as YAML by the launcher and read back by the process that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ledger.demo.methods import MethodName

Plain = dict[str, JsonValue]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(Part):
    batch_size: int
    learning_rate: float
    max_steps: int
    num_processes: int = 1
    max_grad_norm: float | None = None
    seed: int = 0


class Reward(Part):
    """How gradients combine, and how strongly *beta* pulls the trunk back to where it started."""

    gradient_method: MethodName
    beta: float = 0.0


class Target(Part):
    target: Literal["digit", "parity", "ink", "asymmetry"]


class Objective(Part):
    name: str
    alias: str
    weight: float
    direction: Literal["maximize", "minimize"]
    params: Target


class Scaffold(Part):
    """A group of digits that is also judged by itself."""

    name: str
    digits: list[int]


class Generation(Part):
    scaffolds: list[Scaffold] = Field(default_factory=list)


class Config(Part):
    training: Training
    reward: Reward
    objectives: list[Objective]
    generation: Generation = Generation()


def write(config: Plain, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def read(path: Path) -> Config:
    """Read a config as it stands in its file; raises pydantic's ValidationError where the shape is wrong."""
    return Config.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
