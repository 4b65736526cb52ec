"""Interpolations of a stranger's config: bounded, and of kinds that only return a value."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from backlit.config.interpolations import interpolation_problem
from tests.conftest import Compose


def doubled(first: Any, other: str) -> dict[str, Any]:
    config: dict[str, Any] = {"x0": first}
    for level in range(40):
        config[f"x{level + 1}"] = other.replace("X", f"x{level}")
    return config


@pytest.mark.parametrize(
    "config",
    [
        doubled("a", "${X}${X}"),
        doubled("a", "${ X }, ${oc.select:X}"),
        doubled("a", "${.X}${.X}"),
        {"a": doubled("a", "${.X}${..a.X}")},
        {"x0": ["a"], **{f"x{n + 1}": [f"${{x{n}}}", f"${{x{n}[0]}}", f"${{x{n}}}"] for n in range(40)}},
        {"x0": {"k": 1}, **{f"x{n + 1}": {"a": f"${{x{n}}}", "b": f"${{x{n}}}"} for n in range(40)}},
        doubled("a", '${oc.decode:"[${X},${X}]"}'),
    ],
)
def test_what_would_fill_the_memory_is_not_resolved(config: dict[str, Any]) -> None:
    problem = interpolation_problem(config)
    assert problem is not None
    assert problem.startswith("its interpolations come to ")


@pytest.mark.parametrize("resolver", ["oc.deprecated", "oc.create", "oc.dict.values", "my.own", "oc.${b}", ""])
def test_other_resolvers_are_named(resolver: str) -> None:
    assert interpolation_problem({"a": [f"${{{resolver}:b}}"], "b": 1}) is not None


@pytest.mark.parametrize(
    "config", [{"a": "${b}", "b": "${a}"}, {"a": {"b": "${a}"}}, {"a": "${c}"}, {"a": "${..b}"}, {"a": "${"}, {0: {}}]
)
def test_what_omegaconf_reports_is_left_to_it(config: dict[Any, Any]) -> None:
    assert interpolation_problem(config) is None


def test_a_chain_as_long_as_the_stack_is_rejected() -> None:
    config = {"x0": "a"} | {f"x{level + 1}": f"${{x{level}}}" for level in range(10_000)}
    assert interpolation_problem(dict(reversed(config.items()))) is not None


@pytest.mark.parametrize("more", [[], ["experiment=points"], ["sweep=optuna"], ["hydra.run.dir=${oc.env:HOME}/x"]])
def test_the_configs_of_backlit_have_none_of_this(more: list[str], composed: Compose) -> None:
    config = OmegaConf.to_container(composed(*more), resolve=False)
    assert interpolation_problem(config) is None
