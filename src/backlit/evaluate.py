"""``backlit-evaluate``: tests the best weights of a run again, on the run's own test set."""

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from backlit.entry import ConfigError, command, quiet_lightning
from backlit.run import from_here, latest_run, table

log = logging.getLogger(__name__)


def main() -> None:
    """Run ``backlit-evaluate``."""
    command(evaluate, "evaluate")


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Test a run's checkpoint and return the metrics, the same figures as at the end of its training.

    Args:
        cfg: What ``conf/evaluate.yaml`` composes to; `cfg.run` is a run directory or ``latest``.

    Raises:
        ConfigError: If there is no such run, or it has no such checkpoint.
    """
    if OmegaConf.is_missing(cfg, "run"):
        raise ConfigError(["run must be a run directory or 'latest', got none: backlit-evaluate run=latest"])
    try:
        run_dir = latest_run(Path("outputs")) if cfg.run == "latest" else Path(cfg.run)
    except FileNotFoundError as error:
        raise ConfigError([f"run=latest: {error}"]) from None
    config = run_dir / ".hydra" / "config.yaml"
    if not config.is_file():
        raise ConfigError([f"run must be a run directory, got {cfg.run}, which has no .hydra/config.yaml"])
    checkpoints = run_dir / "checkpoints"
    names = [cfg.checkpoint] if cfg.checkpoint else ["best", "last"]
    found = [path for name in names if (path := checkpoints / f"{name}.ckpt").is_file()]
    if not found:
        there = ", ".join(sorted(path.stem for path in checkpoints.glob("*.ckpt"))) or "none"
        raise ConfigError([f"checkpoint must be one that {run_dir} has ({there}), got {' or '.join(names)}"])
    trained = OmegaConf.load(config)
    assert isinstance(trained, DictConfig)

    import torch
    from hydra.utils import instantiate
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from backlit.config import build_partial

    quiet_lightning()
    make_trainer = build_partial(cfg.trainer)
    assert make_trainer is not None
    try:
        trainer = make_trainer(logger=False, enable_checkpointing=False)
    except MisconfigurationException as error:
        raise ConfigError([f"trainer: {str(error).splitlines()[0]}"]) from None
    model = instantiate(trained.model, _convert_="all", optimizer=None, scheduler=None)
    datamodule = instantiate(trained.data, _convert_="all")
    model.load_state_dict(torch.load(found[0], map_location="cpu", weights_only=True)["state_dict"])
    trainer.test(model, datamodule, verbose=False)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    log.info("%s\n\n  weights   %s", table(metrics), from_here(found[0]))
    return metrics


if __name__ == "__main__":
    main()
