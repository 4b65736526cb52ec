"""Whether the parts of a run can load their states from a checkpoint, by comparison with the states of fresh ones."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from backlit.data import InMemoryDataModule
from backlit.models import Classifier
from backlit.text import first_line


def find_unloadable(
    content: Mapping[str, Any], trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
) -> str | None:
    """Return the first state in a checkpoint that a part of the run could not load, as the end of a message.

    The optimizer and the scheduler of a module that makes them itself are known only when training starts.

    Args:
        content: What the checkpoint holds; `backlit.runs.resumable.find_malformed` has found nothing.
        trainer: Has the loops.
        model: Makes the optimizer.
        datamodule: Has the loader of training.
    """
    found = _loops(content["loops"], trainer, datamodule)
    if isinstance(model, Classifier) and type(model).configure_optimizers is Classifier.configure_optimizers:
        found = itertools.chain(found, _optimizer(content, model))
    first = next(found, None)  # what follows relies on it
    return None if first is None else f"of which {first}"


def _loops(states: Mapping[str, Any], trainer: Trainer, datamodule: LightningDataModule) -> Iterator[str]:
    for name in ("fit_loop", "validate_loop", "test_loop", "predict_loop"):
        fresh = getattr(trainer, name).state_dict()
        # Lightning itself allows that earlier versions had less.
        there = {key: value for key, value in states.get(name, {}).items() if key in fresh}
        yield from _differences({key: fresh[key] for key in there}, there, f"loops.{name}", is_count=True)
    loaders = states["fit_loop"].get("state_dict", {}).get("combined_loader", [])
    if loaders and isinstance(datamodule, InMemoryDataModule):
        yield from _differences([{"batches": 0}], loaders, "loops.fit_loop.state_dict.combined_loader", is_count=True)


def _optimizer(content: Mapping[str, Any], model: Classifier) -> Iterator[str]:
    """Yield what a fresh optimizer, and its scheduler, could not load, or could not take a step with.

    Both add what earlier versions of torch did not save, so they are compared with themselves after they have loaded.
    """
    optimizer = model.make_optimizer(model.parameters())
    parts: list[tuple[str, Any]] = [("optimizer_states", optimizer)]
    if model.make_scheduler is not None:
        made = model.make_scheduler(optimizer, 100)
        parts.append(("lr_schedulers", made["scheduler"] if isinstance(made, dict) else made))
    for name, part in parts:
        if len(content[name]) != 1:
            yield f"{name} is malformed: it must have 1 entry, got {len(content[name])}"
        fresh = part.state_dict()
        try:
            part.load_state_dict(content[name][0])
        except Exception as error:  # whatever a class of any package raises for what is not its own
            yield f"{name}.0 is malformed: {type(error).__name__}: {first_line(error)}"
        for each in (fresh, loaded := part.state_dict()):
            each.pop("state", None)  # a fresh optimizer has none
        yield from _differences(fresh, loaded, f"{name}.0")
    usual = _state_after_a_step(model, optimizer.param_groups[0])
    for number, (parameter, state) in enumerate(optimizer.state.items()):
        if state and isinstance(parameter, Tensor):
            yield from _differences(_of_shape(usual, parameter), dict(state), f"optimizer_states.0.state.{number}")


def _state_after_a_step(model: Classifier, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the optimizer keeps of a parameter of shape (2, 3); nothing if that is not found out in one step.

    Args:
        model: Makes the optimizer.
        group: The checkpoint's values, on some of which it depends.
    """
    parameter = Parameter(torch.zeros(2, 3))
    parameter.grad = torch.zeros(2, 3)
    optimizer: Optimizer = model.make_optimizer([parameter])
    optimizer.param_groups[0].update({key: value for key, value in group.items() if key != "params"})
    with contextlib.suppress(Exception):  # some need more than a gradient
        optimizer.step()
    return dict(optimizer.state[parameter])


def _of_shape(state: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    """Return what is kept of a parameter of shape (2, 3) as it is for another one."""
    own = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == (2, 3):
            own[key] = torch.zeros((), dtype=value.dtype).expand(parameter.shape)
        elif isinstance(value, Tensor) and value.numel() == 1:
            own[key] = value
    return own


def _differences(here: Any, there: Any, place: str, *, is_count: bool = False) -> Iterator[str]:
    """Yield a line for each place at which a state is of another kind than that of a fresh part.

    Args:
        here: The fresh part's.
        there: The checkpoint's.
        place: Where that is, for the line.
        is_count: Whether the numbers are counts.
    """
    rule = _rule(here, there, is_count=is_count)
    if rule is not None:
        yield f"{place} is malformed: it must be {rule}"
    elif isinstance(here, Mapping):
        for key, value in here.items():
            if key not in there:
                yield f"{place} is malformed: it must have {key}"
            else:
                yield from _differences(value, there[key], f"{place}.{key}", is_count=is_count)
    elif isinstance(here, list | tuple):
        for number, (one, other) in enumerate(zip(here, there, strict=True)):
            yield from _differences(one, other, f"{place}.{number}", is_count=is_count)


def _rule(here: Any, there: Any, *, is_count: bool) -> str | None:
    """Return what a value must be, and is not, to take the place of a fresh one; None if it can."""
    if isinstance(here, Mapping):
        return None if isinstance(there, Mapping) else "a dict"
    if isinstance(here, list | tuple):
        fits = isinstance(there, list | tuple) and len(there) == len(here)
        return None if fits else f"a list of {len(here)}"
    if here is None:  # it may have got a value
        return None if there is None or isinstance(there, bool | int | float | str) else "a number, a text or null"
    if isinstance(here, bool):
        return None if there is None or isinstance(there, bool) else "true, false or null"
    if isinstance(here, int | float):
        is_number = isinstance(there, int | float) and not isinstance(there, bool)
        if is_count:
            return None if is_number and isinstance(there, int) and 0 <= there < 2**63 else "a whole number >= 0"
        return None if is_number else "a number"
    if isinstance(here, Tensor):
        fits = isinstance(there, Tensor) and there.shape == here.shape
        return None if fits else f"a tensor of shape {tuple(here.shape)}"
    return None if isinstance(there, type(here)) else f"of type {type(here).__name__}"
