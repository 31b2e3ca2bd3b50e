"""Say what was found: log lines, sources, fixes, pages."""
