"""What offends, and what is stored in its place."""
