"""Find what cannot be stored, and cut it."""
