"""python -m bench [--quick]: the table of ratios in results.md, measured afresh."""

from __future__ import annotations

import argparse
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.analytics import lines as analytics
from bench.append import batches, singles
from bench.asking import curve
from bench.folding import folded_per_second
from bench.following import latencies
from bench.following_server import lines as following_server
from bench.history import lines as history
from bench.objectives import lines as objectives
from bench.replaying import lines as replaying
from bench.servers import lines as servers
from bench.tracking import costs
from bench.writers import waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="sizes up to 20,000 runs only")
    parser.add_argument("--dir", type=Path, help="where to write: the disk decides what an fsync costs")
    asked = parser.parse_args()
    sizes = (2_000, 20_000) if asked.quick else (2_000, 20_000, 200_000)
    with tempfile.TemporaryDirectory(dir=asked.dir) as folder:
        print(f"{platform.platform()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
        print(f"one fsync of 4 KiB: {fsync_ms(Path(folder)):.2f} ms\n")
        print("| what | ledger | floor | ratio | to reach |")
        print("| --- | --- | --- | --- | --- |")
        for line in lines(Path(folder), sizes):
            print("| " + " | ".join(line) + " |", flush=True)


def lines(folder: Path, sizes: tuple[int, ...]) -> Iterator[tuple[str, ...]]:
    for synchronous, bound in (("FULL", "0.75"), ("NORMAL", "0.6")):
        ours, floor, ratio = singles(folder, synchronous)
        yield f"append one, {synchronous}", f"{ours:,.0f}/s", f"{floor:,.0f}/s", f"{ratio:.2f}", f"at least {bound}"
    ours, floor, ratio = batches(folder)
    yield "append 1,000 at once, FULL", f"{ours:,.0f}/s", f"{floor:,.0f}/s", f"{ratio:.2f}", "at least 0.75"
    rate, median, longest = waits(folder)
    yield "16 processes, one file: longest wait", f"{longest:.3f} s", f"median {median:.3f} s", "", "at most 0.5 s"
    yield "16 processes, one file: rate", f"{rate:,.0f}/s", "", "", ""
    median, longest = latencies(folder / "followed.db")
    yield (
        "follow: commit to delivery, worst",
        f"{longest * 1000:.0f} ms",
        f"median {median * 1000:.0f} ms",
        "",
        "at most 50 ms",
    )
    yield from following_server(1 if len(sizes) == 2 else 3)
    for row in curve(folder, sizes):
        size = f"{row['runs']:,} runs"
        for name, bound in (("get_run", "at most 0.3 ms"), ("query_runs", "ratio at most 4")):
            one, bare = row[f"{name}_ms"], row[f"{name}_bare_ms"]
            yield f"{name}, {size}", f"{one:.3f} ms", f"{bare:.3f} ms", f"{one / bare:.1f}", bound
    yield from replaying(folder, 2_000 if len(sizes) == 2 else 20_000)
    yield from history(folder)
    yield from objectives(folder)
    yield "fold", f"{folded_per_second():,.0f} events/s", "", "", ""
    for name, found in costs(folder):
        ours, bare = found["ours"], found["bare"]
        yield (
            f"run.log, database {name}: p50, p99.9",
            f"{ours['p50']:.1f}, {ours['p999']:.0f} us",
            f"{bare['p50']:.1f}, {bare['p999']:.0f} us",
            "",
            "at most 10, 1,000 us",
        )
    yield from analytics(folder, sizes[1])
    yield from servers()
    milliseconds, megabytes, modules = importing()
    yield "import ledger", f"{milliseconds:.1f} ms, {megabytes:.1f} MiB, {modules} modules", "", "", "at most 30 ms"


def fsync_ms(folder: Path) -> float:
    import os

    with (folder / "fsync").open("wb") as file:
        start = time.perf_counter()
        for _ in range(100):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    return (time.perf_counter() - start) * 10


def importing() -> tuple[float, float, int]:
    """Time, memory and modules that `import ledger` adds to a fresh process; the median of nine."""
    code = (
        "import sys, time, resource\n"
        "before, start = set(sys.modules), time.perf_counter()\n"
        "memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "import ledger\n"
        "spent = time.perf_counter() - start\n"
        "memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory\n"
        "print(spent * 1000, memory / 1024, len(set(sys.modules) - before))\n"
    )
    found = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(9)]
    milliseconds, megabytes, modules = sorted(tuple(map(float, run.stdout.split())) for run in found)[4]
    return milliseconds, megabytes, int(modules)


if __name__ == "__main__":
    main()
