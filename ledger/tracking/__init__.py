"""Recording from inside the training process: it never waits for a database, and never hurts the run."""
