"""Which keys somebody means who types a name that a config does not have."""

import difflib
from collections.abc import Iterable, Sequence

# Names of other programs for what a config calls otherwise.
_OTHER_NAMES = {
    "learning_rate": "lr",
    "epochs": "max_epochs",
    "num_epochs": "max_epochs",
    "steps": "max_steps",
    "gpus": "devices",
    "num_gpus": "devices",
    "bs": "batch_size",
    "layers": "hidden_sizes",
    "workers": "num_workers",
    "metric": "optimized_metric",
    "monitor": "optimized_metric",
    "name": "task_name",
    "grad_clip": "gradient_clip_val",
}


def same_name_keys(key: str, known: Iterable[str]) -> list[str]:
    """Return the known keys whose last part is that of `key`, so ``optimizer.lr`` for ``lr``.

    Args:
        key: What was typed; case, ``-`` for ``_``, and ``/`` or ``:`` for ``.`` do not matter.
        known: All keys, with dots; those of a search space are returned only if there are no others.
    """
    typed = _normal(key)
    known = list(known)
    same = [one for one in known if _normal(one) == typed]
    for last in (typed.split(".")[-1], _OTHER_NAMES.get(typed.split(".")[-1], "")):
        same = same or [one for one in known if last and _normal(one).split(".")[-1] == last]
    # The group that was typed is meant, if it has one of them.
    group = typed.split(".")[0]
    same = [one for one in same if "." in typed and one.split(".")[0] == group] or same
    return [one for one in same if not one.startswith("search.")] or same


def nearest(word: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that `word` is most likely to mean, None if none is like it; case does not matter."""
    by_case = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower(), by_case, n=1, cutoff=cutoff)
    return by_case[close[0]] if close else None


def _normal(key: str) -> str:
    return key.lower().replace("-", "_").replace("/", ".").replace(":", ".")
