"""python -m bench.scale [--events N]: what a ledger on one PostgreSQL weighs and takes as it grows.

The events are made on the server, with true digests and chains (`verify` proves it); the rows are then folded by a
replay. What is measured is done by the ledger itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import psycopg

from bench.floor import CONFIG_TEXT, SOURCE
from bench.servers import rate
from ledger import Ledger
from ledger.events import Heartbeat
from tests.postgres.server import DURABLE, Server

EVENTS_A_RUN = 250
SETTINGS = {**DURABLE, "shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min"}

# A run is launched, starts, beats, and is completed; its events lie among those of the other runs of its time.
GENERATING = r"""
CREATE OR REPLACE FUNCTION pg_temp.runs_made(first bigint, last bigint, each int, config text, source text)
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
  run_name text; kind text; said text; said_whole text; id text; made text; link text;
  moment timestamptz; moment_text text;
BEGIN
  FOR number IN first..last LOOP
    run_name := 'run-' || lpad(number::text, 8, '0');
    link := '';
    FOR n IN 1..each LOOP
      moment := '2026-01-01T00:00:00Z'::timestamptz + number * interval '7 seconds' + n * interval '61 seconds';
      moment_text := to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
      id := '01900000-' || lpad(to_hex(n), 4, '0') || '-7000-8000-' || lpad(to_hex(number), 12, '0');
      IF n = 1 THEN
        kind := 'launched';
        said := '{"config":' || config || ',"host":"ec2","chain_of_custody_id":"C' || number / 5 || '"}';
      ELSIF n = 2 THEN
        kind := 'started'; said := '{}';
      ELSIF n = each THEN
        kind := 'completed'; said := '{"final_metrics":{"loss":' || (1.0 / number)::numeric(20,10) || '}}';
      ELSE
        kind := 'heartbeat'; said := '{"step":' || n || ',"metrics":{"loss":0.' || n || '}}';
      END IF;
      said_whole := '{"event_id":"' || id || '","occurred_at":"' || moment_text || '","payload":' || said
        || ',"run_id":"' || run_name || '","schema_version":1,"source":' || source || ',"type":"' || kind || '"}';
      made := encode(sha256(convert_to(said_whole, 'UTF8')), 'hex');
      link := encode(sha256(convert_to(link || made, 'UTF8')), 'hex');
      INSERT INTO pg_temp.made VALUES (id, run_name, n, kind, moment, said, made, link);
    END LOOP;
  END LOOP;
END $body$
"""
STORING = """
INSERT INTO training_events (event_id, run_id, version, type, schema_version, occurred_at, recorded_at, source, payload,
  digest, chain, transaction_id)
SELECT id, run_id, version, kind, 1, moment, moment + interval '1 second', %s, said, digest, chain, ledger_transaction()
FROM (SELECT *, ledger_transaction() FROM pg_temp.made ORDER BY moment, id) AS ordered
"""
HEADS = """
INSERT INTO training_heads (run_id, version, chain, newest_occurred_at, newest_event_id, first_recorded_at, placed,
  unreadable, beside, detailed)
SELECT run_id, max(version), (array_agg(chain ORDER BY version DESC))[1], max(occurred), max(event_id), min(recorded),
  crc32(convert_to(string_agg(position || ' ' || recorded || E'\\n', '' ORDER BY version), 'UTF8')), 0, '', max(version)
FROM (
  SELECT *, to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS occurred,
    to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS recorded
  FROM training_events WHERE run_id IN (SELECT run_id FROM pg_temp.made WHERE version = 1)
) AS written
GROUP BY run_id
"""
SIZES = """
SELECT c.relname, pg_relation_size(c.oid) + coalesce(pg_relation_size(c.reltoastrelid), 0)
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')
ORDER BY 2 DESC
"""


def fill(url: str, first: int, last: int) -> float:
    """Add the runs of these numbers, and return how many seconds it took."""
    start = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET synchronous_commit = off")
        connection.execute(
            "CREATE TEMP TABLE made (id text, run_id text, version int, kind text, moment timestamptz, said text,"
            " digest text, chain text)"
        )
        connection.execute(GENERATING)
        for begin in range(first, last + 1, 400):
            end = min(last, begin + 399)
            connection.execute("TRUNCATE pg_temp.made")
            connection.execute(
                "SELECT pg_temp.runs_made(%s, %s, %s, %s, %s)", (begin, end, EVENTS_A_RUN, CONFIG_TEXT, SOURCE)
            )
            with connection.transaction():
                connection.execute(STORING, (SOURCE,))
                connection.execute(HEADS)
        connection.execute("VACUUM ANALYZE")
    return time.perf_counter() - start


def timed(work: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def measured(url: str) -> Iterator[tuple[str, str]]:
    """What the ledger does at its present size."""
    with Ledger(url) as book:
        seconds, runs = timed(book.replay)
        yield "replay, every row made", f"{seconds:.0f} s for {runs:,} runs"
        seconds, _ = timed(book.replay)
        yield "replay, nothing to change", f"{seconds:.0f} s"
        seconds, verified = timed(book.verify)
        yield "verify", f"{seconds:.0f} s, {'holds' if verified else verified.differences}"
        for name, ask in (
            ("get_run", lambda: book.get_run("run-00000010")),
            ("query_runs, newest 100 of a status", lambda: book.query_runs({"status": "completed"})),
            ("count_runs of a host", lambda: book.count_runs({"host": "ec2"})),
            ("timeline of a run", lambda: book.timeline(run_id="run-00000010")),
            ("as_of, one run", lambda: book.as_of("2026-01-01T01:00:00Z").get_run("run-00000010")),
        ):
            ask()
            yield name, f"{sorted(timed(ask)[0] for _ in range(9))[4] * 1000:.2f} ms"
        batch = [
            [Heartbeat(run_id=f"batch-{n % 100}", step=n) for n in range(m, m + 1000)] for m in range(0, 10_000, 1000)
        ]
        seconds, _ = timed(lambda: [book.append(events) for events in batch])
        yield "append 1,000 at once", f"{10_000 / seconds:,.0f} events/s"
    for writers in (1, 8):
        yield f"append one by one, {writers} writer(s)", f"{rate('ours', url, writers):,.0f} events/s"
    with psycopg.connect(url) as connection:
        for name, size in connection.execute(SIZES).fetchall()[:14]:
            yield f"size of {name}", f"{size / 2**20:,.0f} MiB"
        (whole,) = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        yield "size of the database", f"{whole / 2**30:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000])
    asked = parser.parse_args()
    with Server.start(SETTINGS) as server:
        url = server.create_database("scale")
        with Ledger(url) as book:
            book.init_db()
        there = 0
        for events in asked.events:
            runs = events // EVENTS_A_RUN
            print(f"\n{events:,} events, filled in {fill(url, there + 1, runs):.0f} s", flush=True)
            there = runs
            for what, found in measured(url):
                print(f"| {what} | {found} |", flush=True)


if __name__ == "__main__":
    main()
