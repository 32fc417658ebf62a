"""A small network with one trunk and one head per objective, differentiated by hand.

The trunk is two tanh layers, kept as one flat vector because that is what gradient
methods combine. A head is one linear layer. Its output is read through softmax
(cross-entropy) for a class and as it is (half the squared error) for a measure; for both
the loss changes with the output by *answer - goal*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ledger.demo.digits import Pictures, Question
from ledger.demo.methods import Array

WIDTHS = (64, 48, 32)


class Layers(NamedTuple):
    first: Array
    first_bias: Array
    second: Array
    second_bias: Array


class Seen(NamedTuple):
    """What the trunk makes of a batch, layer by layer."""

    pixels: Array
    hidden: Array
    features: Array


@dataclass
class Network:
    """The parameters; a head carries its bias in its last row."""

    trunk: Array
    heads: dict[str, Array]


class Slopes(NamedTuple):
    """Loss and gradients of one objective."""

    loss: float
    trunk: Array
    head: Array


def new_network(outputs: dict[str, int], rng: np.random.Generator) -> Network:
    pixels, hidden, features = WIDTHS
    parts = (
        rng.normal(0.0, pixels**-0.5, size=pixels * hidden),
        np.zeros(hidden),
        rng.normal(0.0, hidden**-0.5, size=hidden * features),
        np.zeros(features),
    )
    heads = {name: rng.normal(0.0, features**-0.5, size=(features + 1, count)) for name, count in outputs.items()}
    return Network(np.concatenate(parts), heads)


def layers(trunk: Array) -> Layers:
    pixels, hidden, features = WIDTHS
    ends = np.cumsum([pixels * hidden, hidden, hidden * features])
    first, first_bias, second, second_bias = np.split(trunk, ends)
    return Layers(first.reshape(pixels, hidden), first_bias, second.reshape(hidden, features), second_bias)


def look(trunk: Array, pixels: Array) -> Seen:
    parts = layers(trunk)
    hidden = np.tanh(pixels @ parts.first + parts.first_bias)
    return Seen(pixels, hidden, np.tanh(hidden @ parts.second + parts.second_bias))


def outputs(head: Array, features: Array) -> Array:
    linear: Array = features @ head[:-1] + head[-1]
    return linear


def slopes(network: Network, name: str, seen: Seen, question: Question) -> Slopes:
    head = network.heads[name]
    loss, output_slopes = loss_of(outputs(head, seen.features), question)
    head_slopes = np.vstack([seen.features.T @ output_slopes, output_slopes.sum(axis=0)])
    return Slopes(loss, trunk_slopes(network.trunk, seen, output_slopes @ head[:-1].T), head_slopes)


def loss_of(output: Array, question: Question) -> tuple[float, Array]:
    """Return the mean loss and its slope at every output."""
    goal = question.goal
    if question.is_class:
        shifted = output - output.max(axis=1, keepdims=True)
        log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return float(-(goal * log_shares).sum(axis=1).mean()), (np.exp(log_shares) - goal) / len(goal)
    return float(0.5 * ((output - goal) ** 2).sum(axis=1).mean()), (output - goal) / len(goal)


def trunk_slopes(trunk: Array, seen: Seen, feature_slopes: Array) -> Array:
    """Carry the slopes at the features back through both layers."""
    second = feature_slopes * (1.0 - seen.features**2)
    first = (second @ layers(trunk).second.T) * (1.0 - seen.hidden**2)
    parts = (seen.pixels.T @ first, first.sum(axis=0), seen.hidden.T @ second, second.sum(axis=0))
    return np.concatenate([part.ravel() for part in parts])


def answers(network: Network, pictures: Pictures, name: str) -> Array:
    return outputs(network.heads[name], look(network.trunk, pictures.pixels).features)
