"""Pictures of what a ledger holds: curves, objectives, chains of custody; as files, and in the terminal."""
