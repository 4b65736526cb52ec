"""``backlit-evaluate``: judges the weights of a run, on its own test set or on other data."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from backlit.cli.app import run_command
from backlit.cli.arguments import read_path
from backlit.cli.plan import Plan
from backlit.config.conf import offer_run_data
from backlit.config.top_level import EVALUATE, check_command
from backlit.logs import quiet_lightning
from backlit.text import metric_text, shell_path, text_table

log = logging.getLogger(__name__)


def main() -> None:
    """Run ``backlit-evaluate``."""
    try:
        run_command(evaluate, "evaluate", plan=_plan)
    finally:
        offer_run_data({}, "32-true")  # the next command of this process is about another run


def _plan(arguments: list[str]) -> Plan:
    """Offer the data of the run that the arguments name."""
    for argument in arguments:
        if argument.startswith("run="):
            _offer_data(read_path(argument.removeprefix("run=")))
    return Plan(arguments)


def _offer_data(run: str) -> None:
    """Let ``data.margin=0.2`` change the run's own data, before Hydra composes the config.

    If there is no such run, nothing is offered: `evaluate` reports why.
    """
    from backlit.config.trust import plain_node
    from backlit.inference.evaluation import run_precision
    from backlit.load import read_config
    from backlit.runs.find import find_run

    with contextlib.suppress(ValueError, OmegaConfBaseException):
        config = read_config(find_run(run)[0])
        offer_run_data(plain_node(config, "data"), run_precision(config))


@quiet_lightning()
def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test a run's checkpoint and return the metrics, the same figures as at the end of its training.

    Beside the table on the screen it writes ``evaluation.json`` and pictures into ``evaluations/<date>_<time>`` of the
    run directory, or into `cfg.output_dir`.

    Args:
        cfg: What ``conf/evaluate.yaml`` composes to; `cfg.run` is a run directory, a checkpoint in it, or ``latest``.

    Raises:
        ConfigError: If there is no such run, it has no such checkpoint, or the data do not fit.
    """
    check_command(cfg, EVALUATE)
    from backlit.inference.evaluation import evaluate_run
    from backlit.load import load_named

    run = load_named(cfg)
    assert run.checkpoint is not None
    found, directory = evaluate_run(cfg, run)
    _show(found)
    names = ["evaluation.json", "pictures"] if "classes" in found else ["evaluation.json"]
    if found.get("missing"):
        log.info("  intervals, classes and pictures: %s", found["missing"])
    if "samples" in found:
        log.info("  samples   %s", f"{found['samples']:,}")
    log.info("  weights   %s", shell_path(run.checkpoint))
    log.info("  written   %s: %s", shell_path(directory), ", ".join(names))
    metrics: dict[str, float] = found["metrics"]
    return metrics


def _show(found: Mapping[str, Any]) -> None:
    """Print the metrics, and those of each class, with their intervals."""
    intervals = found.get("intervals", {})
    rows = []
    for name, value in found["metrics"].items():
        low_high = intervals.get(name)
        interval = f"{metric_text(low_high[0])} – {metric_text(low_high[1])}" if low_high else ""
        rows.append([name, metric_text(value), interval])
    log.info(text_table(["", "value", "95 % interval"], rows) + "\n")
    kinds = ("precision", "recall", "f1")
    if classes := found.get("classes"):
        rows = [[row["class"], str(row["samples"]), *_class_cells(row, kinds)] for row in classes]
        log.info(text_table(["class", "samples", *kinds], rows) + "\n")


def _class_cells(row: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    """Return the metrics of a class as text, with their intervals where there are some."""
    cells = []
    for kind in kinds:
        low_high = row.get(f"{kind}_interval")
        interval = f" ({low_high[0]:.3f}–{low_high[1]:.3f})" if low_high else ""
        cells.append(f"{row[kind]:.3f}{interval}")
    return cells


if __name__ == "__main__":
    main()
