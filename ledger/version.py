"""The version of this code, said once."""

__version__ = "0.1.0"
