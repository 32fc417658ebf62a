"""A witness outside: any command as a recorded run, whose end is seen even where it cannot say it itself."""
