"""The tests mirror the source; what several of them use is in `tests.helpers`."""

import os

import pytest

# Two test processes on two cores: more threads than that only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
pytest.register_assert_rewrite("tests.helpers")
