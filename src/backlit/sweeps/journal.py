"""The journal of a search: the file in which Optuna keeps the trials, as it is opened, repaired and checked."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from backlit.errors import ConfigError

if TYPE_CHECKING:
    import optuna

JOURNAL = "optuna.journal"
# The step of the first validation of the search, in optimizer steps: the unit of the pruners.
FIRST_STEP = "first_step"
PLANNED_STEPS = "planned_steps"


def read_trials(sweep_dir: Path) -> "optuna.Study":
    """Return the study of a search that has ended, or goes on, to be read.

    Raises:
        ImportError: If Optuna is not installed.
        ConfigError: If the journal cannot be read.
    """
    import optuna

    path = sweep_dir / JOURNAL
    with reading(path):
        storage = open_journal(path)
        names = optuna.get_all_study_names(storage)
        study = optuna.load_study(study_name=names[0], storage=storage)
        check_study(study)
        return study


def repair_journal(sweep_dir: Path) -> None:
    """Remove from a journal what a process has left that was killed while it wrote, or found the disk full.

    That is a lock, for which Optuna would wait half a minute, and a line without its end, to which it would append.

    Raises:
        OSError: If it cannot be written.
    """
    path = sweep_dir / JOURNAL
    path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
    if path.is_file():
        with path.open("rb+") as file:
            content = file.read()
            if not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)


def check_study(study: "optuna.Study") -> None:
    """Raise ValueError if a study has anything that no search writes: it may be a stranger's.

    The values of a trial become overrides of a command.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if len(study.directions) != 1:
        raise ValueError("several directions")
    steps = [study.user_attrs.get(name) for name in (FIRST_STEP, PLANNED_STEPS)]
    if steps != [None, None] and not all(type(step) is int and step >= 1 for step in steps):
        raise ValueError("steps")
    for trial in study.get_trials(deepcopy=False):
        for key, value in trial.params.items():
            drawn = trial.distributions[key]
            is_number = type(value) in (int, float) and isinstance(drawn, FloatDistribution | IntDistribution)
            if isinstance(drawn, CategoricalDistribution):
                is_drawn = value in drawn.choices
            else:
                is_drawn = is_number and drawn.low <= value <= drawn.high  # type: ignore[attr-defined]
            if not is_drawn:
                raise ValueError("values")


def open_journal(path: Path) -> "optuna.storages.JournalStorage":
    """Return the storage that is a journal."""
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

    # A lock that is a symbolic link, Optuna's default, would look like one that leads out of the sweep.
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise `ConfigError` if a journal cannot be read: Optuna expects one that it has written, and asserts it."""
    try:
        with quiet():
            yield
    except (AssertionError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ConfigError([f"{path} must be the journal of a search, got: {type(error).__name__}"]) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out Optuna's warnings about its own experiments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
