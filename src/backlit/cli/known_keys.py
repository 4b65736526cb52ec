"""The keys, groups and options that a command has, for messages about others."""

import functools
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from backlit.config.conf import CONFIG_DIR
from backlit.config.hints import nearest, same_name_keys
from backlit.errors import ConfigError
from backlit.project import find_project, project_packages
from backlit.text import shell_word

# Of Hydra's own keys, those that users set.
_HYDRA_KEYS = re.compile(r"hydra\.(launcher\.\w+|sweeper\.(n_trials|timeout|sampler|pruner|seed)|run\.dir|sweep\.dir)")
# A longer list is not read.
MOST_LISTED = 12


def config_directories() -> list[Path]:
    """Return the directories of YAML files: backlit's, what ``--config-dir`` names, and the project's.

    Raises:
        ConfigError: If the project cannot be read.
    """
    arguments = sys.argv[1:]
    typed = [arguments[index + 1] for index, flag in enumerate(arguments[:-1]) if flag in ("--config-dir", "-cd")]
    typed += [argument.partition("=")[2] for argument in arguments if argument.startswith("--config-dir=")]
    project = find_project()
    own = [*(Path(path) for path in typed if Path(path).is_dir()), *([project.conf] if project else [])]
    return [CONFIG_DIR, *dict.fromkeys(Path(os.path.abspath(path)) for path in own)]


def check_own_options() -> None:
    """Check the project, and that backlit has no options of the same names, which would be used instead.

    Raises:
        ConfigError: With a line for each such file, or with what is wrong with ``[tool.backlit]``.
    """
    names = [path.relative_to(CONFIG_DIR) for path in sorted(CONFIG_DIR.rglob("*.yaml"))]
    taken = [directory / name for directory in config_directories()[1:] for name in names]
    rule = "backlit has a file of this name, which would be read instead; rename it"
    if problems := [f"{path}: {rule}" for path in taken if path.exists() and CONFIG_DIR not in path.resolve().parents]:
        raise ConfigError(problems)


def groups_in() -> list[str]:
    """Return the names of all groups but Hydra's."""
    found = {path.name for directory in config_directories() for path in directory.iterdir() if path.is_dir()}
    return sorted(name for name in found - {"hydra"} if not name.startswith((".", "_")))


def option_names(group: str) -> list[str]:
    """Return the names of a group's options."""
    return sorted({path.stem for directory in config_directories() for path in directory.glob(f"{group}/*.yaml")})


class KnownKeys:
    """The keys of the config that the typed options compose to.

    Args:
        config_name: The config at the top.
        is_recorded: Whether the config may be a stranger's; its own classes are not imported then.
    """

    def __init__(self, config_name: str, *, is_recorded: bool = True) -> None:
        self.config_name = config_name
        self.is_recorded = is_recorded

    @functools.cached_property
    def config(self) -> DictConfig:
        """Return the config, without the values that the command line sets."""
        GlobalHydra.instance().clear()
        choice = re.compile(r"(\w+)=(?:[\w/.,-]+,)?([\w/.-]+|\[[\w, -]+\])")
        matches = [match for argument in sys.argv[1:] if (match := choice.fullmatch(argument))]
        # Of several values for the jobs of a sweep, the last one, as Hydra does for the sweep's own config.
        choices = [f"{match[1]}={match[2]}" for match in matches if match[1] in self.groups]
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            for overrides in (choices, []):
                try:
                    return hydra.compose(self.config_name, overrides, return_hydra_config=True)
                except (HydraException, OmegaConfBaseException):
                    continue
        return OmegaConf.create()

    @functools.cached_property
    def groups(self) -> list[str]:
        """Return the groups that the command chooses from."""
        return (
            groups_in()
            if self.config_name == "train"
            else ["data", "trainer"]
            if self.config_name == "evaluate"
            else []
        )

    @functools.cached_property
    def _all_names(self) -> list[str]:
        return list(iter_keys(self.config, ""))

    @functools.cached_property
    def names(self) -> list[str]:
        """Return all keys that users set, with dots, the inner nodes among them."""
        users = [key for key in self._all_names if not re.search(r"(^|\.)_", key)]
        return [key for key in users if key.split(".")[0] != "hydra" or _HYDRA_KEYS.fullmatch(key)]

    def meant_by(self, key: str) -> list[str]:
        """Return the keys that somebody means who types `key`; with a plus where the YAML leaves out an argument."""
        key = key.lstrip("+~")
        if key in self.names:
            return [key]
        dotted = key.replace("/", ".").replace(":", ".")
        if dotted in self.names:
            return [dotted]
        parent, _, last = dotted.rpartition(".")
        if parent:  # of an own or another class, only if that class has the argument
            if parent in self.names and self._takes(parent, last):
                return [f"+{dotted}"]
            siblings = [one for one in self.names if one.rpartition(".")[0] == parent]
            if same := same_name_keys(dotted, siblings):
                return same
            if nearest(last, [*self._children(parent), *self._arguments(parent)]):
                return []
        leaves = [one for one in self.names if not OmegaConf.is_dict(OmegaConf.select(self.config, one))]
        same = same_name_keys(dotted, leaves)
        if same and not (parent and same[0].startswith("search.")):
            return same
        if parent:
            return []
        return [f"{node}.{last}" for node in self.names if "." not in node and self._takes(node, last)]

    def is_unlisted(self, key: str) -> bool:
        """Return whether the config lacks a key that its class takes, or that says what the class of a part is."""
        parent, _, last = key.rpartition(".")
        is_known = last == "_target_" or last in self._arguments(parent, given=True)
        return is_known and key not in self._all_names

    def is_list(self, key: str) -> bool:
        """Return whether the value of a key is a list."""
        return bool(OmegaConf.is_list(OmegaConf.select(self.config, key.lstrip("+~"))))

    def hint(self, key: str) -> str:
        """Return the nearest key, or what there is at its place, as the end of a message."""
        dotted = key.lstrip("+~").replace("/", ".").replace(":", ".")
        parent, _, last = dotted.rpartition(".")
        if option := self._option_with(dotted):
            return f"; it comes with an option: {option}"
        if last == "n_trials" or (parent == "hydra.sweeper" and "hydra.sweeper.n_trials" not in self.names):
            return "; a search has it: add sweep=optuna"
        if parent in self.groups and not self._has_keys(parent):
            options = [f"{parent}={name}" for name in option_names(parent) if name != "none"]
            return f"; {parent} has no keys; choose one of {', '.join(options)}"
        while parent and parent.partition(".")[0] in self.names and not self._has_keys(parent):
            parent, _, last = parent.rpartition(".")
        children = self._children(parent)
        if parent and not key.startswith("~"):
            children += [name for name in self._arguments(parent) if name not in children]
        if children:
            close = nearest(last, [*children, *(self.groups if not parent else [])], cutoff=0.5 if parent else 0.6)
            close = f"{parent}.{close}" if close and parent else close
        else:
            close = nearest(dotted, [one for one in self.names if "." in one])
        if close:
            return f", did you mean {close}?"
        if children and len(children) <= MOST_LISTED:
            return f"; {f'{parent} has' if parent else 'there are'}: {', '.join(children)}"
        return f"; all keys: backlit-{self.config_name} --cfg job"

    def _option_with(self, dotted: str) -> str | None:
        """Return the argument that adds the option of ``callbacks`` or ``logger`` which a key is named after."""
        group, name, *_ = [*dotted.split("."), ""]
        is_one = group in ("callbacks", "logger") and group in self.groups and name in option_names(group)
        if not is_one or f"{group}.{name}" in self.names:
            return None
        typed = [argument.partition("=")[2].strip("[] ") for argument in sys.argv if argument.startswith(f"{group}=")]
        chosen = typed[-1] if typed else OmegaConf.select(self.config, f"hydra.runtime.choices.{group}")
        return shell_word(f"{group}=[{chosen or 'default'},{name}]")

    def _children(self, parent: str) -> list[str]:
        prefix = f"{parent}." if parent else ""
        found = [key.removeprefix(prefix) for key in self.names if key.startswith(prefix)]
        return [key for key in found if "." not in key and key != "hydra"]

    def _has_keys(self, node: str) -> bool:
        return bool(self._children(node) or self._arguments(node))

    def _takes(self, node: str, argument: str) -> bool:
        """Return whether the class of a node has an argument that somebody may give."""
        return argument in self._arguments(node)

    def _arguments(self, node: str, *, given: bool = False) -> list[str]:
        """Return the names of the arguments of a node's class; none if it is unknown, or must not be imported.

        Args:
            node: The node's key.
            given: Include what backlit gives to the class itself, of which the check of the config says so.
        """
        typed = [a.partition("=")[2] for a in sys.argv[1:] if a.lstrip("+").startswith(f"{node}._target_=")]
        is_node = OmegaConf.is_dict(OmegaConf.select(self.config, node))
        target = str(typed[-1] if typed else OmegaConf.select(self.config, f"{node}._target_") if is_node else "")
        package = target.split(".")[0]
        is_trusted = not self.is_recorded or _is_trusted(package)
        if not package or not (is_trusted or package in ("backlit", "lightning", "torch")):
            return []
        from backlit.config.known_arguments import GIVEN, added_arguments
        from backlit.config.trust import find_imported

        try:
            part = pkgutil.resolve_name(target) if is_trusted else find_imported(target)
            parameters = inspect.signature(part).parameters.values()
        except Exception:  # importing a user's module may raise anything; the check of the config reports it
            return []
        names = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
        kept = () if given else (*GIVEN.get(node, ()), "plugins")
        return [name for name in [*names, *added_arguments(part)] if name not in kept and name[0] != "_"]


def iter_keys(node: Any, prefix: str) -> Iterator[str]:
    """Yield the keys of a config with dots, the inner nodes among them."""
    for key in node:
        name = f"{prefix}{key}"
        yield name
        child = None if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) else node[key]
        if OmegaConf.is_dict(child):
            yield from iter_keys(child, f"{name}.")


def _is_trusted(package: str) -> bool:
    """Return whether the command line or the project trusts a package: ``packages=[...]``."""
    typed = [argument for argument in sys.argv[1:] if argument.lstrip("+").startswith("packages=")]
    return package in project_packages() or any(package in re.findall(r"\w+", argument) for argument in typed)
