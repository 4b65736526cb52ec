from pathlib import Path

import pytest

from backlit.sweeps.zoom import next_values
from tests.helpers.sweeps import write_sweep


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({"0.01": 3.0, "0.1": 2.0, "1": 1.0}, ["optimizer.lr=10", "optimizer.lr=100"]),  # beyond the edge
        ({"0.01": 3.0, "0.1": 1.0, "1": 2.0}, ["optimizer.lr=0.032", "optimizer.lr=0.32"]),  # beside the best
        ({"1": 3.0, "2.5": 1.0, "4.5": 2.0}, ["optimizer.lr=1.75", "optimizer.lr=3.5"]),
        ({"16": 3.0, "32": 1.0, "64": 2.0}, ["optimizer.lr=23", "optimizer.lr=45"]),  # whole numbers stay whole
        ({"1": 3.0, "2": 1.0, "3": 2.0}, None),
        ({"0.1": 1.0, "1": 2.0}, None),  # two values
        ({"0.01": 0.0, "0.1": 0.0, "1": 0.0}, None),  # nothing has run
    ],
)
def test_the_next_values_depend_on_where_the_best_is(
    losses: dict[str, float], expected: list[str] | None, tmp_path: Path
) -> None:
    jobs = {f"optimizer.lr={rate} trainer=cpu": [loss] if loss else [] for rate, loss in losses.items()}
    sweep = write_sweep(tmp_path / "sweep", jobs)
    values = {"optimizer.lr": [f"optimizer.lr={rate}" for rate in losses], "trainer": ["trainer=cpu"]}
    assert next_values(sweep, values) == ({} if expected is None else {"optimizer.lr": expected})


def test_with_seeds_the_best_mean_counts(tmp_path: Path) -> None:
    losses = {"0.01": (1.0, 9.0), "0.1": (2.0, 2.0), "1": (4.0, 4.0)}
    jobs = {f"optimizer.lr={rate} seed={seed}": [pair[seed]] for rate, pair in losses.items() for seed in (0, 1)}
    sweep = write_sweep(tmp_path / "sweep", jobs)
    values = {"optimizer.lr": [f"optimizer.lr={rate}" for rate in losses], "seed": ["seed=0", "seed=1"]}
    assert next_values(sweep, values) == {"optimizer.lr": ["optimizer.lr=0.032", "optimizer.lr=0.32"]}
