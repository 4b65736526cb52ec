"""Networks and data for backlit."""
