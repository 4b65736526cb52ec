"""``lr_find``: a learning rate to begin with, from the losses of some steps whose rate grows."""

import copy
import logging
import math
from collections.abc import Sequence

import torch
from lightning.pytorch.tuner.tuning import Tuner

from backlit.plots.image import png, render
from backlit.plots.learning_rates import draw_learning_rates
from backlit.runs.files import atomic_write
from backlit.text import shell_path
from backlit.training.build import RunParts
from backlit.training.lightning_internals import correct_smoothing
from backlit.training.trial import trial_trainer

log = logging.getLogger(__name__)


def suggest_learning_rate(parts: RunParts) -> None:
    """Draw ``plots/lr_find.png`` and log the rate where the loss falls most steeply, by Lightning's tuner.

    The steps are taken by a copy of the network: the run trains as if there had been none, at the rate of its config.
    """
    model, datamodule = copy.deepcopy(parts.model), copy.deepcopy(parts.datamodule)
    with trial_trainer(parts, max_epochs=-1, max_steps=100) as trainer:
        found = Tuner(trainer).lr_find(model, datamodule=datamodule, max_lr=10, update_attr=False)
        assert found is not None
        correct_smoothing(found)
    finite = [pair for pair in zip(found.results["lr"], found.results["loss"], strict=True) if math.isfinite(pair[1])]
    rates, losses = [rate for rate, _ in finite], [loss for _, loss in finite]
    rate = steepest(rates, losses)
    if rate is None:
        log.warning("lr_find: the losses are too few, not finite, or never fall: no suggestion")
        return
    figure = draw_learning_rates(rates, losses, rate)
    path = parts.run_dir / "plots" / "lr_find.png"
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(png(render(figure)))
    log.info("lr_find: the loss falls most steeply at optimizer.lr=%.3g: %s", rate, shell_path(path))


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate at which the loss falls most steeply over the logarithm of the rate; None if there are too few.

    Args:
        rates: Increasing.
        losses: As many, all finite.

    Lightning's own suggestion takes the slope over the rate itself, steepest at the smallest ones: there, noise
    is divided by a billionth. The first ten losses are means of few; those beyond the lowest are of a network that
    diverges, and may fall again from far above.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks, 2015, section 3.3.
    """
    points = [(math.log(rate), loss) for rate, loss in zip(rates, losses, strict=True)][10:]
    lowest = min(range(len(points)), key=lambda index: points[index][1], default=0)
    points = points[: lowest + 1]
    if len(points) < 2:
        return None
    x, y = torch.tensor(points, dtype=torch.float64).unbind(1)
    return math.exp(x[torch.gradient(y, spacing=(x,))[0].argmin()].item())
