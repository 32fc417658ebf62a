"""`ledger report` at the command line: tables for people, rows for machines, and the mend where it was asked wrongly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.cli.main import main
from ledger.cli.output import say_array, say_document, say_record
from ledger.cli.reporting import REPORTS
from tests.builders import HOUR, blog_attached, completed, crash_data_attached, crashed, launched, started

COMT = "objectives/COMT_activity_maximize/raw_mean"
Ask = Callable[..., str]


@pytest.fixture
def ask(path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on a ledger of two methods: one run of each completed, one of mgda crashed after two hours."""
    with Ledger(path) as book:
        for number, (run, method, end) in enumerate(
            (("good", "mgda", completed), ("bad", "mgda", crashed), ("other", "pcgrad", completed))
        ):
            config = {"reward": {"gradient_method": method}, "training": {"lr": 0.1 * (number + 1)}}
            metrics = {"final_metrics": {COMT: 0.5 + number / 10}} if end is completed else {"end_reason": "oom"}
            at = number * HOUR
            book.append(
                [launched(at, run=run, config=config, instance_type="g5", run_name=f"the {run}"), started(at, run=run)]
            )
            book.append([end(at + 2 * HOUR, run=run, **metrics)])
        book.append([blog_attached(10 * HOUR, run="good", blog_post_url="https://example.org/post")])
        book.append([crash_data_attached(10 * HOUR, run="bad", crash_analysis_s3_key="analysis.md")])
    (path.parent / "prices.csv").write_text("instance_type,price_per_hour,currency\ng5,5.672,USD\n")

    def ask(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["--db", str(path), "report", *words]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return ask


def cells(out: str) -> list[list[str]]:
    """Return the cells of a table, its heading first."""
    heading, _, *lines = out.splitlines()
    return [line.split() for line in (heading, *lines)]


def test_methods_are_compared(ask: Ask) -> None:
    """Each method has what completed, the share that did, and the mean hours of these."""
    heading, *rows = cells(ask("methods"))
    assert (
        heading == "gradient_method completed failed crashed success_rate success_low success_high mean_hours".split()
    )
    assert rows == [
        "mgda 1 0 1 0.500 0.095 0.905 2.0".split(),
        "pcgrad 1 0 0 1.000 0.207 1.000 2.0".split(),
    ]


def test_best_runs(ask: Ask) -> None:
    """The best come first, as many as are asked for, the lowest with --minimize."""
    assert [row[0] for row in cells(ask("best", "--metric", COMT))] == ["run_id", "other", "good"]
    assert [row["run_id"] for row in json.loads(ask("best", "--metric", COMT, "-n", "1", "--minimize", "--json"))] == [
        "good"
    ]
    assert json.loads(ask("best", "--metric", COMT, "--method", "mgda", "--json"))[0][COMT] == 0.5
    assert "crashed" not in ask("best", "--metric", COMT)


def test_runs_without_a_post(ask: Ask) -> None:
    """Completed runs without a blog post, of at least so many hours."""
    assert [row[0] for row in cells(ask("unposted"))] == ["run_id", "other"]
    assert ask("unposted", "--min-hours", "2.5") == "no runs\n"


def test_crashes_by_method(ask: Ask) -> None:
    """Crashes have their share, how many were analysed, and their times as clocks."""
    heading, row = cells(ask("crashes", "--by", "gradient_method"))
    assert heading == "gradient_method crashed failed share with_analysis median p90 unknown".split()
    assert row == "mgda 1 0 1.000 1 2:00:00 2:00:00 0".split()
    assert ask("crashes", "--status", "completed") == "no crashes\n"


def test_cost_at_the_prices_of_a_file(ask: Ask, path: Path) -> None:
    """Hours and money stand right, with the digits that money has."""
    prices = str(path.parent / "prices.csv")
    assert cells(ask("cost", "--prices", prices))[1] == "g5 3 6.0 34.03 11.34 0.00 USD 0 0.0 0 0".split()
    by_month = json.loads(ask("cost", "--prices", prices, "--by", "month", "--by", "gradient_method", "--json"))
    assert [(row["month"], row["gradient_method"]) for row in by_month] == [("2024-05", "mgda"), ("2024-05", "pcgrad")]


def test_diffs_of_runs_and_of_groups(ask: Ask) -> None:
    """Two runs show their values, two groups how often each has them; nothing is said as such."""
    assert cells(ask("diff", "good", "bad"))[1:] == [["training.lr", "changed", "0.1", "0.2"]]
    assert "0.1 (1)" in ask("diff", "--one", "status=completed", "--other", "status=crashed")
    assert ask("diff", "good", "good") == "no difference\n"
    assert "two runs" in ask("diff", "good", code=2)
    assert "two runs" in ask("diff", "good", "bad", "--one", "status=completed", code=2)


def test_last_good_and_first_crashed(ask: Ask) -> None:
    """The pair is named above what differs; where there is none, that is said."""
    assert ask("last-good").splitlines()[0] == "good completed, bad crashed"
    assert json.loads(ask("last-good", "--json"))[0]["crashed"] == "bad"
    assert ask("last-good", "--method", "pcgrad") == "no run crashed after one that completed\n"


def test_what_was_is_reported(ask: Ask) -> None:
    """--as-of reports what had happened by then."""
    rows = json.loads(ask("outcomes", "--as-of", "2024-05-01T13:30:00Z", "--json"))
    assert [(row["gradient_method"], row["running"]) for row in rows] == [("mgda", 2)]


@pytest.mark.parametrize("metric", ["eval_seconds", "mean_seconds", "duration", "share"])
def test_a_metric_of_the_users_is_a_number(path: Path, ask: Ask, metric: str) -> None:
    """Whatever it is called: only what the ledger itself counts in seconds is a clock, and no two headings are one."""
    with Ledger(path) as book:
        book.update_run_status("good", "completed", final_metrics_json={metric: 90.12345})
    heading, row = cells(ask("best", "--metric", metric))

    assert len(set(heading)) == len(heading)
    assert (heading[-1], row[-1]) == (metric, "90.1235")
    assert "2:00:00" in row


METRIC = ["--metric", COMT]


@pytest.mark.parametrize("value", [float("inf"), {"a": [float("-inf"), (float("nan"), 1.5)]}])
def test_what_machines_read_is_strict_json(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    """A float that is not finite is the text that the ledger has for it, in each way of printing JSON."""

    def refused(word: str) -> None:
        raise AssertionError(word)

    for say, given in ((say_document, value), (say_record, value), (say_array, [value])):
        say(given)
        said = json.loads(capsys.readouterr().out, parse_constant=refused)
        assert said in (
            "Infinity",
            ["Infinity"],
            {"a": ["-Infinity", ["NaN", 1.5]]},
            [{"a": ["-Infinity", ["NaN", 1.5]]}],
        )


@pytest.mark.parametrize(
    ("words", "heading"),
    [
        (["outcomes", "--by", "host", "--by", "config.training.lr"], "host config.training.lr runs"),
        (["durations", "--by", "status"], "status runs count running lost unknown mean median"),
        (["time-to-crash"], "time from below crashed failed share"),
        (["throughput", "--per", "day"], "day begins launched completed failed crashed hours"),
        (["effects", *METRIC, "--bins", "3"], "parameter eta_squared epsilon_squared value low high values count"),
        (["effects", *METRIC, "--parameters", "host,config.training.lr"], "parameter eta_squared epsilon_squared"),
    ],
)
def test_every_report_is_a_table_and_rows(ask: Ask, words: list[str], heading: str) -> None:
    """The table has the rows' keys as its heading; durations stand without their unit."""
    rows = json.loads(ask(*words, "--json"))
    assert " ".join(cells(ask(*words))[0]).startswith(heading)
    assert len(ask(*words).splitlines()) == len(rows) + 2


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["outcome"], "outcomes"),
        ([], "NAME"),
        (["best"], "--metric"),
        (["best", "--metric", COMT.replace("maximize", "maximise")], COMT),
        (["outcomes", "--by", "gradient"], "gradient_method"),
        (["throughput", "--per", "year"], "week"),
        (["cost", "--prices", "nowhere.csv"], "nowhere.csv"),
        (["importance", *METRIC], "at least 30 runs"),
        (["methods", "--status", "crashed"], "Leave the status out"),
        (["unposted", "-f", "has_blog_post=true"], "Leave -f has_blog_post=... out"),
        (["unposted", "-f", "min_duration_hours=5", "--min-hours", "1"], "Leave -f min_duration_hours=... out"),
        (["effects", *METRIC, "--bins", "1"], "from 2"),
    ],
)
def test_what_is_asked_wrongly_says_the_mend(ask: Ask, words: list[str], mend: str) -> None:
    """One line on stderr, exit code 2, and what to write instead."""
    error = ask(*words, code=2)
    assert mend in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_says_what_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The verb's help lists the report, and the report has a help of its own."""
    assert (main(["report", "--help"]), main(["report", name, "--help"])) == (0, 0)
    out = capsys.readouterr().out
    assert re.search(rf"^    {name}\b", out, re.MULTILINE)
    assert f"ledger report {name}" in out
