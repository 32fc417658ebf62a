"""Databases of the earlier API, taken over."""
