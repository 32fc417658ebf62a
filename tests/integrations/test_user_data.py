"""A machine's script trains under the ledger's eyes, and where it dies early, the ledger hears of it all the same."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.errors import AskedWrongly, InvalidValue, NotConfigured
from ledger.integrations import instance
from ledger.integrations.launch import OWN_INSTANCE, user_data
from tests.store.crowd import ROOT

# What stands in for the commands of an instance. Each writes down that it was called.
LEDGER = """\
printf '%s\\n' "$@" >"$TOLD/exec"
printf '%s\\n' "$RUN_ID" "${CHAIN_OF_CUSTODY_ID:-}" "$TRAINING_DB_URL" "${TRAINING_DB_SPOOL:-}" "$PWD" >"$TOLD/handed"
while [ "$1" != -- ]; do shift; done
shift
"$@"
"""
SHUTDOWN = 'printf "%s\\n" "$*" >"$TOLD/shutdown"\n'
AWS = """\
import sys, boto3
bucket, _, key = sys.argv[4].removeprefix("s3://").partition("/")
assert sys.argv[1:4] == ["s3", "cp", "-"]
boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=sys.stdin.buffer.read())
"""
CURL = """\
case "$*" in
  *X-aws-ec2-metadata-token-ttl-seconds*/latest/api/token) printf a-token ;;
  *"X-aws-ec2-metadata-token: a-token"*/latest/meta-data/instance-id) printf i-0abc ;;
  *) exit 22 ;;
esac
"""


class Machine:
    """A folder with the commands that an instance has, in which scripts are run by bash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log" / "training-run.log"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.has("ledger", LEDGER)
        self.has("shutdown", SHUTDOWN)
        self.has("python3", f'exec {shlex.quote(sys.executable)} "$@"\n')

    def has(self, name: str, text: str, interpreter: str = "/bin/bash") -> None:
        (self.bin / name).write_text(f"#!{interpreter}\n{text}")
        (self.bin / name).chmod(0o755)

    def lacks_the_ledger(self) -> None:
        """Let Python and the command be there, and the package not: pip has failed."""
        self.has("python3", f'exec {shlex.quote(sys.executable)} -S -I "$@"\n')
        (self.bin / "ledger").unlink()

    def start(self, script: str) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("TRAINING_DB_")}
        path = os.pathsep.join([str(self.bin), "/usr/local/bin", "/usr/bin", "/bin"])
        env |= {"PATH": path, "TOLD": str(self.folder), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            ["bash", "-c", script], cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def runs(self, script: str) -> tuple[int, str]:
        """Run a script to its end; return its exit code and what it says on the instance's console."""
        started = self.start(script)
        said, console = started.communicate(timeout=120)
        assert said == ""
        return started.returncode, console

    def told(self, what: str) -> list[str] | None:
        """Return what a command was called with, if it was."""
        path = self.folder / what
        return path.read_text().splitlines() if path.exists() else None


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.fixture
def launched(book: Ledger) -> Ledger:
    """Give a ledger that knows the run."""
    book.insert_run("mgda_i-1", None, {})
    return book


def script(machine: Machine, book: Ledger, command: Any = ("true",), **said: Any) -> str:
    """Return the user data of a run that records straight into the ledger."""
    given: dict[str, Any] = {"ledger_url": book.url, "allow_any_url": True, "log": str(machine.log), **said}
    return user_data("mgda_i-1", command, **given)


def row(book: Ledger) -> dict[str, Any]:
    found = book.get_run("mgda_i-1")
    assert found is not None
    return found


def test_a_good_end_says_nothing_more(machine: Machine, launched: Ledger) -> None:
    """The command runs through `exec`, with all that is handed down; then the machine shuts down."""
    (machine.folder / "code").mkdir()
    made = script(
        machine, launched, ["python3", "-c", "print('its')", "a b", "$HOME"], setup=["touch prepared"],
        workdir=str(machine.folder / "code"), chain_of_custody_id="ABC123", spool="s3://b/p",
    )  # fmt: skip
    code, console = machine.runs(made)

    assert (code, console) == (0, "")
    assert machine.told("exec") == [
        "exec",
        "--run-id",
        "mgda_i-1",
        "--",
        "python3",
        "-c",
        "print('its')",
        "a b",
        "$HOME",
    ]
    assert machine.told("handed") == [
        "mgda_i-1", "ABC123", f"sqlite:///{launched.url}", "s3://b/p", str(machine.folder / "code"),
    ]  # fmt: skip
    assert (machine.folder / "prepared").exists()
    assert "its" in machine.log.read_text()
    assert [event.type for event in launched.events()] == ["launched"]
    assert machine.told("shutdown") == ["-h now"]


@pytest.mark.parametrize(
    "dies",
    [
        {"setup": ["echo no such package >&2; exit 7"]},
        {"setup": ["true", "sh -c 'echo no such package >&2; exit 7'", "touch after"]},
        {"setup": ["echo no such package >&2; return_code() { return 7; }", "return_code"]},
    ],
)
def test_an_early_death_is_recorded(dies: dict[str, Any], machine: Machine, launched: Ledger) -> None:
    """Before the command was reached: crashed, with the exit code and the end of the log; then it shuts down."""
    code, console = machine.runs(script(machine, launched, **dies))
    (crash,) = launched.events("mgda_i-1", types="crashed")

    assert code == 7
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", 7)
    assert "no such package" in str(crash.error_log)
    assert "the crash is recorded" in console
    assert "no such package" in console
    assert (machine.told("exec"), machine.told("shutdown")) == (None, ["-h now"])
    assert not (machine.folder / "after").exists()


def test_a_death_by_a_name_that_is_not_set_is_recorded(machine: Machine, launched: Ledger) -> None:
    """A mistake in the setup ends the script as a failing command does."""
    code, _ = machine.runs(script(machine, launched, setup=["echo $NO_SUCH_NAME"]))

    assert code != 0
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", code)


def test_code_that_is_missing_is_an_early_death(machine: Machine, launched: Ledger) -> None:
    """So is a script that ends well before it has come to the command."""
    assert machine.runs(script(machine, launched, workdir="/no/such/code"))[0] == 1
    assert row(launched)["status"] == "crashed"
    launched.update_run_status("mgda_i-1", "running")
    assert machine.runs(script(machine, launched, setup=["exit 0"]))[0] == 0
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", 0)


def test_a_missing_witness_is_an_early_death(machine: Machine, launched: Ledger) -> None:
    """Where the command `ledger` is not there, nothing else would record the end."""
    (machine.bin / "ledger").unlink()

    assert machine.runs(script(machine, launched))[0] == 127
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", 127)


def test_an_end_that_was_seen_stays(machine: Machine, launched: Ledger) -> None:
    """Where `exec` has recorded a failure, the trap adds nothing."""
    says = "from ledger import update_run_status as u; u('mgda_i-1', 'failed', exit_code=3, end_reason='user')"
    code, _ = machine.runs(script(machine, launched, f'python3 -c "{says}"; exit 3'))

    assert code == 3
    assert (row(launched)["status"], row(launched)["end_reason"]) == ("failed", "user")
    assert [event.type for event in launched.events()] == ["launched", "failed"]


def test_a_witness_that_was_killed_is_stood_in_for(machine: Machine, launched: Ledger) -> None:
    """By the out-of-memory killer, say: it could not record the end itself."""
    machine.has("ledger", "kill -9 $$\n")

    assert machine.runs(script(machine, launched))[0] == 137
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", 137)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)


def test_a_signal_before_the_command_is_an_early_death(machine: Machine, launched: Ledger) -> None:
    """As when the instance is reclaimed in the middle of its setup."""
    waiting = ["touch here; for i in $(seq 6000); do sleep 0.01; done"]
    started = machine.start(script(machine, launched, setup=waiting))
    wait_for(machine.folder / "here")
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=60)

    assert started.returncode == 143
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", 143)


def test_a_signal_is_handed_on_to_the_command(machine: Machine, launched: Ledger) -> None:
    """The witness hears of it and ends in its own way; what it says is the script's exit code."""
    machine.has("ledger", "trap 'touch $TOLD/heard; exit 5' TERM; touch $TOLD/here; while :; do sleep 0.01; done\n")
    started = machine.start(script(machine, launched))
    wait_for(machine.folder / "here")
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=60)

    assert (started.returncode, (machine.folder / "heard").exists()) == (5, True)


def test_an_instance_asks_who_it_is(machine: Machine, book: Ledger) -> None:
    """Before it is there nobody knows its id, which the run's has in it."""
    machine.has("curl", CURL)
    book.insert_run("mgda_i-0abc", None, {})
    made = user_data(f"mgda_{OWN_INSTANCE}", "exit 4", ledger_url=book.url, allow_any_url=True, log=str(machine.log))

    assert machine.runs(made)[0] == 4
    assert (machine.told("exec") or [])[:3] == ["exec", "--run-id", "mgda_i-0abc"]
    assert (book.get_run("mgda_i-0abc") or {})["status"] == "crashed"


def test_an_instance_that_does_not_know_itself_says_so(machine: Machine, book: Ledger) -> None:
    """Then no run can be told of, and the console is all there is."""
    machine.has("curl", "exit 22\n")
    made = user_data(f"mgda_{OWN_INSTANCE}", "true", ledger_url=book.url, allow_any_url=True, log=str(machine.log))
    code, console = machine.runs(made)

    assert code == 1
    assert "was NOT recorded" in console
    assert machine.told("exec") is None


@pytest.mark.parametrize(
    ("run_id", "place"),
    [("mgda_i-1", "spool"), ("a/b 'c' \"d\" \\ $HOME `id` ü\n%", "url"), (OWN_INSTANCE, "url")],
)
def test_without_python_the_crash_goes_to_the_bucket(
    run_id: str, place: str, machine: Machine, book: Ledger, bucket: Any
) -> None:
    """What bash writes is an event like any: a sync takes it, and it gives way to an end that was witnessed."""
    machine.lacks_the_ledger()
    machine.has("curl", CURL)
    machine.has("aws", AWS, sys.executable)
    named = run_id.replace(OWN_INSTANCE, "i-0abc")
    book.insert_run(named, None, {})
    said: dict[str, Any] = {"ledger_url": "s3://team/spool"}
    if place == "spool":
        said = {"ledger_url": book.url, "allow_any_url": True, "spool": "s3://team/spool"}
    code, console = machine.runs(user_data(run_id, "true", setup=["exit 9"], log=str(machine.log), **said))
    answer = book.sync("s3://team/spool", clear=True)
    (crash,) = book.events(named, types="crashed")

    assert (code, "the crash is recorded" in console) == (9, True)
    assert (answer.new, answer.refused, answer.cleared) == (1, 0, 1)
    assert (crash.exit_code, crash.presumed, crash.end_reason) == (9, True, "unknown")
    assert json.loads(crash.source)["program"] == "user-data"
    assert crash.event_id[14] == "7"
    assert (book.get_run(named) or {})["status"] == "crashed"
    assert bool(book.verify())


def test_with_python_the_crash_goes_to_the_bucket(machine: Machine, launched: Ledger, bucket: Any) -> None:
    """With the end of the log, and the log itself, under its documented key."""
    made = user_data(
        "mgda_i-1", "true", setup=["echo no code; exit 9"], ledger_url="s3://team/spool", bucket="team",
        log=str(machine.log),
    )  # fmt: skip
    code, console = machine.runs(made)
    launched.sync("s3://team/spool")
    crash, *_ = launched.events("mgda_i-1", types="crashed")

    assert (code, "the crash is recorded" in console) == (9, True)
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", 9)
    assert "no code" in str(crash.error_log)
    assert row(launched)["error_log_s3_key"] == "crash-reports/mgda_i-1/error.log"


def test_without_python_a_folder_takes_the_crash(machine: Machine, launched: Ledger) -> None:
    """As a spool's own file, which a sync may clear."""
    machine.lacks_the_ledger()
    spool = machine.folder / "spool"
    machine.runs(user_data("mgda_i-1", "true", ledger_url=f"spool://{spool}", log=str(machine.log)))
    answer = launched.sync(spool, clear=True)

    assert (answer.new, answer.refused, answer.cleared) == (1, 0, 1)
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", 127)


def test_many_instances_of_one_script_say_different_events(machine: Machine, launched: Ledger) -> None:
    """The event's id is made where the event is made."""
    machine.lacks_the_ledger()
    spool = machine.folder / "spool"
    made = user_data("mgda_i-1", "true", ledger_url=f"spool://{spool}", log=str(machine.log))
    for _ in range(3):
        machine.runs(made)

    assert launched.sync(spool).new == 3


def test_where_nothing_can_record_it_the_console_says_how(machine: Machine, launched: Ledger) -> None:
    """No Python, no spool: the line to copy is there, and it does what it says."""
    machine.lacks_the_ledger()
    code, console = machine.runs(script(machine, launched, setup=["exit 9"]))
    (line,) = [line for line in console.splitlines() if "python3 -m ledger.integrations.crash" in line]
    command = line.removeprefix("user data:").strip().replace("python3", sys.executable)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRAINING_DB_PATH": launched.url}
    subprocess.run(["sh", "-c", command], env=env, check=True, capture_output=True)

    assert (code, "was NOT recorded" in console) == (9, True)
    assert (row(launched)["status"], row(launched)["exit_code"]) == ("crashed", 9)


def test_the_log_goes_to_the_bucket(machine: Machine, launched: Ledger, bucket: Any) -> None:
    """With the report, under the documented keys."""
    machine.runs(script(machine, launched, setup=["echo no such package; exit 9"], bucket="team"))

    key = row(launched)["error_log_s3_key"]
    assert key == "crash-reports/mgda_i-1/error.log"
    assert b"no such package" in bucket.Object(key).get()["Body"].read()


def test_a_machine_may_stay_on(machine: Machine, launched: Ledger) -> None:
    """Whoever wants to look at it says so."""
    machine.runs(script(machine, launched, setup=["exit 9"], shutdown=False))
    machine.runs(script(machine, launched, shutdown=False))

    assert machine.told("shutdown") is None


def test_a_log_that_cannot_be_written_is_another(machine: Machine, launched: Ledger) -> None:
    """Nothing of the training depends on where its log lies."""
    (machine.folder / "file").write_text("")
    code, _ = machine.runs(script(machine, launched, log=str(machine.folder / "file" / "run.log")))

    assert (code, machine.told("exec") is None) == (0, False)


@pytest.mark.parametrize(
    "place", ["s3://b/p", "spool:///var/spool/runs", "postgresql://ana:it's@db/runs", "postgres://db/runs"]
)
def test_a_place_that_an_instance_reaches_is_handed_down(place: str, machine: Machine) -> None:
    """As it was said, whatever characters it has."""
    machine.runs(user_data("r", "true", ledger_url=place, log=str(machine.log)))

    assert (machine.told("handed") or [])[2] == place


@pytest.mark.parametrize("place", ["runs.db", "sqlite:///a.db", "off", ":memory:"])
def test_a_file_of_this_machine_is_refused(place: str) -> None:
    """What an instance recorded there would be lost with its disk; one who knows better says so."""
    with pytest.raises(AskedWrongly, match="no place that an instance reaches: .* allow_any_url=True"):
        user_data("r", "true", ledger_url=place)
    assert "TRAINING_DB_URL" in user_data("r", "true", ledger_url=place, allow_any_url=True)


def test_the_environment_names_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is given."""
    with pytest.raises(NotConfigured):
        user_data("r", "true")
    monkeypatch.setenv("TRAINING_DB_URL", "s3://b/p/")
    assert "export TRAINING_DB_URL=s3://b/p\n" in user_data("r", "true")


def test_what_cannot_be_meant_is_refused() -> None:
    """No run, no command, a NUL, and a script longer than EC2 takes."""
    for command in ("", " ", [], [" "]):
        with pytest.raises(InvalidValue, match="the command that trains is wanted"):
            user_data("r", command, ledger_url="s3://b")
    with pytest.raises(InvalidValue, match="the id of the run is wanted"):
        user_data(" ", "true", ledger_url="s3://b")
    with pytest.raises(AskedWrongly, match="no NUL"):
        user_data("r", "a\0b", ledger_url="s3://b")
    with pytest.raises(AskedWrongly, match="EC2 takes 16384"):
        user_data("r", "true", setup=["#" * 16_384], ledger_url="s3://b")


@pytest.mark.parametrize("text", ["'", '"', "$(touch hacked)", "`touch hacked`", "a\nb", "; touch hacked", "\\", "ü"])
def test_no_word_breaks_out_of_its_quotes(text: str, machine: Machine) -> None:
    """Whatever a run, a chain, a folder or an argument is called, bash reads it as that."""
    made = user_data(
        text, ["echo", text], chain_of_custody_id=text, bucket=text, ledger_url="s3://b", log=str(machine.log)
    )
    checked = subprocess.run(["bash", "-n", "-c", made], capture_output=True, text=True)
    machine.runs(made)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert "\n".join((machine.told("exec") or [])[2:]) == f"{text}\n--\necho\n{text}"
    assert not (machine.folder / "hacked").exists()


def test_the_part_of_every_script_is_small() -> None:
    """Most of what EC2 takes is the caller's."""
    assert len(user_data("r", "true", ledger_url="s3://b")) < instance.LENGTH_BYTES_MAX / 3
