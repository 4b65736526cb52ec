"""What the interpolations of a stranger's config come to, before omegaconf resolves them."""

import re
from typing import Any

# Of omegaconf's resolvers, Hydra's and backlit's, those that return a value and do nothing else.
_RESOLVERS = re.compile(r"oc\.(env|select|decode)|now|hydra|backlit\.\w+")
# Far more than a config has, in characters.
_MOST_CHARACTERS = 2**20

Path = tuple[str, ...]


def interpolation_problem(config: Any) -> str | None:
    """Return what is wrong with the interpolations of a config, as plain data; None if nothing is.

    A text that contains two others, each of which contains two more, and so on, would fill the memory.
    """
    try:
        size = _resolved_size((), _with_text_keys(config), {})
    except ValueError as error:
        return str(error)
    except RecursionError:
        return "its interpolations must not be nested that deeply"
    return f"its interpolations come to {size:,} characters" if size > _MOST_CHARACTERS else None


def _with_text_keys(node: Any) -> Any:
    """Return a node with texts for keys and for the indices of lists, as an interpolation names them."""
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return {str(name): _with_text_keys(child) for name, child in items}
    return node


def _resolved_size(path: Path, config: Any, sizes: dict[Path, int]) -> int:
    """Return about how many characters a node has when it is resolved, at least one for each node.

    Args:
        path: The keys that lead to the node.
        config: The whole config.
        sizes: Those that are known; 1 for a node that contains itself, which omegaconf will report.

    Raises:
        ValueError: If a text has a resolver that no config needs.
    """
    if path in sizes:
        return sizes[path]
    sizes[path] = 1
    node = _find(path, config)
    if isinstance(node, dict):
        sizes[path] += sum(_resolved_size((*path, name), config, sizes) for name in node)
    elif isinstance(node, str) and "${" in node:
        for name, colon in re.findall(r"\$\{\s*([^}:]*)(:?)", node):
            if (colon or "$" in name) and not _RESOLVERS.fullmatch(name):
                raise ValueError(f"{'.'.join(path)} must have no interpolation of the kind {name!r}")
        # More than what it refers to is no harm; a leading dot is the node's own level.
        for dots, name in re.findall(r"(\.*)(\w[\w.\[\]]*)", node):
            base = path[: -len(dots)] if dots else ()
            sizes[path] += _resolved_size((*base, *re.findall(r"\w+", name)), config, sizes)
        sizes[path] += len(node)
    elif isinstance(node, str):
        sizes[path] += len(node)
    return sizes[path]


def _find(path: Path, config: Any) -> Any:
    for name in path:
        config = config.get(name) if isinstance(config, dict) else None
    return config
