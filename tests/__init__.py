"""What the ledger promises, each promise as a test."""
