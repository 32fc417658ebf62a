"""Write one completed run up, with its objectives beside those of the other completed runs."""

from __future__ import annotations

from collections.abc import Sequence

from ledger import Ledger
from ledger.demo.answers import Row, final_metrics
from ledger.demo.configs import Config
from ledger.demo.place import Place
from ledger.integrations.blog import publish


def write_up(book: Ledger, place: Place, run: Row, config: Config) -> str:
    """Write the post, attach it to its run, and return its address."""
    path = place.post(str(run["run_name"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    others = book.query_runs(filters={"status": "completed"}, limit=None)
    path.write_text(post_text(run, config, others), encoding="utf-8")
    publish(str(run["run_id"]), path.as_uri(), ledger=book)
    return path.as_uri()


def post_text(run: Row, config: Config, completed: Sequence[Row]) -> str:
    lines = [objective_line(run, o.alias, completed) for o in config.objectives]
    return (
        f"# {run['run_name']}: {run['gradient_method']} at learning rate {run['learning_rate']}\n\n"
        f"Run `{run['run_id']}` took {config.training.max_steps} steps on scikit-learn's digits in "
        f"{run['duration_seconds']} s. Its chain of custody is {run['chain_of_custody_id']}: "
        f"`ledger timeline --chain {run['chain_of_custody_id']}` tells how it came about.\n\n"
        "| objective | mean | standard deviation | from blind (0) to perfect (1) | place |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )


def objective_line(run: Row, alias: str, completed: Sequence[Row]) -> str:
    metrics, prefix = final_metrics(run), f"objectives/{alias}"
    raw_mean = metrics[f"{prefix}/raw_mean"]
    scores = [final_metrics(other).get(f"{prefix}/raw_mean") for other in completed]
    known = [score for score in scores if score is not None]
    better = [score for score in known if (score > raw_mean) == alias.endswith("_maximize") and score != raw_mean]
    return (
        f"| {alias} | {raw_mean:.4f} | {metrics[f'{prefix}/raw_std']:.4f} "
        f"| {metrics[f'{prefix}/normalized_mean']:.3f} | {len(better) + 1} of {len(known)} |"
    )
