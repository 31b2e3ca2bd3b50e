"""The bytes: signing, compressing, and loading only what is allowed."""
