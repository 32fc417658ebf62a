"""Slurm's jobs, as `sacct` and `scontrol` print them, and what their states mean for a run. Asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ledger.events.lifecycle import EndReason
from ledger.witnesses.kinds import End, Testimony

__all__ = ["SACCT_FIELDS", "Job", "job_of", "jobs_of_sacct", "jobs_of_scontrol", "number_of", "word_on"]

SACCT_FIELDS = ("JobID", "JobIDRaw", "State", "ExitCode", "Submit", "End")

# What of a job is left to be done; the process of a job that waits to be requeued is gone, and will be there again.
_LIVES = (
    "COMPLETING", "CONFIGURING", "EXPEDITING", "PENDING", "POWER_UP_NODE", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD",
    "RESIZING", "RESV_DEL_HOLD", "RUNNING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED",
)  # fmt: skip
_ENDS: dict[str, tuple[End, EndReason | None]] = {
    "COMPLETED": ("completed", None),
    "CANCELLED": ("failed", "user"),
    "FAILED": ("crashed", "unknown"),
    "TIMEOUT": ("crashed", "timeout"),
    "DEADLINE": ("crashed", "timeout"),
    "OUT_OF_MEMORY": ("crashed", "oom"),
    "PREEMPTED": ("crashed", "preempted"),
    "NODE_FAIL": ("crashed", "node_failure"),
    "BOOT_FAIL": ("crashed", "node_failure"),
    "LAUNCH_FAILED": ("crashed", "node_failure"),
}
_OWN_EXIT = ("COMPLETED", "FAILED", "CANCELLED", "OUT_OF_MEMORY")  # in all others the code is Slurm's own
_SIGNALS_END = 65
_JOB = re.compile(r"0*([1-9]\d{0,9})(_\d{1,9}|\+\d{1,9})?(?:\.\w+)?", re.ASCII)
_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.ASCII)
# A job's name may hold anything; only Slurm itself writes these three in a row.
_SCONTROL_STATE = re.compile(r" JobState=(\S+) Reason=\S* Dependency=")
_SCONTROL_FIELD = r"(?:^| ){}=(\S+)"


@dataclass(frozen=True)
class Job:
    """One record: `job_id` as people write it (7, 7_3, 7_[4-9], 7+1), `raw_id` the number behind it."""

    job_id: str
    raw_id: str
    state: str
    exit_code: str
    submitted: datetime | None
    ended: datetime | None

    @property
    def leader(self) -> str:
        """The number of the array or of the heterogeneous job, or its own."""
        return number_of(self.job_id)

    def is_yet_to_be(self, wanted: str) -> bool:
        """Whether this stands for tasks of an array that have no record of their own, this one among them."""
        leader, _, task = wanted.partition("_")
        return task.isdigit() and leader == self.leader and "_[" in self.job_id and _lists(self.job_id, int(task))


def job_of(instance_id: object) -> str | None:
    """Return the job that a run's instance_id names, without a step: 7, 7_3, 7+1; None where it names none."""
    found = _JOB.fullmatch(instance_id.strip()) if isinstance(instance_id, str) else None
    return None if found is None else f"{found[1]}{found[2] or ''}"


def number_of(job: str) -> str:
    """Return the number of the array, or of the heterogeneous job, that it is part of, or its own."""
    return re.split("[_+]", job)[0]


def _lists(job_id: str, task: int) -> bool:
    for first, last, step in _PART.findall(job_id.partition("_[")[2].partition("%")[0]):
        if task in range(int(first), int(last or first) + 1, int(step or 1) or 1):
            return True
    return False


def jobs_of_sacct(text: str) -> list[Job]:
    """Return what `sacct -n -P -X` printed of SACCT_FIELDS."""
    lines = [line.strip().split("|") for line in text.splitlines()]
    return [
        Job(line[0], line[1], _word(line[2]), line[3], _moment(line[4]), _moment(line[5]))
        for line in lines
        if len(line) == len(SACCT_FIELDS)
    ]


def jobs_of_scontrol(text: str) -> list[Job]:
    """Return what `scontrol -o show job` printed."""
    return [job for line in text.splitlines() if (job := _of_scontrol(line)) is not None]


def _of_scontrol(line: str) -> Job | None:
    def said(name: str) -> str:
        found = re.search(_SCONTROL_FIELD.format(name), line)
        return found[1] if found else ""

    state, raw = _SCONTROL_STATE.search(line), said("JobId")
    if state is None:
        return None
    job_id = raw
    if task := said("ArrayTaskId"):
        job_id = f"{said('ArrayJobId')}_{task if task.isdigit() else f'[{task}]'}"
    elif offset := said("HetJobOffset"):
        job_id = f"{said('HetJobId')}+{offset}"
    return Job(job_id, raw, _word(state[1]), said("ExitCode"), _moment(said("SubmitTime")), _moment(said("EndTime")))


def _word(state: str) -> str:
    """The state alone: of "CANCELLED by 1000" the first word."""
    return state.partition(" ")[0].rstrip("+").upper()


def _moment(text: str) -> datetime | None:
    """The time, if it says where on the clock it lies: seconds since 1970, or with an offset from UTC."""
    try:
        made = datetime.fromtimestamp(int(text), UTC) if text.isdigit() else datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return made if made.tzinfo is not None else None


def word_on(wanted: str, records: Iterable[Job]) -> Testimony | None:
    """Return what the records say of the job that a run names; None where they say nothing, or nothing we know."""
    jobs = list(_latest(records))
    own = [job for job in jobs if wanted in (job.job_id, job.raw_id)]
    parts = [job for job in jobs if job.leader == wanted and job not in own]
    found = [*own, *parts] or [job for job in jobs if job.is_yet_to_be(wanted)]
    for job in found:
        if job.state in _LIVES:
            return Testimony(alive=True, words=f"job {job.job_id} is {job.state}")
    if not found or any(job.state not in _ENDS for job in found):
        return None
    return _ended(wanted, found)


def _latest(records: Iterable[Job]) -> Iterable[Job]:
    """Of several records of one job, which a requeue makes, the one that was submitted last."""
    latest: dict[tuple[str, str], tuple[float, Job]] = {}
    for job in records:
        submitted = job.submitted.timestamp() if job.submitted else 0.0
        if submitted >= latest.get((job.job_id, job.raw_id), (0.0, job))[0]:
            latest[job.job_id, job.raw_id] = submitted, job
    return [job for _, job in latest.values()]


def _ended(wanted: str, jobs: Sequence[Job]) -> Testimony:
    """The end of a job, or of all parts of one: as the part that did not complete and ended last."""
    ends = [job.ended for job in jobs if job.ended is not None]
    decisive = max(jobs, key=lambda job: (job.state != "COMPLETED", job.ended.timestamp() if job.ended else 0.0))
    status, reason = _ENDS[decisive.state]
    exit_code = _exit_code(decisive)
    if decisive.state == "FAILED":
        reason = _reason(exit_code)
    words = f"job {decisive.job_id} ended as {decisive.state}"
    if len(jobs) > 1:
        words = f"all {len(jobs)} parts of job {wanted} have ended, and {words}"
    if exit_code:
        words = f"{words} with exit code {exit_code}"
    return Testimony(
        alive=False,
        words=words,
        status=status,
        end_reason=reason,
        ended_at=max(ends, default=None) if len(ends) == len(jobs) else None,
        exit_code=exit_code,
    )


def _exit_code(job: Job) -> int | None:
    """The code as a shell gives it: 128 and the signal, where it was a signal."""
    code, _, signal = job.exit_code.partition(":")
    if job.state not in _OWN_EXIT or not code.isdigit():
        return None
    if int(code):
        return int(code)
    if signal.isdigit() and 0 < int(signal) < _SIGNALS_END:
        return 128 + int(signal)
    return 0 if job.state == "COMPLETED" else None


def _reason(exit_code: int | None) -> EndReason:
    """What a code tells of a job that FAILED: Python ends with 1 after an exception that nobody caught."""
    if exit_code is not None and 128 < exit_code < 128 + _SIGNALS_END:
        return "signal"
    return "exception" if exit_code == 1 else "unknown"
