"""What the summary of a search has beyond that of a grid: which keys matter, and how the best value was found."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from backlit.errors import ConfigError
from backlit.sweeps.edge import Tried, number_of, tried_list
from backlit.sweeps.journal import JOURNAL, read_trials
from backlit.sweeps.picture import write_picture
from backlit.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# With fewer, one trial makes a key important.
_FEWEST_TRIALS = 8


def is_search(sweep_dir: Path) -> bool:
    """Return whether a sweep is a search."""
    return (sweep_dir / JOURNAL).is_file()


def importance_lines(sweep_dir: Path) -> list[str]:
    """Return a line with the importance of each key, if enough trials are completed; otherwise an empty list.

    It is that of PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255): how much a key alone distinguishes
    the best trials from all; it adds up to 1.
    """
    try:
        study = read_trials(sweep_dir)
        import optuna

        completed = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
        if len(completed) < _FEWEST_TRIALS:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about Optuna's own experiments
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ImportError, ValueError, RuntimeError) as error:
        return [printable(f"  matters   cannot be computed: {error}")]
    shares = ", ".join(f"{key} {share:.2f}" for key, share in found.items())
    return [printable(f"  matters   {shares}   (PED-ANOVA, {len(completed)} completed trials)")]


def drawn_from(sweep_dir: Path) -> dict[str, Tried]:
    """Return what the numbers of each key were drawn from; empty if that cannot be read."""
    try:
        trials = read_trials(sweep_dir).trials
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    except (ImportError, ConfigError):
        return {}
    found: dict[str, Tried] = {}
    for key, distribution in (trials[0].distributions if trials else {}).items():
        if isinstance(distribution, CategoricalDistribution):
            choices = [number_of(str(choice)) for choice in distribution.choices]
            values = sorted(choice for choice in choices if choice is not None)
            if len(values) == len(choices) >= 3:
                found[key] = tried_list(values)
        elif isinstance(distribution, FloatDistribution | IntDistribution) and distribution.low < distribution.high:
            ends, is_whole = (
                [float(distribution.low), float(distribution.high)],
                isinstance(distribution, IntDistribution),
            )
            found[key] = Tried(ends, True, distribution.log, is_whole)
    return found


def write_history(sweep_dir: Path) -> None:
    """Draw the value of each trial by its number, and the best so far, as ``search.png``.

    Raises:
        OSError: If the file cannot be written.
    """
    try:
        study = read_trials(sweep_dir)
    except (ImportError, ConfigError):
        return  # that is said already
    names = {"COMPLETE": "completed", "PRUNED": "pruned"}
    values = [
        (trial.number, trial.value, names[trial.state.name])
        for trial in study.trials
        if trial.state.name in names and trial.value is not None
    ]
    if not values:
        return

    def draw() -> "Figure":
        from backlit.plots.search_history import draw_search_history

        return draw_search_history(values, is_max_best=study.direction.name == "MAXIMIZE")

    write_picture(sweep_dir / "search.png", draw)
