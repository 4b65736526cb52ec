"""The results that a sweep returns to Hydra, and the record of a job that could not record its own end."""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict

from backlit.errors import JobError
from backlit.runs.files import is_locked
from backlit.runs.record import finish_record, rename_interrupted
from backlit.sweeps.compose import job_config
from backlit.sweeps.job import Job
from backlit.sweeps.sweep import Sweep

log = logging.getLogger(__name__)


class JobResult(JobReturn):
    """Hydra's result of a job, which prints nothing on stderr when the job has failed: the summary reports that.

    Its configs are composed when they are read: those of thousands of jobs would fill the memory.

    Args:
        value: What the job returned, or the error with which it failed.
        compose: Returns the job's config.
        facts: Hydra's other fields of a result.
    """

    def __init__(self, value: Any, compose: Callable[[], DictConfig], **facts: Any) -> None:
        super().__init__(**facts)
        self._value, self._compose = value, compose

    @property
    def cfg(self) -> DictConfig:
        """Return the job's config without Hydra's part."""
        return task_config(self._compose())

    @cfg.setter
    def cfg(self, value: Any) -> None:
        """Ignore the default of Hydra's dataclass."""

    @property
    def hydra_cfg(self) -> DictConfig:
        """Return Hydra's part of the job's config."""
        return OmegaConf.create({"hydra": self._compose().hydra})

    @hydra_cfg.setter
    def hydra_cfg(self, value: Any) -> None:
        """Ignore the default of Hydra's dataclass."""

    @property
    def return_value(self) -> Any:
        """Return the job's return value.

        Raises:
            JobError: If the job failed.
        """
        if self.status != JobStatus.COMPLETED:
            raise self._value
        return self._value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._value = value


def task_config(config: DictConfig) -> DictConfig:
    """Return a job's config without Hydra's part, as passed to the task."""
    without_hydra = config.copy()
    with open_dict(without_hydra):
        del without_hydra["hydra"]
    return without_hydra


def completed_result(sweep: Sweep, job: Job, value: Any) -> JobReturn:
    """Return the result of a completed job; a sweeper optimizes `value`."""
    return _result(sweep, job, JobStatus.COMPLETED, value)


def failed_result(sweep: Sweep, job: Job, problem: str) -> JobReturn:
    """Return the result of a failed job, which raises `JobError` when its value is read."""
    return _result(sweep, job, JobStatus.FAILED, JobError(f"{job.name}: {problem}"))


def _result(sweep: Sweep, job: Job, status: JobStatus, value: Any) -> JobReturn:
    hydra = job.config.hydra
    return JobResult(
        value,
        functools.partial(job_config, sweep, job),
        overrides=job.overrides,
        working_dir=os.getcwd() if hydra.job.chdir is False else str(job.directory),
        task_name=hydra.job.name,
        status=status,
    )


def record_end(job: Job, status: str, error: str) -> None:
    """Write how a job ended into its record and its TensorBoard directory, if the job has not done so itself."""
    tensorboard = job.directory / "tensorboard"
    try:
        if finish_record(job.directory, status, error, job.overrides) and tensorboard.is_dir():
            from backlit.loggers.tensorboard import write_session_end

            write_session_end(tensorboard, status)
    except OSError as problem:
        log.warning("%s: its end cannot be recorded: %s", job.name, problem)


def record_pruned(job: Job, reason: str) -> None:
    """Write that a job was stopped since others did better: it has recorded no more than a signal."""
    record_end(job, "interrupted", reason)
    _rename_interrupted(job, "pruned", reason)


def record_failed_start(job: Job, problem: str) -> None:
    """Write that a job could not be started; nothing happens if another process runs it."""
    if is_locked(job.directory):
        return
    record_end(job, "failed", problem)
    _rename_interrupted(job, "failed", problem)


def _rename_interrupted(job: Job, status: str, reason: str) -> None:
    try:
        rename_interrupted(job.directory, status, reason)
    except OSError as problem:
        log.warning("%s: its end cannot be recorded: %s", job.name, problem)
