"""Who a run is under Slurm and among ranks, and that it never goes on from itself."""

from __future__ import annotations

import sys
import time

import pytest

from tests.execution.conftest import Ground

ARRAY = {"SLURM_JOB_ID": "130", "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "4"}
BATCH_STEP = "4294967291"
TRACKED = (
    "import ledger, os; print(os.environ['RUN_ID'], os.environ['CHAIN_OF_CUSTODY_ID'])\nwith ledger.track(): 1 / 0"
)


@pytest.mark.parametrize("name", ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"])
def test_only_the_first_rank_is_recorded(name: str, ground: Ground) -> None:
    """In any other rank the command runs with its ids and exit code, and neither exec nor its tracker records."""
    words = ("--run-id", "r1", "--chain", "C")
    other = ground.exec(sys.executable, "-c", TRACKED, words=words, env={**ground.environment, name: "1"})

    assert (other.returncode, other.stdout) == (1, b"r1 C\n")
    assert b"ledger:" not in other.stderr
    assert not ground.path.exists()
    assert not list(ground.folder.glob("state/training-run-ledger/spool/*"))

    first = ground.exec("sh", "-c", "exit 3", words=words, env={**ground.environment, name: "0"})
    assert first.returncode == 3
    assert ground.end() == ("failed", None, 3)


def test_an_unrecorded_rank_gives_its_witness_no_word(ground: Ground) -> None:
    """Where exec watches a launcher whose rank 1 runs under exec, too, the end is recorded by the outer one."""
    inner = ground.words((), ("sh", "-c", "exit 3"))
    ground.exec("env", "RANK=1", *inner)

    assert ground.end() == ("failed", None, 3)


def run_ids(ground: Ground, slurm: dict[str, str]) -> list[str]:
    """Run two commands of one name under Slurm; return the ids that they got."""
    done = [ground.exec("sh", "-c", "echo $RUN_ID", words=(), env={**ground.environment, **slurm}) for _ in range(2)]
    return [one.stdout.decode().strip() for one in done]


@pytest.mark.parametrize(
    ("slurm", "instance"),
    [
        ({"SLURM_JOB_ID": "77", "SLURM_PROCID": "0"}, "77"),
        ({"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_STEP_ID": BATCH_STEP}, "77"),
        ({"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "batch"}, "77"),
        (ARRAY, "123_4"),
    ],
)
def test_two_commands_of_a_batch_script_are_two_runs(slurm: dict[str, str], instance: str, ground: Ground) -> None:
    """Outside of a step of srun each gets an id of its own behind the job's, and both are of the same instance."""
    one, other = run_ids(ground, slurm)

    assert one != other
    assert all(run_id.startswith(f"sh_{instance}_") for run_id in (one, other))
    assert [ground.row(run_id)["instance_id"] for run_id in (one, other)] == [instance, instance]


def test_a_step_names_the_run(ground: Ground) -> None:
    """All processes of a step of srun get one id, in which the step stands behind the task of the array."""
    assert run_ids(ground, {**ARRAY, "SLURM_STEP_ID": "0"}) == ["sh_123_4.0"] * 2
    assert run_ids(ground, {**ARRAY, "SLURM_STEP_ID": "1"}) == ["sh_123_4.1"] * 2


@pytest.mark.parametrize("words", [(), ("--resumes", "r1")])
def test_no_run_goes_on_from_itself(words: tuple[str, ...], ground: Ground) -> None:
    """A run's own id as the run that it resumes is passed over, and is not handed down."""
    environment = {**ground.environment, "RESUMES_RUN_ID": "r1"}
    for _ in range(2):
        done = ground.exec("sh", "-c", "echo ${RESUMES_RUN_ID-none}", words=("--run-id", "r1", *words), env=environment)

    assert done.stdout == b"none\n"
    assert ground.row()["resumes_run_id"] is None
    assert "resumed" not in ground.types()


def test_a_job_is_over_five_seconds_before_its_end(ground: Ground) -> None:
    """SIGTERM shortly before the end that Slurm has set is the end of the job's time, as for a tracker."""
    slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": str(int(time.time()) + 4)}
    ground.exec("sh", "-c", "kill -TERM $$", env={**ground.environment, **slurm})

    assert ground.end() == ("crashed", "timeout", 143)
