"""One run of a sweep."""

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backlit.text import quote_value

# In the environment of a job that is started as a command: its directory, which the sweep has reserved.
JOB_DIRECTORY = "BACKLIT_JOB_DIRECTORY"
# Overrides that configure the sweep, not a job.
_SWEEP_KEYS = (
    "hydra.sweep.",
    "hydra/sweeper",
    "hydra.sweeper.",
    "hydra/launcher",
    "hydra.launcher.",
    "hydra.mode",
    "hydra.job.config.override_dirname.",
)


# What an engine needs of a job's config: its hardware.
_HARDWARE = ("accelerator", "devices", "num_nodes")


def job_facts(config: DictConfig) -> DictConfig:
    """Return what a launcher needs of a job's config: 10,000 whole ones would take gigabytes."""
    hardware = {}
    for key in _HARDWARE:
        with contextlib.suppress(OmegaConfBaseException):  # the check of the job reports it
            value = OmegaConf.select(config, f"trainer.{key}")
            hardware[key] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    job = {"name": config.hydra.job.name, "chdir": config.hydra.job.chdir}
    return OmegaConf.create({"trainer": hardware, "hydra": {"job": job}})


@dataclass
class Job:
    """One run of a sweep.

    Args:
        number: Its number in the sweep, from 0.
        overrides: The overrides of which its config is composed, in Hydra's syntax.
        config: What the launcher needs of its config, see `job_facts`.
        directory: Its run directory.
        label: The overrides that differ from job to job.
        sweep_overrides: The overrides with those that make a sweep, whose other keys it has, too.
        checkpoint: The checkpoint from which it resumes, if an earlier attempt has left one.
        gpus: Number of its GPUs.
        visible_gpus: The names of its GPUs while it runs.
    """

    number: int
    overrides: list[str]
    config: DictConfig
    directory: Path
    label: str
    sweep_overrides: list[str] = field(default_factory=list)
    checkpoint: Path | None = None
    gpus: int = 0
    visible_gpus: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return number and label."""
        return f"job {self.number} {self.label}".rstrip()

    @property
    def log_file(self) -> Path:
        """Return the file that receives the job's output."""
        return self.directory / f"{self.config.hydra.job.name}.log"

    @property
    def processes(self) -> int:
        """Return the number of the job's processes on the CPU."""
        devices = OmegaConf.select(self.config, "trainer.devices")
        on_cpu = OmegaConf.select(self.config, "trainer.accelerator") == "cpu"
        return devices if on_cpu and isinstance(devices, int) and devices > 0 else 1

    def arguments(self, hydra_overrides: list[str], task_overrides: list[str]) -> list[str]:
        """Return the command-line arguments that start the job as a single run, and its ranks.

        Args:
            hydra_overrides: The sweep's overrides of Hydra's keys.
            task_overrides: The sweep's other overrides; the job's own replace them.
        """
        flags = [a for a in sys.argv[1:] if a not in {"-m", "--multirun", *task_overrides, *hydra_overrides}]
        kept = [override for override in hydra_overrides if not override.lstrip("+~").startswith(_SWEEP_KEYS)]
        from_checkpoint = [f"ckpt_path={quote_value(str(self.checkpoint))}"] if self.checkpoint else []
        return [*flags, *self.overrides, *kept, *from_checkpoint]
