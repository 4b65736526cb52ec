"""What a LightningModule and a LightningDataModule may offer, for pictures, intervals, predictions and programs.

Any module and any data can be trained. For the rest backlit looks here, and only here, for attributes with these names:

- of the module: ``forward(inputs)``, which returns logits, and ``probabilities(logits)``, which returns the probability
  of each class, shape ``(b, num_classes)``, or that of class 1 of two, shape ``(b,)``;
- of the data: ``class_names`` (or ``classes``), one text per class; ``prepare_inputs(inputs, dtype)``, which returns
  stored inputs ``(b, ...)`` as the network takes them; ``input_shape`` and ``input_dtype``, those of a stored sample,
  where a run has not recorded them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor

from backlit.data.memory import InMemoryDataModule

_TRANSFER_HOOKS = ("on_before_batch_transfer", "on_after_batch_transfer")


def missing_definition(model: LightningModule, datamodule: Any) -> str | None:
    """Return what has to be added to a module or its data so that there are probabilities; None if nothing is missing.

    Args:
        model: The module.
        datamodule: Its data; None if there are none.
    """
    name, data = type(model).__name__, type(datamodule).__name__
    if type(model).forward is LightningModule.forward:
        return f"{name} needs forward(self, inputs), which returns logits"
    if not callable(getattr(model, "probabilities", None)):
        return f"{name} needs probabilities(self, logits), for several classes: return logits.softmax(1)"
    if datamodule is None:
        return f"{name} needs a LightningDataModule"
    for part in (model, datamodule):
        for hook in _TRANSFER_HOOKS:
            if _changes_inputs(part, hook) and not _prepares_inputs(datamodule):
                rule = "needs prepare_inputs(self, inputs, dtype), which does to inputs what"
                return f"{data} {rule} {type(part).__name__}.{hook} does"
    return None


def _changes_inputs(part: object, hook: str) -> bool:
    """Return whether a class has a hook of its own that may change batches."""
    known = (LightningModule, LightningDataModule, InMemoryDataModule)
    return getattr(type(part), hook, None) not in [getattr(one, hook) for one in known]


def _prepares_inputs(datamodule: object) -> bool:
    """Return whether data have a `prepare_inputs` of their own."""
    return getattr(type(datamodule), "prepare_inputs", None) not in (None, InMemoryDataModule.prepare_inputs)


def prepare_inputs(datamodule: object, inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Return stored inputs ``(b, ...)`` as the network takes them, on their device.

    Without a `prepare_inputs` of the data they stay as they are, but floats get the dtype of the network.
    """
    own = getattr(datamodule, "prepare_inputs", None)
    if own is not None:
        prepared: Tensor = own(inputs, dtype)
        return prepared
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def takes_pixels(datamodule: object, dtype: torch.dtype | None) -> bool:
    """Return whether data make the network's inputs from pixels, uint8 from 0 to 255, as image files have them.

    Args:
        datamodule: The data.
        dtype: The dtype of a stored sample; None if it is unknown.
    """
    # Runs of earlier versions have not recorded the dtype.
    is_stored = dtype == torch.uint8 or (dtype is None and isinstance(datamodule, InMemoryDataModule))
    return is_stored or _prepares_inputs(datamodule)


def class_names(datamodule: object) -> list[str]:
    """Return the names of the classes; an empty list if they have none."""
    names: Sequence[Any] = getattr(datamodule, "class_names", None) or getattr(datamodule, "classes", None) or ()
    return [str(name) for name in names]


def class_labels(datamodule: object, count: int) -> list[str]:
    """Return a text for each of `count` classes: their names, or else their numbers."""
    names = class_names(datamodule)
    return names if len(names) == count else [str(number) for number in range(count)]


def stored_shape(datamodule: object) -> tuple[int, ...] | None:
    """Return the shape of a stored sample, as the data declare it; None if they do not."""
    shape = getattr(datamodule, "input_shape", None)
    return None if shape is None else tuple(shape)


def stored_dtype(datamodule: object) -> torch.dtype | None:
    """Return the dtype of a stored sample, as the data declare it; None if they do not."""
    dtype = getattr(datamodule, "input_dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else None
