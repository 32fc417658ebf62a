"""The plan of the sweep: which runs there are, what each is to show, and the config of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue

from ledger.demo.configs import Plain
from ledger.demo.methods import MethodName


@dataclass(frozen=True)
class Entry:
    """One run of the sweep: its config, the wish it answers, and the step after which somebody kills it, if any."""

    name: str
    wish: str
    method: MethodName
    beta: float = 0.0
    targets: tuple[str, ...] = ("digit", "parity", "ink", "asymmetry")
    scaffolds: tuple[str, ...] = ("round", "straight", "mixed")
    training: Plain = field(default_factory=dict)
    is_retry: bool = False
    killed_after_step: int | None = None

    def config(self, max_steps: int) -> Plain:
        return {
            "training": {**USUAL_TRAINING, "max_steps": max_steps, **self.training},
            "reward": {"gradient_method": self.method, "beta": self.beta},
            "objectives": [OBJECTIVES[target] for target in self.targets],
            "generation": {"scaffolds": [SCAFFOLDS[name] for name in self.scaffolds]},
        }


def objective(target: str, name: str, direction: str, weight: float) -> JsonValue:
    alias = f"{name}_{direction}"
    params: Plain = {"target": target}
    return {"name": name, "alias": alias, "weight": weight, "direction": direction, "params": params}


USUAL_TRAINING: Plain = {
    "batch_size": 64,
    "learning_rate": 0.2,
    "num_processes": 1,
    "max_grad_norm": 2.0,
    "seed": 7,
}
OBJECTIVES: dict[str, JsonValue] = {
    "digit": objective("digit", "digit_accuracy", "maximize", 2.0),
    "parity": objective("parity", "parity_accuracy", "maximize", 1.0),
    "ink": objective("ink", "ink_error", "minimize", 1.0),
    "asymmetry": objective("asymmetry", "asymmetry_error", "minimize", 1.0),
}
SCAFFOLDS: dict[str, JsonValue] = {
    "round": {"name": "round", "digits": [0, 3, 6, 8, 9]},
    "straight": {"name": "straight", "digits": [1, 4, 7]},
    "mixed": {"name": "mixed", "digits": [2, 5]},
}

SWEEP = (
    Entry("mgda", "Start with MGDA on all four objectives.", "mgda"),
    Entry("pcgrad", "The same with PCGrad.", "pcgrad"),
    Entry("imtlg", "The same with IMTL-G.", "imtlg"),
    Entry(
        "imtlg_hot",
        "IMTL-G without clipping and with a much higher learning rate.",
        "imtlg",
        training={"learning_rate": 1.5, "max_grad_norm": None},
    ),
    Entry("aligned_mtl", "The same with Aligned-MTL.", "aligned_mtl"),
    Entry("mgda_big_batch", "Is MGDA steadier with a bigger batch?", "mgda", training={"batch_size": 256}),
    Entry("pcgrad_anchored", "PCGrad, held near its start.", "pcgrad", beta=0.01),
    Entry(
        "aligned_mtl_two_objectives",
        "Aligned-MTL on the two accuracies alone.",
        "aligned_mtl",
        targets=("digit", "parity"),
        scaffolds=("round", "straight"),
    ),
    Entry(
        "pcgrad_patient",
        "PCGrad with a tiny learning rate, for as long as it takes: and then somebody kills it.",
        "pcgrad",
        training={"learning_rate": 0.001, "max_steps": 20_000},
        killed_after_step=300,
    ),
)
