"""Keys of a class that its YAML leaves out: typed as any other, and added to the config."""

import re
from collections.abc import Sequence

from backlit.cli.known_keys import KnownKeys, config_directories
from backlit.config.conf import CONFIG_DIR

# Groups of parts whose YAML may leave out arguments; that of `trainer` has all flags.
_KEY = re.compile(r"((?:data|model|optimizer|scheduler|callbacks|logger)\.[\w.]+)=")


def add_unlisted(overrides: Sequence[str], keys: KnownKeys) -> list[str]:
    """Return overrides with Hydra's ``+`` before each argument of a class that its YAML leaves out.

    Others, which the config has or no class takes, stay as they are: Hydra or the check of the config rejects them.

    Args:
        overrides: As Hydra reads them.
        keys: The keys of the config that they compose to.
    """
    read: list[str] = []
    for override in overrides:
        match = _KEY.match(override)
        is_written = match is not None and keys.config_name == "train" and _is_written(match[1], overrides)
        is_unlisted = match is not None and not is_written and keys.is_unlisted(match[1])
        read.append(f"+{override}" if is_unlisted else override)
    return read


def _is_written(key: str, overrides: Sequence[str]) -> bool:
    """Return whether the file of the option that is chosen has a key; composing the config takes 0.2 s."""
    group, *inner, last = key.split(".")
    if inner:  # an option of another one
        return False
    chosen = dict(override.split("=", 1) for override in overrides if re.fullmatch(r"\w+=[\w-]+", override))
    experiment = _text(f"experiment/{chosen.get('experiment')}")
    default = (CONFIG_DIR / "train.yaml").read_text(encoding="utf-8")
    named = re.search(rf"override /{group}: *([\w-]+)", experiment) or re.search(rf"- {group}: *([\w-]+)", default)
    option = chosen.get(group) or (named[1] if named else "")
    return re.search(rf"(?m)^{last} *:", _text(f"{group}/{option}")) is not None


def _text(option: str) -> str:
    """Return the text of an option's file, empty if there is none."""
    paths = [directory / f"{option}.yaml" for directory in config_directories()]
    return next((path.read_text(encoding="utf-8") for path in reversed(paths) if path.is_file()), "")
