"""Whether a run that was trained again came out the same, bit for bit; if not, what was different this time."""

import logging
from pathlib import Path
from typing import Any

from backlit.run import Run, flat_config, from_here, read_rows, write_json

log = logging.getLogger(__name__)

# What `run.json` says of the circumstances.
_CIRCUMSTANCES = ("device", "cpu", "threads", "precision", "world_size", "seed")


def report_rerun(before: Path, again: Path) -> bool:
    """Compare a run with its repetition, write ``rerun.json`` beside the latter's files, and tell.

    Returns:
        Whether weights, final metrics and curves are the same bit for bit.
    """
    different, causes = differences(before, again), circumstances(before, again)
    same = not different
    found = {"of": str(before.resolve()), "same": same, "different": different, "circumstances": causes}
    write_json(again / "rerun.json", found)
    if same:
        log.info("  again     the same bit for bit as %s: weights, metrics, curves", from_here(before))
    else:
        log.info("  again     not the same as %s: %s", from_here(before), "; ".join(different))
    if causes:
        log.info("  changed   %s", "; ".join(causes))
    elif different:
        log.info("  changed   nothing that the two runs have recorded")
    return same


def check_comparable(run: Path) -> None:
    """Raise `ValueError` if a run has not all that a repetition is compared with."""
    for name in ("metrics.json", "metrics.csv", "weights.pth"):
        if not (run / name).is_file():
            raise ValueError(f"there must be a {name} to compare with, but {from_here(run)} has none; is it completed?")
    record = Run.read(run)
    if record is None or not record.metrics:
        raise ValueError(f"{from_here(run)}/metrics.json must be what a run writes")
    _weights(run)


def _weights(run: Path) -> dict[str, Any]:
    import torch

    path = run / "weights.pth"
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged file makes torch raise
        weights = None
    if not isinstance(weights, dict):
        raise ValueError(f"{path} must be weights that torch.load(weights_only=True) reads, but is damaged, or none")
    return weights


def differences(before: Path, again: Path) -> list[str]:
    """Return what is not the same in the results of two runs, a phrase each; nothing if all is."""
    found = []
    found += _of_weights(_weights(before), _weights(again))
    one, two = (run.metrics if (run := Run.read(directory)) else {} for directory in (before, again))
    for name in sorted(one.keys() | two.keys()):
        # nan is not itself, but its text is
        if str(one.get(name)) != str(two.get(name)):
            found.append(f"{name} was {one.get(name)}, is {two.get(name)}")
    if _curves(before) != _curves(again):
        found.append("the curves in metrics.csv")
    return found


def _curves(run: Path) -> list[str]:
    """Return the records of training and validation as text; a run that was trained longer has more of testing."""
    return [str(row) for row in read_rows(run / "metrics.csv") if not any(name.startswith("test/") for name in row)]


def _of_weights(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    if {name: (v.shape, v.dtype) for name, v in one.items()} != {name: (v.shape, v.dtype) for name, v in two.items()}:
        return ["the weights have other names, shapes or dtypes"]
    changed = [name for name in one if _bytes(one[name]) != _bytes(two[name])]
    if not changed:
        return []
    largest = max(float((one[name].double() - two[name].double()).abs().max()) for name in changed)
    return [f"{len(changed)} of {len(one)} weight tensors, by at most {largest:.3g}"]


def _bytes(tensor: Any) -> bytes:
    """Return what a tensor is in memory: -0.0 is not 0.0 there, and nan is itself."""
    import torch

    content: bytes = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return content


def circumstances(before: Path, again: Path) -> list[str]:
    """Return what two runs have recorded differently of what they ran on and with, a phrase each."""
    one, two = (_record(run) for run in (before, again))
    pairs: list[tuple[str, Any, Any]] = [(name, one.get(name), two.get(name)) for name in _CIRCUMSTANCES]
    versions = [record.get("versions", {}) for record in (one, two)]
    pairs += [(name, versions[0].get(name), versions[1].get(name)) for name in versions[0].keys() | versions[1].keys()]
    for name in ("git", "project"):
        before_and_after = [(record.get(name) or {}).get("commit") for record in (one, two)]
        pairs.append((f"{name} commit", before_and_after[0], before_and_after[1]))
    found = [f"{name} {first} → {second}" for name, first, second in pairs if first != second]
    diffs = [path.read_text() if (path := run / "uncommitted.diff").exists() else "" for run in (before, again)]
    if diffs[0] != diffs[1]:
        found.append("uncommitted changes (uncommitted.diff)")
    configs = [flat_config(run) for run in (before, again)]
    for key in sorted(configs[0].keys() | configs[1].keys()):
        values = [config.get(key) for config in configs]
        if values[0] != values[1] and key not in ("ckpt_path", "packages"):
            found.append(f"{key}={values[0]} → {values[1]}")
    return found


def _record(directory: Path) -> dict[str, Any]:
    run = Run.read(directory)
    return {} if run is None else run.record
