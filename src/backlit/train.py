"""``backlit-train``: trains what the config composes, tests the best checkpoint, and leaves a run directory."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from backlit.cli.app import run_command
from backlit.cli.invocation import Invocation
from backlit.cli.resume import plan_command
from backlit.errors import RerunDiffersError
from backlit.runs.config_files import write_config
from backlit.text import shell_path

if TYPE_CHECKING:
    from backlit.runs.results import Results
    from backlit.training.build import RunParts


def main() -> None:
    """Run ``backlit-train``."""
    run_command(_train, "train", plan=plan_command, check=_check)


def _check(cfg: DictConfig) -> list[str]:
    """Return what is wrong with the config of a job, a line a problem."""
    from backlit.training.build import find_problems

    return find_problems(cfg, is_recorded=Invocation.current().plan.is_recorded)


def _train(cfg: DictConfig) -> float | None:
    """Train; return the best value of the optimized metric, which a sweeper may want."""
    _, results = train_composed(cfg)
    return results.metrics.get(f"{cfg.optimized_metric}_best")


def train_composed(cfg: DictConfig) -> "tuple[RunParts, Results]":
    """Train what Hydra has composed for this command; return what the run is made of, and its results.

    Raises:
        RerunDiffersError: If the run repeats another one and differs from it.
    """
    from backlit.training.build import build_run
    from backlit.training.train import run

    invocation, run_dir = Invocation.current(), Path(HydraConfig.get().runtime.output_dir)
    parts = invocation.take_parts()  # of the process that has checked the config; others build theirs now
    if parts is None:
        parts = build_run(cfg, run_dir, is_recorded=invocation.plan.is_recorded)
    results = run(parts)
    if parts.is_extension and parts.trainer.is_global_zero:
        hydra = HydraConfig.get()
        whole: dict[str, Any] = {
            "config": cfg,
            "hydra": OmegaConf.create({"hydra": hydra}),
            "overrides": hydra.overrides.task,
        }
        write_config(run_dir, whole)
    if (original := invocation.plan.rerun_of) is not None:
        from backlit.runs.compare import compare_rerun

        if not compare_rerun(original, run_dir):
            raise RerunDiffersError(f"{shell_path(run_dir)} differs from {shell_path(original)}")
    return parts, results


if __name__ == "__main__":
    main()
