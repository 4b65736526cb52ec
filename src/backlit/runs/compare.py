"""Compares a repeated run with the original, bit for bit, and what the two ran on."""

import logging
from pathlib import Path
from typing import Any

from backlit.runs.files import write_json
from backlit.runs.run import MACHINE_PREFIX, NO_SETTINGS, Run, flat_config, read_rows
from backlit.text import printable, shell_path

log = logging.getLogger(__name__)

# The keys of run.json that a result depends on.
_CIRCUMSTANCES = ("device", "cpu", "threads", "precision", "world_size", "seed")


def compare_rerun(original: Path, rerun: Path) -> bool:
    """Compare a run with its repetition, write ``rerun.json`` into the latter's directory, and log the differences.

    Returns:
        Whether weights, final metrics and curves are identical, bit for bit.
    """
    different, causes = find_differences(original, rerun), find_circumstances(original, rerun)
    same = not different
    found = {"of": str(original.resolve()), "same": same, "different": different, "circumstances": causes}
    write_json(rerun / "rerun.json", found)
    if same:
        log.info("  rerun     bit-identical to %s: weights, metrics, curves", shell_path(original))
    else:
        log.info("  rerun     differs from %s: %s", shell_path(original), "; ".join(different))
    if causes:
        log.info("  changed   %s", "; ".join(causes))
    elif different:
        log.info("  changed   nothing that the two runs record")
    return same


def check_comparable(run: Path) -> None:
    """Raise `ValueError` if a run lacks a file that its repetition is compared with."""
    for name in ("metrics.json", "metrics.csv", "weights.pth"):
        if not (run / name).is_file():
            raise ValueError(
                f"{shell_path(run)} must have a {name} to compare with, but has none; has the run completed?"
            )
    record = Run.read(run)
    if record is None or not record.metrics:
        raise ValueError(f"{shell_path(run)}/metrics.json must be a run's metrics")
    _ = record.rows, flat_config(run)  # so that nothing is wrong with them after the run has been repeated
    _read_weights(run)


def _read_weights(run: Path) -> dict[str, Any]:
    """Return the weights that a run has exported.

    Raises:
        ValueError: If the file is damaged or holds none.
    """
    from backlit.runs.torch_file import read_torch_file  # imports torch

    path = run / "weights.pth"
    try:
        weights = read_torch_file(path)
    except ValueError:
        weights = None
    if not isinstance(weights, dict):
        raise ValueError(f"{path} must be weights that torch.load(weights_only=True) reads, but is damaged, or none")
    return weights


def find_differences(original: Path, rerun: Path) -> list[str]:
    """Return what differs in the results of two runs, a phrase each; nothing if they are identical."""
    found = _weight_differences(_read_weights(original), _read_weights(rerun))
    first, second = (run.metrics if (run := Run.read(directory)) else {} for directory in (original, rerun))
    for name in sorted(first.keys() | second.keys()):
        # nan does not equal itself, but its text does
        if str(first.get(name)) != str(second.get(name)):
            found.append(f"{name} was {first.get(name)}, is {second.get(name)}")
    if _training_records(original) != _training_records(rerun):
        found.append("the curves in metrics.csv")
    return found


def _training_records(run: Path) -> list[str]:
    """Return the records of training and validation as text; a run that was trained longer has more test records."""
    rows = [row for row in read_rows(run / "metrics.csv") if not any(name.startswith("test/") for name in row)]
    return [str({name: v for name, v in row.items() if not name.startswith(MACHINE_PREFIX)}) for row in rows]


def _weight_differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    layouts = [{name: (w.shape, w.dtype) for name, w in weights.items()} for weights in (first, second)]
    if layouts[0] != layouts[1]:
        return ["the weights have other names, shapes or dtypes"]
    changed = [name for name in first if _bytes(first[name]) != _bytes(second[name])]
    if not changed:
        return []
    largest = max(float((first[name].double() - second[name].double()).abs().max()) for name in changed)
    return [f"{len(changed)} of {len(first)} weight tensors, by at most {largest:.3g}"]


def _bytes(tensor: Any) -> bytes:
    """Return a tensor's memory, where -0.0 differs from 0.0 and nan equals itself."""
    import torch

    content: bytes = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return content


def find_circumstances(original: Path, rerun: Path) -> list[str]:
    """Return what differs in the hardware, software and config that two runs have recorded, a phrase each."""
    first, second = (run.record if (run := Run.read(directory)) else {} for directory in (original, rerun))
    pairs: list[tuple[str, Any, Any]] = [(name, first.get(name), second.get(name)) for name in _CIRCUMSTANCES]
    versions, new_versions = first.get("versions") or {}, second.get("versions") or {}
    pairs += [(name, versions.get(name), new_versions.get(name)) for name in versions.keys() | new_versions.keys()]
    for name in ("git", "project"):
        commits = [(record.get(name) or {}).get("commit") for record in (first, second)]
        pairs.append((f"{name} commit", commits[0], commits[1]))
    found = [f"{name} {before} → {now}" for name, before, now in pairs if before != now]
    if _uncommitted(original) != _uncommitted(rerun):
        found.append("uncommitted changes (uncommitted.diff)")
    config, new_config = flat_config(original), flat_config(rerun)
    for key in sorted(config.keys() | new_config.keys()):
        if config.get(key) != new_config.get(key) and key not in NO_SETTINGS:
            found.append(f"{key}={config.get(key)} → {new_config.get(key)}")
    return [printable(line) for line in found]


def _uncommitted(run: Path) -> bytes:
    path = run / "uncommitted.diff"
    return path.read_bytes() if path.is_file() else b""
