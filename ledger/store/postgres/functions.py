"""Functions and triggers that a server keeps: what jsonb is made of, the order of transactions, and append-only."""

from __future__ import annotations

__all__ = ["FUNCTIONS", "GUARDS"]


def _crc_of(byte: int) -> int:
    """What CRC-32 makes of one byte: the polynomial of zlib and IEEE 802.3."""
    for _ in range(8):
        byte = byte >> 1 ^ (0xEDB88320 if byte & 1 else 0)
    return byte


# jsonb takes neither NUL nor half a surrogate pair, and no number beyond its own bounds; the text beside it has them.
_JSON = r"""
CREATE FUNCTION ledger_json(document text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  mended text;
BEGIN
  RETURN document::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  mended := regexp_replace(document, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g');
  BEGIN
    RETURN mended::jsonb;
  EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    BEGIN
      RETURN regexp_replace(mended, '(?<!\\)((?:\\\\)*)\\u[dD][89abcdefABCDEF]..', '\1\\ufffd', 'g')::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
      RETURN NULL;
    END;
  END;
END $$
"""

# A float as the number that it is, and not as the shortest that is read as the same; beyond 64 bits all are floats.
_EXACTLY = """
CREATE FUNCTION ledger_exactly(value double precision) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT CASE
    WHEN abs(value) >= 9007199254740992 AND value >= -9223372036854775808 AND value < 9223372036854775808
      THEN value::bigint::numeric
    ELSE value::text::numeric
  END
$$
"""

_NUMBER = """
CREATE FUNCTION ledger_number(document jsonb) RETURNS numeric LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  value numeric;
BEGIN
  IF jsonb_typeof(document) <> 'number' THEN
    RETURN NULL;
  END IF;
  value := document::numeric;
  IF abs(value) < 9007199254740992 THEN
    RETURN value;
  END IF;
  IF abs(value) >= 1.7976931348623159e308 THEN
    RETURN sign(value) * 'Infinity'::numeric;
  END IF;
  IF value < -9223372036854775808 OR value >= 9223372036854775808
    OR value = value::double precision::text::numeric THEN
    RETURN ledger_exactly(value::double precision);
  END IF;
  RETURN value;
END $$
"""

_SHIFT = """
CREATE FUNCTION ledger_shift() RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT coalesce((SELECT value::bigint FROM ledger_state WHERE name = 'transaction_shift'), 0)
$$
"""

_TRANSACTION = """
CREATE FUNCTION ledger_transaction() RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT pg_current_xact_id()::text::bigint + ledger_shift()
$$
"""

# Every event below it is of a transaction that is over, and none will come that is. A snapshot counts what goes on in
# every database of the server: what is known to be *elsewhere* is left out. (A standby's snapshot lists nothing.)
_HORIZON = """
CREATE FUNCTION ledger_horizon(elsewhere xid[] DEFAULT '{}') RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN newest >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint + shift THEN newest + 1
    WHEN elsewhere = '{}' OR pg_is_in_recovery() THEN pg_snapshot_xmin(pg_current_snapshot())::text::bigint + shift
    ELSE shift + coalesce(
      (SELECT min(going_on::text::bigint) FROM pg_snapshot_xip(pg_current_snapshot()) AS going_on
       WHERE going_on::xid <> ALL (elsewhere)),
      pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
  END
  FROM (SELECT (SELECT max(transaction_id) FROM training_events) AS newest, ledger_shift() AS shift) AS known
$$
"""

# What placing.py says, for a position that the statement itself gives out.
_PLACED = f"""
CREATE FUNCTION ledger_placed(before bigint, place bigint, recorded_at text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  steps CONSTANT bigint[] := '{{{",".join(str(_crc_of(byte)) for byte in range(256))}}}'::bigint[];
  line CONSTANT bytea := convert_to(place || ' ' || recorded_at || E'\\n', 'UTF8');
  made bigint := before # 4294967295;
BEGIN
  FOR at IN 0 .. octet_length(line) - 1 LOOP
    made := (made >> 8) # steps[((made # get_byte(line, at)) & 255) + 1];
  END LOOP;
  RETURN made # 4294967295;
END $$
"""

_REFUSE = """
CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'training_events is append-only: amend or void the run instead' USING ERRCODE = 'restrict_violation';
END $$
"""

FUNCTIONS = {
    "ledger_json": _JSON.strip(),
    "ledger_exactly": _EXACTLY.strip(),
    "ledger_number": _NUMBER.strip(),
    "ledger_shift": _SHIFT.strip(),
    "ledger_transaction": _TRANSACTION.strip(),
    "ledger_horizon": _HORIZON.strip(),
    "ledger_placed": _PLACED.strip(),
    "ledger_refuse": _REFUSE.strip(),
}


def _guard(name: str, event: str) -> tuple[str, str]:
    """A trigger, also for who replicates: `session_replication_role = replica` walks past the others."""
    made = (
        f"CREATE TRIGGER {name} BEFORE {event} ON training_events FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()"
    )
    return made, f"ALTER TABLE training_events ENABLE ALWAYS TRIGGER {name}"


GUARDS = {
    f"training_events_no_{event.lower()}": _guard(f"training_events_no_{event.lower()}", event)
    for event in ("UPDATE", "DELETE", "TRUNCATE")
}
