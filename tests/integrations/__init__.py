"""What comes from, and goes to, other systems."""
