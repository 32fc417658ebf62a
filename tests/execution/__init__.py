"""A witness outside: every way to end, as a real process."""
