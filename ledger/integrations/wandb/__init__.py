"""W&B's logs, read by their framing and W&B's own protobuf classes, into runs of the ledger."""

from __future__ import annotations

from ledger.integrations.wandb.importing import Imported, ImportedRun, import_wandb

__all__ = ["Imported", "ImportedRun", "import_wandb"]
