"""What the arguments of a command come to, as the processes of a run share it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backlit.runs.checkpoint import Checkpoint


@dataclass(frozen=True)
class Plan:
    """What the arguments of a command come to.

    Args:
        arguments: Those for Hydra.
        sweep: The sweep to resume.
        run: The run to resume.
        checkpoint: Where that run resumes; None if it has none yet and starts from the beginning.
        copy_of: The run's directory, if the run is resumed in a copy of it.
        rerun_of: The run to repeat.
        store: What the other processes of the run ask for the plan, as long as it lives.
    """

    arguments: list[str]
    sweep: Path | None = None
    run: Path | None = None
    checkpoint: "Checkpoint | None" = None
    copy_of: Path | None = None
    rerun_of: Path | None = None
    store: Any = None

    def to_json(self) -> str:
        """Return what the other processes of the run have to know."""
        paths = {"sweep": self.sweep, "run": self.run, "rerun_of": self.rerun_of}
        named = {name: None if path is None else str(path.resolve()) for name, path in paths.items()}
        return json.dumps({"arguments": self.arguments} | named)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan that `to_json` has written."""
        content = json.loads(text)
        arguments = content.pop("arguments")
        paths: dict[str, Any] = {name: None if path is None else Path(path) for name, path in content.items()}
        return cls(arguments, **paths)

    @property
    def is_recorded(self) -> bool:
        """Return whether the command comes from a run directory rather than from the user."""
        return any((self.sweep, self.run, self.rerun_of))
