"""How a command line becomes a run."""
