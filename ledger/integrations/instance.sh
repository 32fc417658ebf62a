# The part of a user-data script that is the same for every run; instance.py writes what stands before and behind it.

set -u
mkdir -p "$(dirname "$RUN_LOG")" 2>/dev/null
{ : >>"$RUN_LOG"; } 2>/dev/null || RUN_LOG=$(mktemp)
exec 3>&2 >>"$RUN_LOG" 2>&1

say() {
  printf 'user data: %s\n' "$*" >&2
  printf 'user data: %s\n' "$*" >&3
}

# Ask the instance who it is (IMDSv2).
instance_id() {
  local at=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254} token
  token=$(curl -fsS --retry 5 --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "${at%/}/latest/api/token") &&
    curl -fsS --retry 5 --max-time 5 -H "X-aws-ec2-metadata-token: $token" "${at%/}/latest/meta-data/instance-id"
}

escaped() { sed 's/\\/\\\\/g; s/"/\\"/g'; }

# The crash as one line of a spool, for a machine on which the ledger was not installed; docs/operating.md has the form.
crash_line() { # ID STATUS
  local at host source payload said
  at=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
  host=$(uname -n | tr -cd 'A-Za-z0-9._-')
  source='{"host":"'$host'","pid":'$$',"program":"user-data"}'
  payload='{"end_reason":"unknown","exit_code":'$2',"detected_by":"user data","presumed":true}'
  said='{"event_id":"'$1'","occurred_at":"'$at'","payload":'$payload',"run_id":'$RUN_ID_JSON',"schema_version":1,"source":'$source',"type":"crashed"}'
  printf '{"event_id":"%s","run_id":%s,"type":"crashed","schema_version":1,"occurred_at":"%s","source":"%s","payload":"%s","digest":"%s"}\n' \
    "$1" "$RUN_ID_JSON" "$at" "$(escaped <<<"$source")" "$(escaped <<<"$payload")" \
    "$(printf '%s' "$said" | sha256sum | cut -d' ' -f1)"
}

# A UUID of version 7: 48 bits of milliseconds, then random ones.
event_id() {
  local ms random
  ms=$(printf '%012x' "$(date +%s%3N)")
  random=$(od -An -N10 -tx1 /dev/urandom | tr -d ' \n')
  printf '%s-%s-7%s-%x%s-%s' "${ms:0:8}" "${ms:8:4}" "${random:0:3}" \
    $((8 + 0x${random:3:1} % 4)) "${random:4:3}" "${random:7:12}"
}

spool_crash() { # PLACE STATUS
  local id line
  id=$(event_id) && line=$(crash_line "$id" "$2") || return 1
  case $1 in
    s3://*) printf '%s\n' "$line" | aws s3 cp - "${1%/}/$RUN_KEY/$id.jsonl" ;;
    spool://*)
      local folder=${1#spool://} name
      name=$(uname -n | tr -cd 'A-Za-z0-9_-').noboot.$$.${id//-/}.jsonl
      mkdir -p "$folder" && printf '%s\n' "$line" >"$folder/.$name" && mv "$folder/.$name" "$folder/$name"
      ;;
    *) return 1 ;;
  esac
}

# A run that has ended otherwise stays as it is: the ledger sees to that.
record_crash() { # STATUS
  [ -n "${RUN_ID:-}" ] || return 1
  python3 -m ledger.integrations.crash --exit-code "$1" ${RUN_BUCKET:+--bucket "$RUN_BUCKET"} -- "$RUN_ID" "$RUN_LOG"
  case $? in 0 | 4) return 0 ;; esac # recorded; 1 is what Python says where there is no ledger
  spool_crash "$TRAINING_DB_URL" "$1" || spool_crash "${TRAINING_DB_SPOOL:-}" "$1"
}

ended_well=no

early_death() { # STATUS
  trap - EXIT
  trap '' HUP INT TERM # from here on nothing keeps it from recording
  set +eu
  if [ "$ended_well" = no ]; then
    tail -n 20 "$RUN_LOG" >&3
    say "ended with status $1; the log is $RUN_LOG"
    if record_crash "$1"; then
      say 'the crash is recorded, unless the run had ended before'
    else
      say "the crash of run $RUN_ID was NOT recorded. Where the ledger is, record it with:"
      say "  python3 -m ledger.integrations.crash --exit-code $1 -- '$RUN_ID'"
    fi
  fi
  [ "$RUN_SHUTDOWN" = no ] || shutdown -h now
  exit "$1"
}
trap 'early_death $?' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Run the command under the ledger's eyes, and hand on to it what would end this script.
train() {
  set +e
  ledger exec --run-id "$RUN_ID" -- "$@" &
  local child=$! status again
  trap 'kill -TERM "$child" 2>/dev/null' HUP INT TERM
  wait "$child"
  status=$?
  if [ "$status" -gt 128 ]; then # perhaps only the waiting was interrupted
    wait "$child" 2>/dev/null
    again=$?
    [ "$again" -eq 127 ] || status=$again
  fi
  [ "$status" -ne 0 ] || ended_well=yes
  exit "$status"
}
