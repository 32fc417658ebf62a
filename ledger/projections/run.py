"""The documented row: the only list of the columns of `training_runs`, in their documented order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ledger.events.lifecycle import EndReason
from ledger.projections.columns import Column, Declared, Filter, JsonText, Moment, declared_columns

__all__ = ["COLUMNS", "HYPERPARAMETERS", "STATUSES", "Run", "Status"]

Status = Literal["launched", "running", "completed", "failed", "crashed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run as its events tell it. `wandb_run_id` is what the run claims; `claims.settle` says who has it."""

    run_id: Annotated[str, Column("Internal run id, e.g. 'config_i-abc123'.", amendable=False)]
    wandb_run_id: Annotated[str | None, Column("W&B run id; no two runs have the same one.")] = None
    wandb_url: Annotated[str | None, Column("W&B run URL.")] = None
    run_name: Annotated[str | None, Column("Name for people.")] = None
    chain_of_custody_id: Annotated[
        str | None, Column("Links conversation, launch, training, crash, analysis and post.")
    ] = None
    config_file_path: Annotated[str | None, Column("Path of the YAML config.")] = None
    host: Annotated[str | None, Column("Where it runs: 'expanse' or 'ec2'.")] = None
    instance_id: Annotated[str | None, Column("EC2 instance id or Expanse job id.")] = None
    created_at: Annotated[
        Moment,
        Column(
            "When it was launched; until a launch has arrived, when it was first heard of.",
            filters=(Filter("created_after", "after"), Filter("created_before", "before")),
        ),
    ]
    started_at: Annotated[
        Moment | None,
        Column(
            "When training first started.",
            filters=(Filter("started_after", "after"), Filter("started_before", "before")),
        ),
    ] = None
    ended_at: Annotated[
        Moment | None,
        Column(
            "When training finished or crashed; NULL while it runs.",
            filters=(Filter("ended_after", "after"), Filter("ended_before", "before")),
        ),
    ] = None
    duration_seconds: Annotated[
        int | None,
        Column(
            "Total run time: what the end said, else end minus start.",
            filters=(
                Filter("min_duration_hours", "min", times=3600),
                Filter("max_duration_hours", "max", times=3600),
            ),
        ),
    ] = None
    status: Annotated[Status, Column("Where the run is in its life.")] = "launched"
    batch_size: Annotated[int | None, Column("Examples in a batch.", config=("training.batch_size", "batch_size"))] = (
        None
    )
    learning_rate: Annotated[
        float | None,
        Column(
            "Step size of the optimizer.",
            config=("training.learning_rate", "learning_rate", "training.lr", "lr"),
        ),
    ] = None
    beta: Annotated[
        float | None,
        Column("Weight of the reward's penalty.", config=("reward.beta", "training.beta", "beta")),
    ] = None
    gradient_method: Annotated[
        str | None,
        Column(
            "How the objectives' gradients combine (mgda, pcgrad, ...).",
            config=("reward.gradient_method", "training.gradient_method", "gradient_method"),
        ),
    ] = None
    num_gpus: Annotated[
        int | None,
        Column(
            "GPUs, one process each.",
            config=("num_gpus", "training.num_gpus", "training.num_processes", "distributed.num_processes"),
        ),
    ] = None
    num_objectives: Annotated[
        int | None, Column("How many objectives the config lists.", config=("objectives",), counted=True)
    ] = None
    num_scaffolds: Annotated[
        int | None,
        Column("How many scaffolds the config lists.", config=("generation.scaffolds", "scaffolds"), counted=True),
    ] = None
    config_json: Annotated[JsonText | None, Column("The whole config.")] = None
    final_metrics_json: Annotated[
        JsonText | None, Column("Final metrics, or the latest while it runs; what is not finite is null.")
    ] = None
    blog_post_url: Annotated[
        str | None, Column("Where it was written up.", filters=(Filter("has_blog_post", "has"),))
    ] = None
    conversation_s3_key: Annotated[str | None, Column("S3 key of the conversation's export.")] = None
    crash_report_s3_key: Annotated[str | None, Column("S3 key of the crash report.")] = None
    error_log_s3_key: Annotated[str | None, Column("S3 key of the error log.")] = None
    crash_analysis_s3_key: Annotated[
        str | None, Column("S3 key of the crash's analysis.", filters=(Filter("has_crash_analysis", "has"),))
    ] = None
    created_at_db: Annotated[
        Moment | None, Column("When this ledger first heard of it.", amendable=False, local=True)
    ] = None
    updated_at_db: Annotated[
        Moment | None, Column("When this ledger last heard of it.", amendable=False, local=True)
    ] = None
    end_reason: Annotated[EndReason | None, Column("Why it ended, as the latest end that said so.")] = None
    exit_code: Annotated[int | None, Column("Exit code of its process.")] = None
    instance_type: Annotated[str | None, Column("Type of the machine, e.g. 'g5.12xlarge'.")] = None
    last_seen_at: Annotated[
        Moment | None,
        Column(
            "Latest sign of life of its process (heartbeat, metrics, checkpoint).",
            filters=(Filter("last_seen_after", "after"), Filter("last_seen_before", "before")),
        ),
    ] = None
    active_seconds: Annotated[int | None, Column("Sum of the times between its starts and ends.")] = None
    resumes_run_id: Annotated[str | None, Column("The run that this one goes on from.")] = None
    wandb_name: Annotated[str | None, Column("Name of the run in W&B.")] = None
    tags_json: Annotated[JsonText | None, Column("Its tags, a JSON list in the order in which they were given.")] = None
    note: Annotated[str | None, Column("The latest note.")] = None
    metadata_json: Annotated[JsonText | None, Column("Further metadata, a JSON object.")] = None


COLUMNS: dict[str, Declared] = declared_columns(Run)
HYPERPARAMETERS: dict[str, Declared] = {name: c for name, c in COLUMNS.items() if c.column.config}
STATUSES = COLUMNS["status"].choices
