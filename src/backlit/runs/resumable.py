"""What a run resumes from, as types: a checkpoint that has something else is rejected before anything is started."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Len, Lt, Predicate
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor


def _dense(tensor: Tensor) -> Tensor:
    """Return a tensor that has a number of its own for each place."""
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta or tensor.is_quantized:
        raise ValueError("it must be a dense tensor")
    return tensor


def _number(tensor: Tensor) -> Tensor:
    if _dense(tensor).numel() != 1 or tensor.is_complex():
        raise ValueError("it must be a tensor of one number")
    return tensor


def _all_dense(state: Any) -> Any:
    """Return what an optimizer keeps, all tensors of which are dense."""
    if isinstance(state, Tensor):
        return _dense(state)
    for part in state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ():
        _all_dense(part)
    return state


def _version(text: str) -> str:
    if not re.fullmatch(r"([2-9]|\d{2,3})\.\d{1,4}(\.\d{1,4})?(\.?(a|b|rc|dev|post)\d{1,8})*", text, re.ASCII):
        raise ValueError("it must be a version of Lightning, 2.0 or later")
    return text


_Count = Annotated[int, Ge(0), Lt(2**63)]
_Word = Annotated[int, Ge(0), Lt(2**32)]
_Dense = Annotated[Tensor, AfterValidator(_dense)]
_Number = Annotated[Tensor, AfterValidator(_number)]
_Generator = Annotated[Tensor, Predicate(lambda state: state.dtype == torch.uint8 and state.is_contiguous())]
_Python = tuple[Literal[3], Annotated[list[_Word], Len(625, 625)], float | None]
_Numpy = tuple[Literal["MT19937"], Annotated[list[_Word], Len(624, 624)], _Count, _Count, float]


class _Part(BaseModel):
    """Nothing is converted but lists to tuples; keys that are not named here may be anything."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _Optimizer(_Part):
    state: Annotated[dict[int | str, dict[str, Any]], AfterValidator(_all_dense)]
    param_groups: Annotated[list[dict[str, Any]], Len(1)]


class _Measured(_Part):
    """What `backlit.models.Classifier.metric_state` returns."""

    steps: Annotated[list[_Dense], Len(3, 3)] | None
    sizes: list[_Count]
    unrecorded: _Dense | None
    recorded_at: int

    @model_validator(mode="after")
    def _check_sizes(self) -> "_Measured":
        losses, logits, targets = self.steps or (torch.zeros(0),) * 3
        sizes = [len(part) if part.ndim else -1 for part in (losses, logits, targets)]
        if sizes != [len(self.sizes), sum(self.sizes), sum(self.sizes)] and self.steps is not None:
            raise ValueError("its steps must have the samples that its sizes say")
        return self


class _Generators(_Part):
    """What `backlit.training.random_state.generator_state` returns."""

    python: Annotated[_Python, Field(strict=False)]
    numpy: Annotated[_Numpy, Field(strict=False)]
    torch: _Generator
    cuda: _Generator | None
    more: list[_Generator] = []


class _Process(_Generators):
    """What `backlit.training.last_checkpoint.LastCheckpoint` keeps of a process."""

    measured: _Measured | None
    order: _Generators | None = None
    logged: dict[str, Annotated[list[_Dense], Len(1, 2)]] = {}
    metrics: dict[str, dict[str, Any]] = {}


class _Epochs(_Part):
    ready: _Count
    processed: _Count


class _EpochProgress(_Part):
    current: _Epochs


class _FitLoop(_Part):
    epoch_progress: _EpochProgress


class _Loops(_Part):
    """The others, and what else Lightning keeps, are compared with those of the Trainer once it is built."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True, extra="allow")
    __pydantic_extra__: dict[str, dict[str, Any]]
    fit_loop: _FitLoop


class _Resumable(_Part):
    version: Annotated[str, AfterValidator(_version)] = Field(alias="pytorch-lightning_version")
    epoch: _Count
    global_step: _Count
    loops: _Loops
    callbacks: dict[Any, dict[Any, Any]] = {}
    optimizer_states: list[_Optimizer]
    lr_schedulers: list[dict[str, Any]]
    processes: list[_Process] = []
    callback_metrics: dict[str, _Number] = {}
    metrics_csv_rows: _Count = 0


def find_malformed(content: Mapping[str, Any]) -> str | None:
    """Return why a run cannot resume from a checkpoint, as the end of a message; None if it can.

    Args:
        content: What the checkpoint holds.
    """
    if "loops" not in content:
        return "which has weights alone"
    try:
        _Resumable.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"of which {'.'.join(map(str, first['loc']))} is malformed: {first['msg'].removeprefix('Value error, ')}"
    return None
