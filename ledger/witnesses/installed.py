"""Which witnesses there are: ours, as far as they can be used here, and those that other packages bring."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from ledger.errors import AskedWrongly, UnknownWitness, WitnessUnreachable, shortened
from ledger.witnesses.ec2 import Ec2
from ledger.witnesses.kinds import Row, Testimony, Witness
from ledger.witnesses.process import LocalProcess
from ledger.witnesses.slurm import Slurm

__all__ = ["ENTRY_POINTS", "installed"]

ENTRY_POINTS = "ledger.witnesses"


def installed(
    names: Iterable[str] = (), *, sacct: str | None = None, scontrol: str | None = None, regions: Sequence[str] = ()
) -> list[Witness]:
    """Return the witnesses of these *names*; without any, all that can be used here.

    *sacct* and *scontrol* are for Slurm, *regions* for EC2. A plug-in with the name of one of ours takes its place.
    """
    plug_ins = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    ours: dict[str, Callable[[], Witness]] = {
        "process": LocalProcess,
        "slurm": lambda: Slurm(sacct, scontrol),
        "ec2": lambda: Ec2(regions),
    }
    configured = {"slurm": sacct is not None or scontrol is not None, "ec2": bool(regions)}
    known = {**ours, **{name: _made(entry) for name, entry in plug_ins.items()}}
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in known:
            raise UnknownWitness(name, known)
    if not chosen:
        usable = {"process": True, "slurm": _has_slurm(), "ec2": find_spec("boto3") is not None}
        chosen = [name for name in known if name in plug_ins or usable[name] or configured[name]]
    for name, said in configured.items():
        if said and (name not in chosen or name in plug_ins):
            raise AskedWrongly(f"sacct, scontrol and regions are for our own witnesses; {name} is not asked here.")
    return [known[name]() for name in chosen]


def _has_slurm() -> bool:
    return any(shutil.which(name) for name in ("sacct", "scontrol"))


def _made(entry: EntryPoint) -> Callable[[], Witness]:
    return lambda: _PlugIn(entry)


class _PlugIn:
    """A witness from another package, loaded when it is first asked, so that one which is broken fails by itself."""

    def __init__(self, entry: EntryPoint) -> None:
        self.name = entry.name
        self._entry = entry
        self._witness: Witness | None = None

    def testify(self, runs: Sequence[Row], /) -> Mapping[str, Testimony]:
        if self._witness is None:
            made = self._entry.load()()
            if not isinstance(made, Witness):
                raise WitnessUnreachable(
                    f"{self._entry.value} makes {shortened(made)}, which is no witness. "
                    "Let it return an object with a name and testify(runs)."
                )
            self._witness = made
        return self._witness.testify(runs)
