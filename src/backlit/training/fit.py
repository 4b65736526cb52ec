"""Training, then testing the best checkpoint."""

import logging
import re
import warnings

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from backlit.models import Classifier
from backlit.runs.results import Results
from backlit.runs.run import MACHINE_PREFIX, best_row
from backlit.training import lightning_internals
from backlit.training.batch_size import suggest_batch_size
from backlit.training.build import RunParts
from backlit.training.early_stop import find_stop
from backlit.training.learning_rate import suggest_learning_rate
from backlit.training.monitors import monitors_named

log = logging.getLogger(__name__)


def fit_and_test(parts: RunParts) -> Results:
    """Train and test as the config asks; return every final metric with the checkpoint that it belongs to.

    Results are written after training, and again after testing: whatever goes wrong there, what was learned is kept.
    A completed run that is trained longer keeps its results until the end.
    """
    results, tested = Results(parts.run_dir), parts.config["ckpt_path"]
    # Lightning converts the model after it has loaded a checkpoint: float64 weights would pass through float32.
    parts.trainer.precision_plugin.convert_module(parts.model)
    if parts.steps_done is None and parts.trainer.is_global_zero:
        if parts.config["scale_batch_size"]:
            suggest_batch_size(parts)
        if parts.config["lr_find"]:
            suggest_learning_rate(parts)
    if parts.config["train"]:
        tested = _fit(parts, results)
    if parts.config["test"]:
        _test(parts, results, tested)
    elif parts.is_extension and parts.trainer.is_global_zero:
        results.write(tested)
    return results


def _fit(parts: RunParts, results: Results) -> str | None:
    """Train, write the results, and return the checkpoint to test; None if there is none."""
    lightning_internals.skip_nvml_probe()
    trainer, start = parts.trainer, None if parts.steps_done is None else parts.config["ckpt_path"]
    with monitors_named(trainer, parts.config["callbacks"]):
        trainer.fit(parts.model, parts.datamodule, ckpt_path=start, weights_only=True if start else None)
    lightning_internals.complete_last_epoch(trainer)
    if (stop := find_stop(trainer)) is not None and (record := parts.start.record) is not None:
        record.add(stopped=stop)
        total = "" if trainer.max_epochs == -1 else f" of {trainer.max_epochs}"
        log.info("stopped after epoch %d%s, step %d: %s", stop["epoch"], total, stop["step"], stop["reason"])
    _add_fit_results(results, parts)
    best, last = _checkpoint_paths(parts)
    if trainer.is_global_zero:
        if parts.config["test"] and last is None:
            log.info("fast_dev_run: nothing was saved; the weights in memory are tested")
        elif parts.config["test"] and best is None:
            log.info("no validation took place, so there is no best checkpoint; the last weights are tested")
        if not parts.is_extension:  # the results of a completed run are valid until all new ones are there
            results.write(best or last)
    return best or last


def _test(parts: RunParts, results: Results, tested: str | None) -> None:
    trainer, weights_only = parts.trainer, True if tested else None
    # A checkpoint has the average as its weights; the callback would put those that the average is of in their place.
    trainer.callbacks = [one for one in trainer.callbacks if not isinstance(one, WeightAveraging)]  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`, callbacks used to create")
        trainer.test(parts.model, parts.datamodule, ckpt_path=tested, weights_only=weights_only, verbose=False)
    results.add({name: value.item() for name, value in trainer.callback_metrics.items()}, tested)
    if trainer.is_global_zero:
        results.write(tested)


def _add_fit_results(results: Results, parts: RunParts) -> None:
    """Add what training has measured last, and the best value of the optimized metric."""
    best, _ = _checkpoint_paths(parts)
    rows = [] if parts.metrics_csv is None else parts.metrics_csv.rows
    # What was measured before the run was resumed counts, too.
    before = [] if parts.metrics_csv is None else parts.metrics_csv.rows_before
    measured = {name: value.item() for name, value in parts.trainer.callback_metrics.items()}
    earlier = {name: float(value) for row in before for name, value in row.items() if _is_metric(name)}
    measured |= {name: value for name, value in earlier.items() if name not in measured}
    for name, value in measured.items():
        if not name.endswith("_best"):
            results.add({name: value}, _checkpoint_of(name, parts))
    # A best value so far is of an earlier epoch, whose weights are kept only if it is the optimized metric's.
    results.add({name: value for name, value in measured.items() if name.endswith("_best")}, None)
    metric = parts.config["optimized_metric"]
    if best is not None and (row := best_row(rows, metric, parts.config["optimized_mode"])) is not None:
        results.add({f"{metric}_best": row[metric]}, best)


def _is_metric(name: str) -> bool:
    """Return whether a column of ``metrics.csv`` is a metric: no count, no rate, not how busy the machine was."""
    is_other = name in ("step", "epoch") or name.startswith(MACHINE_PREFIX)
    return not is_other and re.match(r"lr\b", name) is None


def _checkpoint_of(name: str, parts: RunParts) -> str | None:
    """Return the checkpoint whose weights a metric was measured with last; None if they are not kept.

    That is the last, unless the training has ended some steps after the last validation.
    """
    best, last = _checkpoint_paths(parts)
    if parts.metrics_csv is None or not name.startswith("val"):
        return last
    steps = [row["step"] for row in parts.metrics_csv.rows if name in row]
    # Lightning, which records for other modules, counts steps from 0.
    is_last = not steps or steps[-1] + (not isinstance(parts.model, Classifier)) >= parts.trainer.global_step
    if is_last and not _averages_at_the_end(parts.trainer):
        return last
    metric, mode = parts.config["optimized_metric"], parts.config["optimized_mode"]
    row = best_row(parts.metrics_csv.rows, metric, mode)
    return best if row is not None and steps and row["step"] == steps[-1] else None


def _averages_at_the_end(trainer: Trainer) -> bool:
    """Return whether the average of the weights has changed at the end of the last epoch, after its validation."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    averaging = [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
    return any(callback.should_update(epoch_idx=trainer.current_epoch - 1) for callback in averaging)


def _checkpoint_paths(parts: RunParts) -> tuple[str | None, str | None]:
    """Return the best checkpoint (None without validation) and the last (None in a ``fast_dev_run``)."""
    best = None if parts.best is None else parts.best.best_model_path or None
    return best, None if parts.last is None else str(parts.last.path)
