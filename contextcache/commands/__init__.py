"""What the command line does: explain a value or a payload, and audit a server."""
