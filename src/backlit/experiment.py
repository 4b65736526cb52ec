"""A run from Python, as ``backlit-train`` trains it: ``run_experiment("experiment=points", "optimizer.lr=0.3")``."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from backlit.cli.app import call_command
from backlit.cli.invocation import Invocation
from backlit.cli.resume import plan_command
from backlit.config.trust import packages_problem
from backlit.distributed.rendezvous import share
from backlit.errors import ConfigError
from backlit.load import LoadedRun, load_run, read_config
from backlit.runs.commands import MULTIRUN, own_packages
from backlit.text import shell_command
from backlit.train import train_composed
from backlit.training.build import RunParts
from backlit.training.restore_process import leave_generators_as_found, leave_torch_as_found


def run_experiment(*overrides: str, config_dir: str | Path | None = None, packages: Sequence[str] = ()) -> LoadedRun:
    """Train and test as ``backlit-train`` does with these arguments, and return the run as `load_run` does.

    The run directory is the same as the command's; its ``run.json`` has a command that repeats the run. The console
    shows a line per epoch, at a terminal a bar. Works in notebooks, and in threads, which take turns. The process is
    left as it was found, random generators included.

    Args:
        overrides: What would be typed, without quotes for a shell: ``"experiment=points"``, ``"optimizer.lr=0.3"``;
            also ``"resume=latest"``. a sweep is a command, ``backlit-train -m ...``, and `load_sweep` loads it.
        config_dir: A directory of YAML files of your own, as ``--config-dir``.
        packages: For ``resume=`` and ``rerun=``: packages beside backlit whose code the run's config may name.

    Raises:
        ConfigError: If something is wrong with the arguments, a line a problem, as the command would print them;
            nothing was started.
        FloatingPointError: If a loss is not finite.
        KeyboardInterrupt: If you have interrupted the run; its record says so, and it can be resumed.
        Exception: What has ended the run; its ``run.json`` has it too, its ``train.log`` the traceback.
    """
    if any(word in MULTIRUN for word in overrides):
        words = shell_command("backlit-train", *(str(word) for word in overrides))
        raise ConfigError([f"run_experiment trains one run; a sweep is a command: {words}; then: backlit.load_sweep()"])
    if flags := [f"{word} is none" for word in overrides if not isinstance(word, str) or word.startswith("-")]:
        raise ConfigError([f"run_experiment takes arguments like 'optimizer.lr=0.3', and {flag}" for flag in flags])
    if problem := packages_problem(packages):
        raise ConfigError([problem])
    arguments = list(overrides)
    if packages:
        arguments.append(f"packages=[{','.join(packages)}]")
    if config_dir is not None:
        arguments = ["--config-dir", str(config_dir), *arguments]
    trained: list[RunParts] = []

    def task(cfg: DictConfig) -> None:
        trained.append(train_composed(cfg)[0])
        # Of the processes that torchrun has started, the first writes the results, which the others load.
        store = next(reversed(Invocation.current().kept), None)
        share("trained", str, cfg.process_timeout, store=store)

    with leave_torch_as_found(), leave_generators_as_found():
        call_command(task, "train", arguments, plan=plan_command)
        return _load_trained(trained[0], packages)


def _load_trained(parts: RunParts, packages: Sequence[str]) -> LoadedRun:
    """Return a run that this process has just trained, and so has run the code that its config names."""
    directory = parts.run_dir
    if not any(directory.glob("checkpoints/*.ckpt")):  # debug=fast keeps none, a run that only tests neither
        return LoadedRun(directory, None, read_config(directory), parts.model.cpu().eval(), parts.datamodule)
    return load_run(directory, packages=sorted({*packages, *own_packages(directory)}))
