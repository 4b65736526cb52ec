"""A run as Python objects: its trained network, its data, its config, its curves; a sweep as a table of runs.

A stranger's run directory is mere data: loading it runs no code but that of the packages that the reader names.
"""

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf

from backlit.config.build import followed
from backlit.config.interpolations import interpolation_problem
from backlit.config.trust import KINDS, packages_problem, trusted_node
from backlit.data import UserFilesDataModule
from backlit.errors import ConfigError
from backlit.runs.bounded import read_yaml
from backlit.runs.checkpoint import find_mismatch, read_checkpoint
from backlit.runs.find import find_run, latest_directories
from backlit.runs.read_record import read_metrics
from backlit.runs.run import flat_config, read_rows
from backlit.sweeps.entries import Entry, sweep_entries
from backlit.sweeps.ranking import rank_entries
from backlit.text import first_line, path_override, shell_word


@dataclass(frozen=True)
class LoadedRun:
    """A run as `load_run` returns it.

    Args:
        directory: The run directory.
        checkpoint: The file that the network's weights come from; None for a run of `run_experiment` that keeps none.
        config: The whole config that the run was trained with.
        model: The LightningModule, in evaluation mode, on the CPU, in the dtype that it was trained in.
        datamodule: The LightningDataModule, not set up yet.
    """

    directory: Path
    checkpoint: Path | None
    config: DictConfig = field(repr=False)
    model: LightningModule = field(repr=False)
    datamodule: LightningDataModule = field(repr=False)

    @property
    def metrics(self) -> Any:
        """Return the curves: a pandas DataFrame where pandas is installed, else a list of dicts, one per record."""
        return _as_table(read_rows(self.directory / "metrics.csv"))

    @property
    def results(self) -> dict[str, float]:
        """Return the final metrics: ``test/acc`` and the others of ``metrics.json``."""
        return read_metrics(self.directory / "metrics.json")


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep as `load_sweep` returns it.

    Args:
        directory: The directory of the sweep.
        directories: The run directories of its jobs, the best first.
        rows: A dict per job, in the same order: ``job`` (its number), the varied keys, ``status``, ``best`` (the best
            value of the optimized metric), its ``epoch``, ``seconds``, ``error``, and the final metrics.
        packages: Packages beside backlit whose code the runs' configs may name.
    """

    directory: Path
    directories: list[Path] = field(repr=False)
    rows: list[dict[str, Any]] = field(repr=False)
    packages: Sequence[str] = ()

    @property
    def table(self) -> Any:
        """Return the jobs, the best first: a pandas DataFrame where pandas is installed, else `rows`."""
        return _as_table(self.rows)

    def load_best(self) -> LoadedRun:
        """Return the run of the best job that is completed.

        Raises:
            ValueError: If no job is completed, or if the run cannot be loaded.
        """
        for directory, row in zip(self.directories, self.rows, strict=True):
            if row["status"] == "completed":
                return load_run(directory, packages=self.packages)
        raise ValueError(f"{self.directory} must have a completed job, but has none")


def _as_table(rows: list[dict[str, Any]]) -> Any:
    """Return a pandas DataFrame where pandas is installed, else the rows themselves."""
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


def load_run(
    run: str | Path = "latest", *, checkpoint: str | None = None, packages: Sequence[str] = (), outputs: str = "outputs"
) -> LoadedRun:
    """Return a run.

    Args:
        run: A run directory, a file in its ``checkpoints/``, or ``latest`` for the newest run with a checkpoint.
        checkpoint: ``best`` or ``last``; None for the best, or the last where there was no validation.
        packages: Packages beside backlit whose code the run's config may name: those of your own models and data.
        outputs: The directory of all runs, for ``latest``.

    Raises:
        ValueError: If there is no such run or checkpoint, or if it cannot be read, was written by another program, or
            needs code that `packages` does not name.
    """
    if problem := packages_problem(packages):
        raise ValueError(problem)
    if (Path(run) / "sweep.json").is_file():
        raise ValueError(
            f"run must be a run directory, got {run}, which is a sweep: load_sweep({str(run)!r}).load_best()"
        )
    directory, file = find_run(run, checkpoint, outputs)
    config = read_config(directory)
    nodes = {name: trusted_node(config, name, packages) for name in ("model", "data")}
    content = read_checkpoint(file)
    datamodule = cast(LightningDataModule, _build("data", nodes["data"]))
    if isinstance(datamodule, UserFilesDataModule):
        try:
            datamodule.load_state_dict(content.get(type(datamodule).__qualname__, {}))
        except ValueError as error:
            raise ValueError(f"{file} must fit the run's config: {error}") from None
    made = {"optimizer": None, "scheduler": None, **followed(nodes["model"], datamodule)}
    model, state = cast(LightningModule, _build("model", nodes["model"], **made)), content["state_dict"]
    if problem := find_mismatch(model, state):
        raise ValueError(f"{file} must fit the run's config: {problem}")
    if broken := next((name for name, _ in model.named_parameters() if not state[name].isfinite().all()), None):
        raise ValueError(f"{file} must have finite weights, but {broken} has nan or infinity: the training diverged")
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    # Not `to`: it would also convert the states of torchmetrics, whose last digits would differ then.
    if convert := {torch.float64: model.double, torch.float16: model.half, torch.bfloat16: model.bfloat16}.get(dtype):
        convert()
    model.load_state_dict(state)
    return LoadedRun(directory, file, config, model.eval(), datamodule)


def load_sweep(sweep: str | Path = "latest", *, packages: Sequence[str] = (), outputs: str = "outputs") -> LoadedSweep:
    """Return a sweep, completed or not.

    Args:
        sweep: Its directory, or ``latest`` for the newest one.
        packages: Packages beside backlit whose code the runs' configs may name: those of your own models and data.
        outputs: The directory of all runs and sweeps, for ``latest``.

    Raises:
        ValueError: If there is no such sweep.

    Warns:
        UserWarning: About each job that cannot be read, and is left out.
    """
    if problem := packages_problem(packages):
        raise ValueError(problem)
    found = latest_directories("sweep.json", Path(outputs)) if sweep == "latest" else [Path(sweep)]
    if not found:
        raise ValueError(f"there is no sweep in {Path(outputs).resolve()}")
    directory = found[0]
    if not (directory / "sweep.json").is_file():
        raise ValueError(f"sweep must be the directory of a sweep or 'latest', got {sweep}, which has no sweep.json")
    entries, problems = sweep_entries(directory)
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    ranked = rank_entries(entries)
    return LoadedSweep(directory, [entry.directory for entry in ranked], list(map(_job_row, ranked)), packages)


def _job_row(entry: Entry) -> dict[str, Any]:
    """Return a job of a sweep as a row of `LoadedSweep.rows`."""
    best, epoch = entry.best or (None, None)
    return {
        "job": _as_number(entry.name),
        **{key: _as_number(value) for key, value in entry.settings.items()},
        "status": entry.status,
        "best": best,
        "epoch": None if epoch is None else int(epoch),
        "seconds": entry.duration_s,
        "error": entry.error or None,
        **(entry.run.metrics if entry.run else {}),
    }


def _as_number(text: str) -> int | float | str:
    """Return a text as a number, if it is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _build(name: str, node: dict[str, Any], **arguments: Any) -> Any:
    """Return the object that a node describes.

    Raises:
        ValueError: If its constructor rejects the arguments, or if it is not what is needed.
    """
    try:
        built = instantiate(node, _convert_="all", **arguments)
    except (InstantiationException, TypeError) as error:  # Hydra's, for its own keys with other types
        raise ValueError(
            f"{name} of the run's config cannot be built: {first_line(error.__cause__ or error)}"
        ) from error
    if not isinstance(built, KINDS[name]):
        raise ValueError(f"{name} of the run's config must be a {KINDS[name].__name__}, got {type(built).__name__}")
    return built


def load_named(cfg: DictConfig) -> LoadedRun:
    """Return the run that the keys ``run``, ``checkpoint`` and ``packages`` of a command's config name.

    Raises:
        ConfigError: If there is no such run, or if it cannot be loaded.
    """
    check_named(cfg)
    try:
        return load_run(str(cfg.run), checkpoint=cfg.checkpoint, packages=list(cfg.packages))
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def check_named(cfg: DictConfig) -> None:
    """Raise `ConfigError` if the keys that name a run have the wrong types, or if the run is a sweep."""
    if OmegaConf.is_missing(cfg, "run") or not isinstance(cfg.run, str) or not cfg.run:
        raise ConfigError(["run must be a run directory, a file in its checkpoints/, or 'latest': run=latest"])
    if (Path(cfg.run) / "sweep.json").is_file():
        raise ConfigError([f"run must be a run directory, got {cfg.run}, which is a sweep{_best_job(Path(cfg.run))}"])
    if problem := packages_problem(cfg.packages):
        raise ConfigError([problem])
    if cfg.checkpoint is not None and not (isinstance(cfg.checkpoint, str) and cfg.checkpoint):
        raise ConfigError([f"checkpoint must be best, last or null, got {cfg.checkpoint!r}"])


def _best_job(sweep_dir: Path) -> str:
    """Return what to type for the best job of a sweep, as the end of a message; nothing if none is completed."""
    ranked = [entry for entry in rank_entries(sweep_entries(sweep_dir)[0]) if entry.status == "completed"]
    return f"; its best job: {shell_word(path_override('run', ranked[0].directory))}" if ranked else ""


def read_config(directory: Path) -> DictConfig:
    """Return the config that a run was trained with.

    Raises:
        ValueError: If it cannot be read.
    """
    path = directory / ".hydra" / "config.yaml"
    flat_config(directory)  # raises where omegaconf would not end, or end the process: aliases, deep nesting
    try:
        config = OmegaConf.create(read_yaml(path))
    except Exception as error:  # PyYAML and omegaconf raise many kinds
        raise ValueError(f"{path} must be a run's config, got: {first_line(error)}") from None
    if not isinstance(config, DictConfig) or not {"model", "data", "seed"} <= set(config):
        raise ValueError(f"{path} must be a run's config with model, data and seed, got something else")
    if problem := interpolation_problem(OmegaConf.to_container(config, resolve=False)):
        raise ValueError(f"{path} must be a run's config: {problem}")
    if OmegaConf.select(config, "data.stratified") is False:
        del config.data.stratified  # a key of earlier versions, at the value at which it changed nothing
    return config
