"""``backlit-train``: trains what the config composes, tests the best of it, and leaves a run directory."""

import contextlib
import functools
import gc
import logging
import math
import multiprocessing
import os
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from backlit.entry import NotTheSameError, check_in_process, command, quiet_lightning, rerun_of
from backlit.ranks import is_launched, together
from backlit.record import RunRecord, exit_on_sigterm, interrupted_by, sigterm_exits
from backlit.rerun import report_rerun
from backlit.run import from_here, is_of_disk, new_directory, table, whole_file, write_json

if TYPE_CHECKING:
    from lightning import LightningDataModule, LightningModule, Trainer

log = logging.getLogger(__name__)


def main() -> None:
    """Run ``backlit-train``."""
    command(_task, "train", check=_check)


def _check(cfg: DictConfig) -> list[str]:
    """Return what is wrong with a config."""
    from backlit.config import problems

    return problems(cfg)


def _task(cfg: DictConfig) -> float | None:
    """Train; return the best value of the optimised metric, which a sweeper may want."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        check_in_process(cfg)
    run_dir = Path(hydra.runtime.output_dir)
    metrics = train(cfg, run_dir)
    if (before := rerun_of()) is not None and not report_rerun(before, run_dir):
        raise NotTheSameError(f"{from_here(run_dir)} is not the same as {from_here(before)}")
    return metrics.get(f"{cfg.optimized_metric}_best")


def train(cfg: DictConfig, run_dir: Path | None = None) -> dict[str, float]:
    """Train, test the best checkpoint, write the run directory, and return the final metrics.

    Args:
        cfg: What ``conf/train.yaml`` composes to.
        run_dir: An existing directory; None makes one under ``outputs/``.

    Raises:
        FloatingPointError: If a loss is not finite.
    """
    import lightning
    import torch
    from lightning.pytorch.callbacks import LambdaCallback
    from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

    from backlit.loggers import TensorBoardLogger

    quiet_lightning()
    if run_dir is None and is_launched():
        run_dir = Path(os.environ["BACKLIT_RUN_DIR"])
    elif run_dir is None:
        run_dir = new_directory(Path("outputs", cfg.task_name, "runs", f"{datetime.now():%Y-%m-%d_%H-%M-%S}"))
        os.environ["BACKLIT_RUN_DIR"] = str(run_dir.resolve())  # for processes that this one starts
    cfg = OmegaConf.merge(cfg, {"output_dir": str(run_dir)})  # type: ignore[assignment]
    if not HydraConfig.initialized():  # called from Python
        (run_dir / ".hydra").mkdir(exist_ok=True)
        OmegaConf.save(cfg, run_dir / ".hydra" / "config.yaml")
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    trainer, model, datamodule = build(cfg, run_dir)
    record = None
    if trainer.is_global_zero:
        record = RunRecord(
            run_dir,
            seed=cfg.seed,
            overrides=list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else [],
            arguments=sys.argv[1:] if HydraConfig.initialized() else None,
            threads=torch.get_num_threads(),
            device=_device(trainer),
            precision=trainer.precision,
            world_size=trainer.world_size,
            optimized_metric=cfg.optimized_metric,
            optimized_mode=cfg.optimized_mode,
        )
        # From this, others tell how far the run is.
        plan = functools.partial(_write_plan, record)
        trainer.callbacks.append(LambdaCallback(on_train_start=plan))  # type: ignore[attr-defined]
    if cfg.train and (done := _steps_done(cfg, run_dir)) and trainer.is_global_zero:
        log.info("goes on at step %d: %s", done, from_here(run_dir))
    # All processes start from the same weights; from here on, what is random is to differ between them.
    trainer.callbacks.append(LambdaCallback(on_train_start=_seed_rank))  # type: ignore[attr-defined]
    threading.excepthook = _tell_no_thread
    # Lightning's own would ask the other processes, in the midst of whatever they are at. `LastCheckpoint` has another.
    trainer._signal_connector._sigterm_notifier_fn = exit_on_sigterm  # type: ignore[assignment,method-assign]
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    try:
        with sigterm_exits(), together(trainer, run_dir, cfg.process_timeout):
            for board in boards:
                board.begin_session(_hyperparameters(cfg))
            launcher = trainer.strategy.launcher
            if isinstance(launcher, _MultiProcessingLauncher):
                # ddp_spawn; in one go, since Lightning's processes bring little back, and would be others for testing.
                hydra = HydraConfig.get() if HydraConfig.initialized() else None
                work = functools.partial(_work_in_process, cfg, run_dir, trainer, model, datamodule, hydra)
                try:
                    metrics, steps = launcher.launch(work, trainer=trainer)
                except (KeyboardInterrupt, SystemExit):
                    for process in multiprocessing.active_children():
                        process.terminate()  # they save first
                    raise
            else:
                metrics, steps = _fit_and_test(cfg, run_dir, trainer, model, datamodule)
    except BaseException as error:
        if is_of_disk(error):
            logging.raiseExceptions = False  # the log cannot be written either
            if record:
                _end_on_a_full_disk(error, record, run_dir)
            raise
        signal = interrupted_by(error)
        if record:
            record.end(error, signal)
            for board in boards:
                board.end_session("interrupted" if signal else "failed")
            if signal:
                at = f" at step {trainer.global_step}" if trainer.global_step else ""
                log.warning("interrupted%s; what there is: %s", at, run_dir)
            else:
                log.error("failed: %s; the traceback is in %s", error, run_dir / "train.log", exc_info=error)
        elif not signal:
            log.error("process %d failed: %s", trainer.global_rank, error, exc_info=error)
        if signal:
            # What shells expect of a program that a signal ended; Lightning exits with 0 and 1.
            sys.exit({"SIGINT": 130, "SIGTERM": 143}[signal])
        raise
    if record:
        record.end()
        for board in boards:
            board.end_session("completed")
        weights = ", ".join(f"{s}: {c or 'in memory'}" for s, c in _tested_weights(metrics).items())
        shown = from_here(run_dir)
        log.info(
            "%s: completed in %.1f s, %d steps",
            cfg.task_name,
            record.content["duration_s"],
            steps,
        )
        log.info("%s\n", table({name: value for name, (value, _) in metrics.items()}))
        log.info("  weights   %s", weights)
        log.info("  the run   %s", shown)
        log.info("  curves    tensorboard --logdir %s", shown)
        if (run_dir / "weights.pth").exists():
            log.info("  judge it  backlit-evaluate run=%s", shown)
    return {name: value for name, (value, _) in metrics.items()}


def _tell_no_thread(arguments: threading.ExceptHookArgs) -> None:
    """Leave it to the run to say that the disk is full; TensorBoard writes in a thread."""
    if arguments.exc_value is None or not is_of_disk(arguments.exc_value):
        threading.__excepthook__(arguments)


def _end_on_a_full_disk(error: BaseException, record: RunRecord, run_dir: Path) -> None:
    """Say in one line what cannot be written, what is kept, and how to go on elsewhere."""
    from backlit.load import last_checkpoint, read_checkpoint

    assert isinstance(error, OSError)
    with contextlib.suppress(OSError):  # then it stays `running`, of a process that is gone: interrupted
        record.end(error)
    kept = last_checkpoint(run_dir)
    what = (
        "no checkpoint had been written"
        if kept is None
        else f"{kept.name} of step {read_checkpoint(kept)['global_step']} is kept"
    )
    where = error.filename or run_dir
    elsewhere = f"backlit-train resume={from_here(run_dir)} hydra.run.dir=<a new directory>"
    print(
        f"error: {where} cannot be written: {error.strerror}; {what}; to go on elsewhere: {elsewhere}", file=sys.stderr
    )


def _seed_rank(trainer: "Trainer", model: "LightningModule") -> None:
    """Let each process drop and augment in its own way."""
    import numpy
    import torch

    if trainer.global_rank:
        mixed = numpy.random.SeedSequence([torch.initial_seed(), trainer.global_rank]).generate_state(1, numpy.uint64)
        torch.manual_seed(int(mixed[0]))


def _write_plan(record: RunRecord, trainer: "Trainer", model: "LightningModule") -> None:
    steps, epochs = trainer.estimated_stepping_batches, trainer.max_epochs
    record.add(
        first_step=trainer.global_step,
        planned_steps=int(steps) if math.isfinite(steps) else None,
        planned_epochs=epochs if epochs and epochs > 0 else None,
    )


def build(cfg: DictConfig, run_dir: Path) -> "tuple[Trainer, LightningModule, LightningDataModule]":
    """Build what the config describes; nothing is read or written yet."""
    from hydra.utils import instantiate
    from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
    from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler

    from backlit.callbacks import SafeCheckpointIO
    from backlit.config import build_model, build_partial
    from backlit.loggers import MetricsCSV, TensorBoardLogger
    from backlit.loop import use_lean_loop

    datamodule = instantiate(cfg.data, _convert_="all")
    model, make_trainer = build_model(cfg), build_partial(cfg.trainer)
    assert make_trainer is not None
    callbacks = [instantiate(node, _convert_="all") for node in cfg.callbacks.values()]
    if not (cfg.trainer.enable_progress_bar and sys.stdout.isatty()):
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    loggers = [instantiate(node, _convert_="all") for node in cfg.logger.values()]
    done = _steps_done(cfg, run_dir)
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.steps_done = done
    if not cfg.trainer.fast_dev_run:
        loggers.insert(0, MetricsCSV(run_dir / "metrics.csv", steps_done=done))
        directory = run_dir / "checkpoints"
        if cfg.trainer.limit_val_batches != 0 and getattr(datamodule, "val_size", None) != 0:
            monitored = {"monitor": cfg.optimized_metric, "mode": cfg.optimized_mode}
            callbacks.append(ModelCheckpoint(directory, "best", **monitored, enable_version_counter=False))
        callbacks.append(instantiate(cfg.checkpoint, path=directory.resolve() / "last.ckpt"))
    shows_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    more: dict[str, Any] = {}
    # By its name alone Lightning would give the profile to a log that is kept quiet here.
    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
    if isinstance(cfg.trainer.profiler, str) and cfg.trainer.profiler in kinds:
        more["profiler"] = kinds[cfg.trainer.profiler](dirpath=run_dir, filename="profile")
    trainer = make_trainer(
        callbacks=callbacks, logger=loggers, default_root_dir=run_dir, enable_progress_bar=shows_bar, **more
    )
    trainer.strategy.checkpoint_io = SafeCheckpointIO()
    if cfg.lean_loop:
        use_lean_loop(trainer)
    return trainer, model, datamodule


def _steps_done(cfg: DictConfig, run_dir: Path) -> int | None:
    """Return the optimizer steps that this very run has taken before, None if it starts now."""
    from backlit.load import read_checkpoint

    if not (
        cfg.train and cfg.ckpt_path and Path(cfg.ckpt_path).parent.resolve() == (run_dir / "checkpoints").resolve()
    ):
        return None
    steps: int = read_checkpoint(Path(cfg.ckpt_path))["global_step"]
    return steps


def _fit_and_test(
    cfg: DictConfig,
    run_dir: Path,
    trainer: "Trainer",
    model: "LightningModule",
    datamodule: "LightningDataModule",
) -> tuple[dict[str, tuple[float, str | None]], int]:
    """Return every final metric with the checkpoint that it came from, and the number of steps taken."""
    import torch

    metrics: dict[str, tuple[float, str | None]] = {}
    tested = cfg.ckpt_path
    if cfg.train:
        # The imports left a million objects that never die; the collector need not look at them (0.2 s).
        gc.freeze()
        gc.set_threshold(700, 10, 10)
        if not torch.cuda.is_available():
            # Lightning has torch look for GPUs by NVML, so that a process may still fork afterwards. Without NVML
            # the look fails by opening a library, 0.1 ms, and torch.optim.Adam looks at every step.
            os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        trainer.fit(model, datamodule, ckpt_path=cfg.ckpt_path, weights_only=True if cfg.ckpt_path else None)
        best, last = _checkpoints(trainer)
        # A best value so far is of an earlier epoch, whose weights are kept only if it is the optimised metric's.
        metrics = {
            name: (value, None if name.endswith("_best") else _relative(last, run_dir))
            for name, value in _measured(trainer).items()
        }
        score = trainer.checkpoint_callbacks[0].best_model_score if best else None  # type: ignore[attr-defined]
        if score is not None and cfg.optimized_metric in metrics:  # ddp_spawn keeps the score in its processes
            metrics[f"{cfg.optimized_metric}_best"] = (float(score), _relative(best, run_dir))
        tested = best or last
        # Now, and again after testing: whatever goes wrong there, what was learned is kept.
        _save(run_dir, trainer, metrics, tested)
    if cfg.test:
        if cfg.train and tested is None and trainer.is_global_zero:
            log.info("fast_dev_run: nothing was saved; the weights in memory are tested")
        elif cfg.train and not best and trainer.is_global_zero:
            log.info("no validation took place, so there is no best checkpoint; the last weights are tested")
        trainer.test(model, datamodule, ckpt_path=tested, weights_only=True if tested else None, verbose=False)
        tests = {name: value.item() for name, value in trainer.callback_metrics.items()}
        metrics |= {name: (value, _relative(tested, run_dir)) for name, value in tests.items()}
        _save(run_dir, trainer, metrics, tested)
    return metrics, trainer.global_step


def _work_in_process(
    cfg: DictConfig,
    run_dir: Path,
    trainer: "Trainer",
    model: "LightningModule",
    datamodule: "LightningDataModule",
    hydra: Any,
) -> tuple[dict[str, tuple[float, str | None]], int]:
    """Do the work in one of the processes that a strategy has spawned, which know nothing of the log yet."""
    import torch

    quiet_lightning()
    if hydra is not None:
        with read_write(hydra):
            rank = int(os.environ["LOCAL_RANK"])  # the trainer knows its ranks when it fits
            if rank:
                hydra.job_logging.handlers.file.filename = str(run_dir / f"{hydra.job.name}_ddp_process_{rank}.log")
                hydra.job_logging.root.handlers = ["file"]
        HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})  # type: ignore[assignment]
        configure_log(hydra.job_logging)
    trainer.strategy._launcher = None  # these are the processes
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # what a process is sent lies in memory that all of them share
    result = _fit_and_test(cfg, run_dir, trainer, model, datamodule)
    trainer.strategy.barrier()
    torch.distributed.destroy_process_group()  # its threads would abort a process that exits
    return result


def _save(run_dir: Path, trainer: "Trainer", metrics: dict[str, tuple[float, str | None]], tested: str | None) -> None:
    """Write ``metrics.json`` and the weights alone, ``weights.pth``."""
    if not trainer.is_global_zero:
        return
    if tested:
        _export_weights(Path(tested), run_dir / "weights.pth")
    values = {name: value for name, (value, _) in metrics.items()}
    origins = {name: checkpoint for name, (_, checkpoint) in metrics.items()}
    write_json(run_dir / "metrics.json", {"metrics": values, "checkpoint": origins})


def _checkpoints(trainer: "Trainer") -> tuple[str | None, str | None]:
    """Return the paths of the best checkpoint (None without validation) and of the last (None in a fast_dev_run)."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    from backlit.callbacks import LastCheckpoint

    best, last = None, None
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, LastCheckpoint):
            last = str(callback.path)
        elif isinstance(callback, ModelCheckpoint):
            best = callback.best_model_path or None
    return best, last


def _measured(trainer: "Trainer") -> dict[str, float]:
    """Return the last value of every metric; of one that was measured before the run was resumed, too."""
    from backlit.loggers import MetricsCSV

    before = [row for logger in trainer.loggers if isinstance(logger, MetricsCSV) for row in logger.rows_before]
    measured = {name: value for row in before for name, value in row.items() if "/" in name}
    return measured | {name: value.item() for name, value in trainer.callback_metrics.items()}


def _tested_weights(metrics: dict[str, tuple[float, str | None]]) -> dict[str, str | None]:
    """Return the checkpoint that each stage's loss came from."""
    return {name.split("/")[0]: checkpoint for name, (_, checkpoint) in metrics.items() if name.endswith("/loss")}


def _relative(path: str | None, run_dir: Path) -> str | None:
    if path is None:
        return None
    return str(Path(path).relative_to(run_dir.resolve())) if Path(path).is_relative_to(run_dir.resolve()) else path


def _export_weights(checkpoint: Path, target: Path) -> None:
    """Write the network's weights alone, under the names that the network itself has (``fc1.weight``, …)."""
    import torch

    from backlit.load import net_weights, read_checkpoint

    weights = net_weights(read_checkpoint(checkpoint)["state_dict"])
    with whole_file(target) as temporary:
        torch.save(weights, temporary)


def _hyperparameters(cfg: DictConfig) -> dict[str, Any]:
    """Return what TensorBoard's HParams lists of a config."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    keep = ("max_epochs", "accelerator", "devices", "precision", "accumulate_grad_batches", "gradient_clip_val")
    chosen: dict[str, Any] = {
        group: {key: value for key, value in plain[group].items() if not key.startswith("_")}
        for group in ("data", "model", "optimizer", "scheduler")
    }
    return chosen | {"seed": plain["seed"], "trainer": {name: plain["trainer"].get(name) for name in keep}}


def _device(trainer: "Trainer") -> str:
    import torch

    device = trainer.strategy.root_device
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


if __name__ == "__main__":
    main()
