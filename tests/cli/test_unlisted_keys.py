"""Arguments of a class that its YAML leaves out are keys, wherever the config comes from."""

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import CallCommand

PACKAGE = """
class Data:
    def __init__(self, size: int, noise: float = 0.0): ...


class Other:
    def __init__(self, width: int, noise: float = 0.0, depth: int = 1, *, optimizer=None): ...
"""
FILES = {
    "data/own": "_target_: own_for_keys.Data\nsize: 3\n",
    "data/other": "_target_: own_for_keys.Other\nwidth: 3\nnoise: 1.0\n",
    "data/inherits": "defaults: [own, _self_]\nsize: 4\n",
    "model/own": "_target_: own_for_keys.Other\nwidth: 3\n",
    "experiment/first": (
        "# @package _global_\ndefaults:\n  - /experiment/points\n  - override /data: own\n"
        "  - override /model: own\n  - _self_\n"
    ),
    "experiment/second": "# @package _global_\ndefaults: [first, _self_]\ndata: {size: 5}\nmodel: {depth: 2}\n",
    "experiment/deep/third": "# @package _global_\ndefaults:\n  - /experiment/second\n  - override /data: other\n",
    "experiment/commented": "# @package _global_\ndefaults:\n  - points\n#  - override /data: own\ntask_name: x\n",
}
PYPROJECT = '[tool.backlit]\nconf = "conf"\npackages = ["own_for_keys"]\n'


@pytest.fixture(params=["project", "config-dir"])
def flags(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags with which commands find own YAML files: none in a project."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_for_keys", raising=False)
    (tmp_path / "own_for_keys.py").write_text(PACKAGE)
    for name, text in FILES.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if request.param == "project":
        (tmp_path / "pyproject.toml").write_text(PYPROJECT)
        return []
    return ["--config-dir", "conf"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("data=own data.noise=1", {"data.noise": 1}),
        ("data=own data.size=1", {"data.size": 1}),
        ("data=inherits data.noise=1 data.size=2", {"data.noise": 1, "data.size": 2}),
        ("experiment=first data.noise=2", {"data.noise": 2, "data.size": 3}),
        ("experiment=second data.noise=2", {"data.noise": 2, "data.size": 5}),
        ("experiment=second model.depth=7 model.noise=1", {"model.depth": 7, "model.noise": 1}),
        ("experiment=deep/third data.noise=2 data.depth=3", {"data.noise": 2, "data.depth": 3, "data.width": 3}),
        ("experiment=deep/third data=own data.noise=4", {"data.noise": 4, "data.size": 5}),
        ("experiment=first optimizer.dampening=0.5 optimizer.lr=1", {"optimizer.dampening": 0.5, "optimizer.lr": 1}),
        ("experiment=first data.nose=2", "data.nose: no such key, did you mean data.noise?"),
        ("experiment=first data.depth=2", "data.depth: no such key; data has: size, noise"),
        ("experiment=commented data.size=2", "data.size: no such key"),
        ("data=own callbacks.stop._target_=own_for_keys.Data callbacks.stop.noise=3", {"callbacks.stop.noise": 3}),
        ("model=own model.optimizer=1", {"model.optimizer": 1}),  # the check of the config says what sets it
    ],
)
def test_an_argument_that_a_yaml_leaves_out_is_a_key(
    typed: str, expected: dict[str, object] | str, flags: list[str], call_command: CallCommand
) -> None:
    ended = call_command("backlit-train", *flags, "--cfg", "job", *typed.split(" "))
    if isinstance(expected, str):
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"error: {expected}")
        assert ended.stderr.count("\n") == 1
    else:
        assert ended.returncode == 0, ended.stderr
        config = OmegaConf.create(ended.stdout)
        assert {key: OmegaConf.select(config, key) for key in expected} == expected


def test_a_key_that_all_yamls_list_needs_no_second_look(
    call_command: CallCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlit.cli.app.add_unlisted", lambda *_: pytest.fail("looked"))
    assert call_command("backlit-train", "--cfg", "job", "experiment=points", "optimizer.lr=0.3").returncode == 0


@pytest.mark.slow
def test_the_jobs_of_a_sweep_over_options_have_it(call_command: CallCommand) -> None:
    quick = ["experiment=points", "trainer=cpu", "data.passes_per_epoch=1", "trainer.max_epochs=1", "callbacks=none"]
    done = call_command("backlit-train", "-m", *quick, "optimizer=adam,sgd", "optimizer.maximize=true")
    assert done.returncode == 0, done.stdout + done.stderr
    ended = call_command("backlit-train", "-m", *quick, "optimizer=adam,sgd", "optimizer.momentum=0.5")
    expected = "error: optimizer.momentum: no such key in some of the options that the sweep varies\n"
    assert (ended.returncode, ended.stderr) == (2, expected)


def test_what_a_run_has_recorded_is_read_as_it_is(points_run: Path, call_command: CallCommand) -> None:
    ended = call_command("backlit-train", f"rerun={points_run}", "optimizer.foreach=true")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: optimizer.foreach: no such key; type +optimizer.foreach=true, an argument")
