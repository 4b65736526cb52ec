"""Slurm's commands: what they are asked, and what they answer."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backlit.arguments import Text, find_problem
from backlit.errors import ConfigError
from backlit.sweeps.slurm_job import LEAD_S

# Seconds for an answer; the controller may be busy.
_TIMEOUT_S = 60
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
# Options that the engine gives itself, and those by which a job would not be one process with one log.
_RESERVED = re.compile(
    r"--(array|chdir|clusters|cpus-per-task|error|input|job-name|nodes|no-requeue|ntasks|ntasks-per-\w+|open-mode|output|parsable"
    r"|requeue|signal|test-only|wait|wrap)(=|$)"
)


class SlurmError(Exception):
    """Slurm has rejected a command, or does not answer; the message is Slurm's reason."""


@dataclass(frozen=True)
class SlurmOptions:
    """What ``hydra.launcher`` says about each job.

    Args:
        partition: The partition; None for the cluster's default.
        time: The time limit: minutes, or a text as Slurm takes it; None for the partition's limit.
        gres: Generic resources, ``gpu:a100:2``; None for the GPUs that the job requests.
        account: Who pays; None for the user's default.
        qos: The quality of service; None for the default.
        options: Further options of ``sbatch``.
    """

    partition: str | None = None
    time: int | str | None = None
    gres: str | None = None
    account: str | None = None
    qos: str | None = None
    options: Sequence[str] = field(default_factory=tuple)

    def problems(self) -> list[str]:
        """Return what is out of its range, a line a key."""
        names = ("partition", "gres", "account", "qos")
        hints: dict[str, Any] = dict.fromkeys(names, Text | None)
        found = [find_problem(f"hydra.launcher.{name}", getattr(self, name), hints[name]) for name in names]
        if self.time is not None and _minutes(self.time) < 2 * LEAD_S / 60:
            rule = f"minutes, or as Slurm takes it (1-12:00:00), and >= {2 * LEAD_S // 60} minutes or null"
            found.append(f"hydra.launcher.time must be in {rule}, got {self.time}")
        for option in self.options:
            if not re.match(r"--[a-z]", option):
                found.append(
                    f"hydra.launcher.options must be options of sbatch, --name or --name=value, got {option!r}"
                )
            elif _RESERVED.match(option):
                found.append(f"hydra.launcher.options must be without {option.partition('=')[0]}, which backlit sets")
        return [line for line in found if line]

    def arguments(self, gpus: int) -> list[str]:
        """Return the options of ``sbatch``.

        Args:
            gpus: The number of the job's GPUs.
        """
        gres = self.gres or (f"gpu:{gpus}" if gpus else None)
        named = {"partition": self.partition, "time": self.time, "gres": gres, "account": self.account, "qos": self.qos}
        return [*(f"--{name}={value}" for name, value in named.items() if value is not None), *self.options]


def _minutes(time: int | str) -> float:
    """Return a time limit in minutes; 0 for what Slurm does not take."""
    match = _TIME.fullmatch(str(time))
    if match is None:
        return 0
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return int(match["days"]) * 1440 + hours * 60 + minutes + seconds / 60
    if len(parts) == 3:
        return parts[0] * 60 + parts[1] + parts[2] / 60
    return parts[0] + (parts[1] / 60 if len(parts) == 2 else 0)


def submit(options: Sequence[str], command: Sequence[str], *, is_test: bool = False) -> int:
    """Submit a command as a job, and return Slurm's number for it; 0 if it is only tested whether Slurm takes it.

    Raises:
        SlurmError: If Slurm rejects it.
    """
    script = f"#!/bin/sh\nexec {shlex.join(command)}\n"
    answer = _run("sbatch", *(["--test-only"] if is_test else []), "--parsable", *options, stdin=script)
    if is_test:
        return 0
    number = (answer.strip().splitlines() or [""])[-1].split(";")[0]  # a site may print more before it
    if not number.isdecimal():
        raise SlurmError(f"sbatch has printed no number: {answer.strip()[:100]!r}")
    return int(number)


@dataclass(frozen=True)
class QueuedJob:
    """A job in Slurm's queue.

    Args:
        slurm_id: Slurm's number.
        state: ``PENDING``, ``RUNNING`` and so on.
        reason: Why it is pending.
        log_file: The file for its output, as ``sbatch`` was given it.
    """

    slurm_id: int
    state: str
    reason: str
    log_file: str


def read_queue() -> dict[int, QueuedJob]:
    """Return the user's jobs that are pending or run, by Slurm's number.

    Raises:
        SlurmError: If Slurm does not answer.
    """
    listed = _run("squeue", "--me", "--noheader", "-O", "JobID:|,State:|,Reason:|,StdOut:|")
    found = {}
    for line in listed.splitlines():
        number, state, reason, log_file = [*line.removesuffix("|").split("|", 3), "", "", ""][:4]
        if number.isdecimal() and log_file:  # not of an array
            found[int(number)] = QueuedJob(int(number), state, reason, log_file)
    return found


def cancel(slurm_id: int, *options: str) -> None:
    """End a job; by default Slurm sends SIGTERM to all its processes, and SIGKILL after its ``KillWait``.

    Raises:
        SlurmError: If Slurm does not answer.
    """
    _run("scancel", *options, str(slurm_id))


def _run(program: str, *arguments: str, stdin: str = "") -> str:
    """Return what one of Slurm's programs prints.

    Raises:
        SlurmError: If it fails; ConfigError if it is missing.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            start_new_session=True,  # Ctrl-C is for the launcher alone
        )
    except FileNotFoundError:
        instead = "on this machine: hydra.launcher.engine=processes"
        raise ConfigError(
            [f"hydra.launcher.engine=slurm needs {program}, which is not installed here; {instead}"]
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{program} does not answer") from None
    if done.returncode:
        lines = [re.sub(rf"^{program}: ((error|fatal): )?", "", line) for line in done.stderr.strip().splitlines()]
        raise SlurmError(f"{program}: {'; '.join(lines) or f'exit code {done.returncode}'}")
    return done.stdout
