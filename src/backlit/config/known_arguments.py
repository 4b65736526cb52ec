"""The ranges of arguments of torch's and Lightning's classes, whose own annotations say ``int`` or ``float`` alone."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    RichModelSummary,
)
from lightning.pytorch.loggers import Logger
from torch import optim
from torch.optim import lr_scheduler

from backlit.arguments import (
    Count,
    Fraction,
    FractionBelow1,
    NonNegative,
    PartOf1,
    Positive,
    PositiveInt,
    Text,
)

_Minus1OrMore = Annotated[int, Ge(-1)]
_Betas = Annotated[list[FractionBelow1], Len(2, 2)]
_Time = str | dict[Literal["weeks", "days", "hours", "minutes", "seconds"], Count]
_Batches = PositiveInt | PartOf1 | None  # a number of them, or a fraction of an epoch's

_ADAM = {"lr": Positive, "betas": _Betas, "eps": NonNegative, "weight_decay": NonNegative}

RANGES: dict[type, dict[str, Any]] = {
    Trainer: {
        "accelerator": Text,
        "strategy": Text,
        # Lightning makes a list of them.
        "devices": Annotated[int, Ge(1), Le(10_000)] | Literal[-1, "auto"] | Annotated[list[Count], Len(1)],
        "num_nodes": Annotated[int, Ge(1), Le(10_000)],
        "max_epochs": int | None,
        "min_epochs": Count | None,
        "max_steps": int,
        "min_steps": Count | None,
        "max_time": _Time | None,
        "accumulate_grad_batches": PositiveInt,
        "gradient_clip_val": NonNegative | None,
        "gradient_clip_algorithm": Literal["norm", "value"] | None,
        "val_check_interval": PositiveInt | PartOf1 | _Time | None,
        "check_val_every_n_epoch": PositiveInt | None,
        "num_sanity_val_steps": _Minus1OrMore,
        "log_every_n_steps": Count,
        "limit_train_batches": _Batches,
        "limit_val_batches": Count | Fraction | None,
        "limit_test_batches": _Batches,
        "limit_predict_batches": Count | Fraction | None,
        "overfit_batches": Count | Fraction,
        "fast_dev_run": Count | bool,
        "reload_dataloaders_every_n_epochs": Count,
        "profiler": Literal["simple", "advanced", "pytorch"] | None,
        "enable_progress_bar": bool,
        "enable_model_summary": bool,
        "model_registry": Text | None,
    },
    optim.Optimizer: {"lr": Positive, "weight_decay": NonNegative},
    optim.SGD: {
        "lr": Positive,
        "momentum": FractionBelow1,
        "dampening": Fraction,
        "weight_decay": NonNegative,
        "nesterov": bool,
    },
    optim.Adam: _ADAM,
    optim.AdamW: _ADAM,
    optim.NAdam: _ADAM | {"momentum_decay": NonNegative},
    optim.RAdam: _ADAM,
    optim.Adamax: _ADAM,
    optim.RMSprop: {
        "lr": Positive,
        "alpha": FractionBelow1,
        "eps": NonNegative,
        "weight_decay": NonNegative,
        "momentum": FractionBelow1,
    },
    optim.Adagrad: {
        "lr": Positive,
        "lr_decay": NonNegative,
        "eps": NonNegative,
        "weight_decay": NonNegative,
        "initial_accumulator_value": NonNegative,
    },
    optim.Adadelta: {"lr": Positive, "rho": FractionBelow1, "eps": NonNegative, "weight_decay": NonNegative},
    optim.Rprop: {
        "lr": Positive,
        "etas": tuple[Annotated[float, Gt(0), Lt(1)], Annotated[float, Gt(1)]],
        "step_sizes": tuple[Positive, Positive],
    },
    lr_scheduler.StepLR: {"step_size": PositiveInt, "gamma": PartOf1},
    lr_scheduler.MultiStepLR: {"milestones": list[PositiveInt], "gamma": PartOf1},
    lr_scheduler.ExponentialLR: {"gamma": PartOf1},
    lr_scheduler.CosineAnnealingLR: {"T_max": PositiveInt | None, "eta_min": NonNegative},
    lr_scheduler.CosineAnnealingWarmRestarts: {"T_0": PositiveInt, "T_mult": PositiveInt, "eta_min": NonNegative},
    lr_scheduler.LinearLR: {"start_factor": PartOf1, "end_factor": Fraction, "total_iters": PositiveInt},
    lr_scheduler.ConstantLR: {"factor": Fraction, "total_iters": Count},
    lr_scheduler.PolynomialLR: {"total_iters": PositiveInt, "power": NonNegative},
    lr_scheduler.OneCycleLR: {"max_lr": Positive, "pct_start": FractionBelow1, "div_factor": Positive},
    lr_scheduler.ReduceLROnPlateau: {
        "mode": Literal["min", "max"] | None,
        "factor": Annotated[float, Gt(0), Lt(1)],
        "patience": Count,
        "threshold": NonNegative,
        "cooldown": Count,
        "eps": NonNegative,
    },
    EarlyStopping: {
        "monitor": Text,
        "min_delta": NonNegative,
        "patience": PositiveInt,
        "mode": Literal["min", "max"] | None,
    },
    ModelCheckpoint: {
        "monitor": Text | None,
        "save_top_k": _Minus1OrMore,
        "mode": Literal["min", "max"] | None,
        "every_n_epochs": Count | None,
        "every_n_train_steps": Count | None,
    },
    EMAWeightAveraging: {
        "device": Literal["cpu"] | None,
        "decay": Fraction,
        "update_every_n_steps": PositiveInt,
        "update_starting_at_step": Count | None,
        "update_starting_at_epoch": Count | None,
    },
    RichModelSummary: {"max_depth": _Minus1OrMore},
    LearningRateMonitor: {"logging_interval": Literal["step", "epoch"] | None},
}

# What each part of a run must be.
KINDS: dict[str, type] = {
    "data": LightningDataModule,
    "model": LightningModule,
    "optimizer": optim.Optimizer,
    "trainer": Trainer,
    "checkpoint": Callback,
    "callbacks": Callback,
    "logger": Logger,
}

# What a model may have of its data if it is null in the config, and the attribute of a data module that it comes from.
FOLLOWED = {"in_features": "input_shape", "input_shape": "input_shape", "num_classes": "num_classes"}

# What backlit gives to a part of a run itself, by its place in the config: a value there would be ignored.
GIVEN: dict[str, dict[str, str]] = {
    "trainer": {
        "callbacks": "+callbacks.<name>._target_=... adds one",
        "logger": "logger=csv writes metrics.csv alone, +logger.<name>._target_=... adds one",
        "default_root_dir": "hydra.run.dir=... chooses the directory",
        "enable_checkpointing": "trainer.fast_dev_run=true writes no checkpoints",
        "barebones": "callbacks=none and logger=csv leave out what takes time",
    },
    "checkpoint": {"path": "hydra.run.dir=... chooses the directory"},
    "model": {"optimizer": "optimizer=... chooses it", "scheduler": "scheduler=... chooses it"},
    "optimizer": {"params": "they are those of the model"},
    "scheduler": {"optimizer": "optimizer=... chooses it", "total_steps": "trainer.max_epochs=... determines them"},
}


def added_arguments(target: Any) -> dict[str, Any]:
    """Return the annotations of what backlit takes beside the arguments of a class, by name.

    A scheduler of torch has the arguments of `models.schedulers.torch_schedule` too.
    """
    if not (isinstance(target, type) and issubclass(target, lr_scheduler.LRScheduler)):
        return {}
    monitor = {"monitor": Text} if issubclass(target, lr_scheduler.ReduceLROnPlateau) else {}
    return {"interval": Literal["step", "epoch"] | None, **monitor}


def known_ranges(target: Any) -> dict[str, Any]:
    """Return what the arguments of a class, or of the nearest one that it inherits from, must be, by name."""
    bases = target.__mro__ if isinstance(target, type) else ()
    return next((RANGES[base] for base in bases if base in RANGES), {})
