"""What every other folder may use: locks, masking, source code, the log, facts about classes."""
