"""What was found, and its path."""
