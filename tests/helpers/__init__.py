"""What several test files use: commands, processes, files, data."""
