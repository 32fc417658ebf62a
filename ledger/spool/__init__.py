"""Spools: events on their way, where there is no route to the ledger. They can be written and moved, not asked."""
