"""What many runs come to, beside an independent computation."""
