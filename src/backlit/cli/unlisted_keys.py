"""Keys of a class that its YAML leaves out: typed as any other, and added to the config."""

import re
from collections.abc import Sequence

from backlit.cli.known_keys import KnownKeys

# Groups of parts whose YAML may leave out arguments; that of `trainer` has all flags.
_KEY = re.compile(r"((?:data|model|optimizer|scheduler|callbacks|logger)\.[\w.]+)=")


def add_unlisted(overrides: Sequence[str], keys: KnownKeys) -> list[str]:
    """Return overrides with Hydra's ``++`` before each argument of a class that its YAML leaves out.

    Others, which the config has or no class takes, stay as they are: Hydra or the check of the config rejects them.
    ``+`` would be rejected in those jobs of a sweep over options whose YAML has the key.

    Args:
        overrides: As Hydra reads them.
        keys: The keys of the config that they compose to.
    """
    matches = [(override, _KEY.match(override)) for override in overrides]
    return [f"++{override}" if match and keys.is_unlisted(match[1]) else override for override, match in matches]
