"""What a stranger's config may name: parts of a run by backlit, Lightning and torch; nothing else that runs code."""

import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from backlit.project import project_packages

KINDS: dict[str, type] = {"model": LightningModule, "data": LightningDataModule}
# Other loggers send to a server, or write into the working directory.
_LOCAL_LOGGERS = (CSVLogger, TensorBoardLogger)
_PARTS = (LightningModule, LightningDataModule, Callback, Trainer, Logger, Optimizer, LRScheduler)


def packages_problem(packages: Any) -> str | None:
    """Return what is wrong with a list of packages that are trusted; None if nothing is.

    Each element is the whole name of a top-level package: a part of a name, or a package within one, means nothing.
    """
    if isinstance(packages, str) or not isinstance(packages, Sequence):
        return f"packages must be a list, got {packages}: packages=[{'' if packages is None else packages}]"
    for name in packages:
        if not (isinstance(name, str) and name.isidentifier()):
            top = str(name).partition(".")[0]
            hint = f": packages=[{top}]" if top.isidentifier() else ""
            return f"packages must be a list of names of packages, without dots, got {name!r}{hint}"
    return None


def trusted_node(config: DictConfig, name: str, packages: Sequence[str]) -> dict[str, Any]:
    """Return a node of a config that a stranger may have written, if it names nothing but what is allowed.

    Args:
        config: The whole config.
        name: ``model`` or ``data``.
        packages: Packages that it may name beside backlit, lightning and torch; no other is imported.

    Raises:
        ValueError: If it names another package, a class of another kind, or one that cannot be imported.
    """
    node = plain_node(config, name)
    if problem := next(untrusted_targets(node, name, packages), None):
        raise ValueError(problem)
    kind = KINDS[name]
    try:
        cls = pkgutil.resolve_name(node["_target_"])
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"{name}._target_ of the run's config cannot be imported: {error}") from None
    if isinstance(cls, type) and not issubclass(cls, kind):
        raise ValueError(f"{name}._target_ must be a {kind.__name__}, got {node['_target_']}")
    return node


def plain_node(config: DictConfig, name: str) -> dict[str, Any]:
    """Return a node of a config as plain data without interpolations.

    Raises:
        ValueError: If it cannot be resolved.
    """
    try:
        node = OmegaConf.to_container(config, resolve=True)[name]  # type: ignore[index,call-overload]
    except (OmegaConfBaseException, KeyError) as error:
        raise ValueError(f"{name} of the run's config cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(node, dict) or "_target_" not in node:
        raise ValueError(f"{name} must have a _target_ in the run's config, got {node!r}")
    if "${" in repr(node):
        raise ValueError(f"{name} of the run's config must have no interpolation within another one")
    return node


def untrusted_targets(node: Any, path: str, packages: Sequence[str]) -> Iterator[str]:
    """Yield a line for each ``_target_`` that must not be called unless the reader trusts its package.

    Without that, a config may name classes of backlit, lightning and torch that are parts of a run, and backlit's
    schedulers: none of them takes code, or opens a file that may hold code.

    Args:
        node: What Hydra would instantiate.
        path: Its place in the config.
        packages: Packages that the reader trusts, besides those of the reader's project; nothing of any other is
            imported.
    """
    packages = [*packages, *project_packages()]
    if "${" in repr(node):  # Hydra would resolve what was escaped
        yield "the config of this run must have no interpolation within another one"
    for place, target_node in iter_targets(node, path):
        target = target_node["_target_"]
        package = str(target).split(".")[0]
        if package in packages:
            if (owner := _foreign_owner(str(target), packages)) is not None:
                yield f"{place} of this run wants {target}, which is {owner}'s; if you trust that: packages=[{owner}]"
            continue
        if package not in ("backlit", "lightning", "torch"):
            yield f"{place} of this run wants {target}, not backlit's; if you trust that code: packages=[{package}]"
            continue
        found = find_imported(str(target))
        if found is None:
            yield f"{place} of this run wants {target}, which {package} does not have"
        elif not _is_part(found):
            yield f"{place} of this run wants {target}, which is no part of a run"
        elif sends_elsewhere(found) and "lightning" not in packages:
            rule = "which writes elsewhere than into its directory; if you trust it: packages=[lightning]"
            yield f"{place} of this run wants {target}, {rule}"


def find_imported(target: str) -> Any:
    """Return the object of a dotted name in modules that are imported already, or None.

    To import a module is to run it, and some of Lightning's run a file of the working directory. Lightning and torch
    have imported all modules with parts of a run by themselves; backlit's own are harmless.
    """
    module_name = target.rpartition(".")[0]
    if module_name.startswith("backlit."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module_name)
    found: Any = sys.modules.get(target.partition(".")[0])
    for part in target.split(".")[1:]:
        found = vars(found).get(part) if isinstance(found, ModuleType) else None  # no __getattr__, which may import
    return found


def sends_elsewhere(found: Any) -> bool:
    """Return whether an object is a logger that sends to a server, or writes outside of the run directory."""
    return isinstance(found, type) and issubclass(found, Logger) and not issubclass(found, _LOCAL_LOGGERS)


def _is_part(found: Any) -> bool:
    """Return whether an object of backlit, lightning or torch is a part of a run."""
    module = str(getattr(found, "__module__", ""))
    is_part = isinstance(found, type) and issubclass(found, _PARTS) and ".demos." not in module  # these download
    return is_part or module == "backlit.models.schedulers"


def _foreign_owner(target: str, packages: Sequence[str]) -> str | None:
    """Return the package whose code a target of a trusted package is: that package may only have imported it.

    None if the code is the trusted package's own, or a part of a run, or if it cannot be imported.
    """
    top, *names = target.split(".")
    if top in sys.stdlib_module_names:  # of which one module often implements another
        return None
    try:
        pkgutil.resolve_name(target)
        found: Any = sys.modules[top]
        owners = []
        for name in names:
            found = getattr(found, name)
            if isinstance(found, ModuleType):
                owners.append(found.__name__)
    except (ImportError, ValueError, AttributeError, KeyError):
        return None
    if isinstance(found, type | FunctionType | BuiltinFunctionType | MethodType) and not _is_part(found):
        owners.append(str(found.__module__))
    return next((owner for owner in (name.partition(".")[0] for name in owners) if owner not in packages), None)


def iter_targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the content of every node that will be instantiated, those in lists included."""
    if isinstance(node, list):
        for index, child in enumerate(node):
            yield from iter_targets(child, f"{path}[{index}]")
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, child in node.items():
            yield from iter_targets(child, f"{path}.{key}" if path else str(key))
