"""What is carried over between the ledger and systems that a team uses beside it."""
