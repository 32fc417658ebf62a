"""Who can tell from outside whether a run lives: its process, its job, its machine, and whoever is installed."""
