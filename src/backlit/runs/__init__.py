"""The run directory: its record, its checkpoints, its files."""
