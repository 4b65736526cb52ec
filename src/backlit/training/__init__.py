"""One run, from the built objects to its results."""
