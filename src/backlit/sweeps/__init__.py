"""Sweeps: jobs, their processes and GPUs, the display, and the ranked summary."""
