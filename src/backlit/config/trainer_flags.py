"""What Trainer flags must be together, and with the other nodes: what Lightning would find late, or never."""

import inspect
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lightning import Trainer

# The order of an epoch is drawn as one tensor, of a gigabyte then.
_MOST_SAMPLES = 2**27


def trainer_flags(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the Trainer that a node gives, and Lightning's defaults for the others."""
    parameters = inspect.signature(Trainer).parameters
    return {name: parameter.default for name, parameter in parameters.items()} | dict(node)


def check_trainer(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each flag that contradicts another, or a node beside the Trainer's.

    Args:
        config: The whole config as plain data; every flag alone is in its range.
    """
    flags = trainer_flags(config["trainer"])
    yield from _check_length(flags, has_scheduler=bool(config["scheduler"]))
    for name in ("max_time", "val_check_interval"):
        if (value := flags[name]) is not None and isinstance(value, str | dict) and not _is_duration(value):
            yield f"trainer.{name} must be a time > 0, days:hours:minutes:seconds like 00:12:00:00, got {value!r}"
    if flags["check_val_every_n_epoch"] is None and isinstance(flags["val_check_interval"], float):
        yield (
            "trainer.val_check_interval must be a number of batches with check_val_every_n_epoch=null,"
            f" got {flags['val_check_interval']}"
        )
    strategy = flags["strategy"]
    start = strategy.get("start_method", "popen") if isinstance(strategy, dict) else str(strategy)
    if any(word in start for word in ("spawn", "fork", "notebook")):
        # A forked child hangs in OpenMP, since the checks have computed; a spawned one brings no loggers back.
        yield f"trainer.strategy must start its processes by the command itself, got {start}: trainer=ddp or ddp_cpu"
    if str(flags["precision"]).endswith("-mixed") and flags["gradient_clip_val"] and config["optimizer"].get("fused"):
        yield (
            "optimizer.fused must be false with trainer.gradient_clip_val and trainer.precision="
            f"{flags['precision']}, since Lightning cannot clip then, got true"
        )
    if "monitor" in config["scheduler"] and flags["check_val_every_n_epoch"] != 1:
        yield (
            "trainer.check_val_every_n_epoch must be 1 with a scheduler that monitors a metric, got"
            f" {flags['check_val_every_n_epoch']}"
        )


def _check_length(flags: Mapping[str, Any], *, has_scheduler: bool) -> Iterator[str]:
    """Yield what is wrong with how long the training is to take."""
    epochs, steps = flags["max_epochs"], flags["max_steps"]
    if steps < 1 and steps != -1:
        yield f"trainer.max_steps must be >= 1 (or -1 for no limit), got {steps}"
    is_bounded = steps > 0 or flags["max_time"] is not None
    has_no_limit = epochs in (None, -1)
    if (has_no_limit and not is_bounded) or not (has_no_limit or epochs > 0):
        got = "null, for which Lightning takes 1000" if epochs is None else epochs
        yield f"trainer.max_epochs must be >= 1 (or -1 with max_steps or max_time), got {got}"
    elif has_scheduler and has_no_limit and steps == -1:
        yield "trainer.max_steps must be > 0 with a scheduler and max_epochs=-1: it has to know the number of steps"
    for least, most in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
        if flags[least] is not None and flags[most] not in (None, -1) and flags[least] > flags[most]:
            yield f"trainer.{least} must be <= trainer.{most} ({flags[most]}), got {flags[least]}"


def _is_duration(value: str | dict[str, int]) -> bool:
    """Return whether a value is a time that Lightning reads, and more than none."""
    if isinstance(value, dict):
        return "_target_" in value or any(value.values())
    return re.fullmatch(r"\d{1,4}:\d\d:\d\d:\d\d", value) is not None and re.search("[1-9]", value) is not None


def check_batches(config: Mapping[str, Any], datamodule: Any, sizes: tuple[int, int, int]) -> Iterator[str]:
    """Yield a line for each flag that leaves no batch, or asks for more than there are.

    Args:
        config: The whole config as plain data.
        datamodule: Data in memory.
        sizes: The number of their samples for training, validation and test.
    """
    flags = trainer_flags(config["trainer"])
    passes, most_passes = datamodule.passes_per_epoch, _MOST_SAMPLES // sizes[0]
    if passes > most_passes:
        yield f"data.passes_per_epoch must be <= {most_passes} (an epoch of {_MOST_SAMPLES} samples), got {passes}"
    if flags["fast_dev_run"]:
        return
    counts = {"train": math.ceil(sizes[0] * passes / datamodule.batch_size)}
    counts |= {
        name: math.ceil(size / datamodule.eval_batch_size)
        for name, size in zip(("val", "test"), sizes[1:], strict=True)
    }
    # Lightning limits validation, too, to what it overfits.
    overfits = bool(flags["overfit_batches"])
    of_stage = {
        "train": "overfit_batches" if overfits else "limit_train_batches",
        "val": "overfit_batches" if overfits else "limit_val_batches",
        "test": "limit_test_batches",
    }
    reported = set()
    for stage, flag in of_stage.items():
        limit, count = flags[flag], counts[stage]
        leaves_none = isinstance(limit, float) and limit > 0 and count and int(count * limit) == 0
        if leaves_none and flag not in reported:
            reported.add(flag)
            yield f"trainer.{flag} must come to a batch of {count} ({stage}), got {limit}"
    limit, train = flags[of_stage["train"]], counts["train"]
    if limit is not None:
        train = min(train, limit) if isinstance(limit, int) else int(train * limit)
    every = flags["val_check_interval"]
    if isinstance(every, int) and flags["check_val_every_n_epoch"] is not None and every > train > 0 and counts["val"]:
        yield f"trainer.val_check_interval must be <= {train} (the batches of an epoch), got {every}"
