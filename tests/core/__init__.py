"""The facts and what they mean: no database."""
