"""The witness of a cluster: what Slurm's accounting, or its controller, knows of a run's job."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePath

from ledger.errors import WitnessUnreachable
from ledger.witnesses.commands import command_of, output_of
from ledger.witnesses.jobs import SACCT_FIELDS, Job, job_of, jobs_of_sacct, jobs_of_scontrol, number_of, word_on
from ledger.witnesses.kinds import Row, Testimony

__all__ = ["Slurm"]

JOBS_A_CALL = 500
SECONDS_MAX = 30.0

_TIMES = ("env", "SLURM_TIME_FORMAT=%s")  # seconds since 1970: local time says nothing without its zone
_log = logging.getLogger("ledger")


class Slurm:
    """Tells of runs whose `instance_id` is a job's number: 7, 7_3 (a task of an array), 7+1 or 7.batch.

    *sacct* and *scontrol* are command lines, such as "ssh cluster sacct"; where neither is given, those on the PATH.
    With *hosts*, runs with another `host` are not this cluster's.
    """

    name = "slurm"

    def __init__(
        self,
        sacct: str | None = None,
        scontrol: str | None = None,
        *,
        hosts: Collection[str] | None = None,
        seconds_max: float = SECONDS_MAX,
    ) -> None:
        if sacct is None and scontrol is None:
            sacct, scontrol = (name if shutil.which(name) else None for name in ("sacct", "scontrol"))
        self._sacct = None if sacct is None else _with_times(command_of("sacct", sacct))
        self._scontrol = None if scontrol is None else _with_times(command_of("scontrol", scontrol))
        self._hosts = hosts
        self._seconds_max = seconds_max

    def testify(self, runs: Sequence[Row], /) -> dict[str, Testimony]:
        wanted = {str(run["run_id"]): job for run in runs if (job := self._job(run)) is not None}
        if not wanted:
            return {}
        known = _by_number(self._asked(sorted(set(wanted.values()))))
        words = {run_id: word_on(name, known.get(number_of(name), ())) for run_id, name in wanted.items()}
        return {run_id: word for run_id, word in words.items() if word is not None}

    def _job(self, run: Row) -> str | None:
        host = run.get("host")
        if (self._hosts is not None and host not in self._hosts) or (isinstance(host, str) and "ec2" in host.lower()):
            return None
        return job_of(run.get("instance_id"))

    def _asked(self, names: Sequence[str]) -> list[Job]:
        """What accounting knows of these jobs or, where it cannot be asked, the controller of all that it still has."""
        try:
            return self._accounted(names)
        except WitnessUnreachable as exc:
            if self._scontrol is None:
                raise
            if self._sacct is not None:
                _log.info("%s scontrol is asked instead.", exc)
        return jobs_of_scontrol(output_of([*self._scontrol, "-o", "show", "job"], self._seconds_max))

    def _accounted(self, names: Sequence[str]) -> list[Job]:
        if self._sacct is None:
            raise WitnessUnreachable(
                "there is no sacct on the PATH. Give a command that reaches one, such as --sacct 'ssh cluster sacct'."
            )
        asked = [*self._sacct, "-a", "-n", "-P", "-X", f"--format={','.join(SACCT_FIELDS)}"]
        jobs: list[Job] = []
        for start in range(0, len(names), JOBS_A_CALL):
            listed = ",".join(names[start : start + JOBS_A_CALL])
            jobs += jobs_of_sacct(output_of([*asked, "-j", listed], self._seconds_max))
        return jobs


def _by_number(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """The records under each number by which a run may name them."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        for number in {job.leader, job.raw_id}:
            found.setdefault(number, []).append(job)
    return found


def _with_times(command: list[str]) -> list[str]:
    """The command, so that its times say where on the clock they lie; over ssh, whose other side is another machine."""
    if PurePath(command[0]).name == "ssh" and PurePath(command[-1]).name in ("sacct", "scontrol"):
        return [*command[:-1], *_TIMES, command[-1]]
    return [*_TIMES, *command]
