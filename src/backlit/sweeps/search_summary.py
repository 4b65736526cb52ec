"""What the summary of a search has beyond that of a grid: which keys matter, and how the best value was found."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backlit.sweeps.entries import Entry
from backlit.sweeps.picture import write_picture
from backlit.sweeps.study import JOURNAL, read_trials
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


def write_history(path: Path, entries: Sequence[Entry]) -> None:
    """Draw the value of each job by its number, and the best so far.

    Raises:
        OSError: If the file cannot be written.
    """
    ordered = sorted((entry for entry in entries if entry.best and entry.run), key=lambda entry: int(entry.name))
    if not ordered:
        return
    name, mode = ordered[0].run.metric if ordered[0].run else ("", "min")
    values = [(int(entry.name), entry.best[0], entry.status) for entry in ordered if entry.best]

    def draw() -> "Figure":
        from backlit.plots.search_history import draw_search_history

        return draw_search_history(values, metric=f"best {name}", is_max_best=mode == "max")

    write_picture(path, draw)
