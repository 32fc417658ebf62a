"""Taking over a `training_runs.db` of the earlier API: its rows read, told as events, corrected, and compared."""
