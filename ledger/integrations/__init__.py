"""What systems that a team uses beside the ledger call in one line, and what is taken over from them."""
