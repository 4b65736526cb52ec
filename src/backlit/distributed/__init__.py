"""Runs of several processes (ranks)."""
