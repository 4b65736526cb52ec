"""What a run resumes from, as types: a checkpoint that has something else is rejected before anything is started."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Len, Lt, Predicate
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

_Count = Annotated[int, Ge(0), Lt(2**63)]
_Word = Annotated[int, Ge(0), Lt(2**32)]
_Generator = Annotated[Tensor, Predicate(lambda state: state.dtype == torch.uint8 and state.is_contiguous())]
_Python = tuple[Literal[3], Annotated[list[_Word], Len(625, 625)], float | None]
_Numpy = tuple[Literal["MT19937"], Annotated[list[_Word], Len(624, 624)], _Count, _Count, float]


class _Part(BaseModel):
    """Nothing is converted but lists to tuples; keys that are not named here may be anything."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _Optimizer(_Part):
    state: dict[Any, Any]
    param_groups: Annotated[list[dict[str, Any]], Len(1)]


class _Measured(_Part):
    """What `backlit.models.Classifier.metric_state` returns."""

    steps: Annotated[list[Tensor], Len(3, 3)] | None
    sizes: list[_Count]
    unrecorded: Tensor | None
    recorded_at: int


class _Process(_Part):
    """What `backlit.training.random_state.rank_state` returns."""

    python: Annotated[_Python, Field(strict=False)]
    numpy: Annotated[_Numpy, Field(strict=False)]
    torch: _Generator
    cuda: _Generator | None
    more: list[_Generator] = []
    measured: _Measured | None


class _Resumable(_Part):
    version: str = Field(alias="pytorch-lightning_version", pattern=r"^\d+\.\d+")
    epoch: _Count
    global_step: _Count
    loops: dict[str, dict[str, Any]]
    callbacks: dict[Any, dict[Any, Any]] = {}
    optimizer_states: list[_Optimizer]
    lr_schedulers: list[dict[str, Any]]
    processes: list[_Process] = []
    callback_metrics: dict[str, Tensor] = {}
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
        return f"of which {'.'.join(map(str, first['loc']))} is malformed: {first['msg']}"
    return None
