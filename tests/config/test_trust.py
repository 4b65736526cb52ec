"""What the config of a run directory may name."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from backlit.config.trust import iter_targets, packages_problem, plain_node, trusted_node, untrusted_targets
from tests.conftest import Compose


@pytest.mark.parametrize(
    "target",
    [
        "backlit.models.BinaryClassifier",
        "backlit.data.PointsDataModule",
        "backlit.models.schedulers.cosine",
        "lightning.Trainer",
        "lightning.pytorch.callbacks.EarlyStopping",
        "torch.optim.Adam",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
    ],
)
def test_parts_of_a_run_are_trusted(target: str) -> None:
    assert list(untrusted_targets({"x": {"_target_": target}}, "", [])) == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("os.system", "wants os.system, not backlit's; if you trust that code: packages=[os]"),
        ("torch.load", "wants torch.load, which is no part of a run"),
        ("torch.hub.load", "wants torch.hub.load, which is no part of a run"),
        ("backlit.training.train.train", "wants backlit.training.train.train, which is no part of a run"),
        ("backlit.nothing.there", "wants backlit.nothing.there, which backlit does not have"),
        ("lightning.Nothing", "wants lightning.Nothing, which lightning does not have"),
        ("lightning.__setup__.X", "wants lightning.__setup__.X, which lightning does not have"),
        ("torch.utils.model_dump.__main__.X", "which torch does not have"),
        ("torch.testing._internal.dist_utils.X", "which torch does not have"),
        ("torch.testing._internal.py312_intrinsics.X", "which torch does not have"),
        ("torch.classes.foo.Bar", "which torch does not have"),
        ("torch.optim.Adam.step", "which torch does not have"),
        ("torch", "wants torch, which is no part of a run"),
        ("torch.", "which torch does not have"),
    ],
)
def test_anything_else_is_named_with_its_place(target: str, reason: str) -> None:
    node = {"a": [{"b": {"_target_": target}}]}
    (line,) = untrusted_targets(node, "", [])
    assert line.startswith("a[0].b of this run ")
    assert reason in line


def test_a_module_that_is_not_imported_yet_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".actions").mkdir()
    Path(".actions", "assistant.py").write_text("open('ran', 'w')\n")  # lightning.__setup__ runs it
    assert list(untrusted_targets({"_target_": "lightning.__setup__.X"}, "model", []))
    with pytest.raises(ValueError, match="which lightning does not have"):
        trusted_node(OmegaConf.create({"model": {"_target_": "lightning.__setup__.X"}}), "model", [])
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "target",
    ["lightning.pytorch.loggers.WandbLogger", "backlit.loggers.MLFlowLogger", "backlit.loggers.CometLogger"],
)
def test_a_logger_that_sends_elsewhere_is_trusted_with_lightning(target: str) -> None:
    (line,) = untrusted_targets({"_target_": target}, "logger.x", ["mine"])
    rule = "which writes elsewhere than into its directory; if you trust it: packages=[lightning]"
    assert line == f"logger.x of this run wants {target}, {rule}"
    assert list(untrusted_targets({"_target_": target}, "logger.x", ["lightning"])) == []


def test_a_package_is_trusted_by_name() -> None:
    assert list(untrusted_targets({"_target_": "mine.Model"}, "model", ["mine"])) == []
    assert len(list(untrusted_targets({"_target_": "mines.Model"}, "model", ["mine"]))) == 1


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ("audio_pose", "packages must be a list, got audio_pose: packages=[audio_pose]"),
        (None, "packages must be a list, got None: packages=[]"),
        (3, "packages must be a list, got 3: packages=[3]"),
        (["my.models"], "packages must be a list of names of packages, without dots, got 'my.models': packages=[my]"),
        ([""], "packages must be a list of names of packages, without dots, got ''"),
        ([["io"]], "packages must be a list of names of packages, without dots, got ['io']"),
        (["os", "io"], None),
        ((), None),
    ],
)
def test_packages_are_a_list_of_whole_names(packages: Any, message: str | None) -> None:
    assert packages_problem(packages) == message


def test_a_trusted_package_is_not_trusted_with_what_it_has_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_parts.py").write_text(
        "import os, subprocess\nfrom io import FileIO\nfrom torch import load\nfrom torch.optim import Adam\n"
        "from functools import partial\ndef make(): pass\nclass Own: pass\nmaker = partial(Own)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("make", "Own", "Own.__init__", "maker", "Adam", "nothing"):
        assert list(untrusted_targets({"_target_": f"my_parts.{name}"}, "x", ["my_parts"])) == [], name
    for name, owner in {"os.system": "os", "subprocess.Popen": "subprocess", "FileIO": "_io", "load": "torch"}.items():
        (line,) = untrusted_targets({"_target_": f"my_parts.{name}"}, "", ["my_parts"])
        assert line.endswith(f"wants my_parts.{name}, which is {owner}'s; if you trust that: packages=[{owner}]")
    # Whoever trusts the package itself trusts what it has.
    assert list(untrusted_targets({"_target_": "io.FileIO"}, "", ["io"])) == []


def test_every_target_is_found_in_lists_and_within_targets() -> None:
    inner = {"_target_": "b", "c": [{"_target_": "d"}]}
    found = [(path, node["_target_"]) for path, node in iter_targets({"a": {"_target_": "a", "x": inner}}, "")]
    assert found == [("a", "a"), ("a.x", "b"), ("a.x.c[0]", "d")]


@pytest.mark.parametrize("more", [["scheduler=plateau", "optimizer=adamw"], ["scheduler=step_lr", "debug=profiler"]])
def test_the_configs_of_backlit_are_trusted(more: list[str], composed: Compose) -> None:
    config = composed(*more)
    config.output_dir = "."
    plain: Any = OmegaConf.to_container(config, resolve=True)
    assert len(list(iter_targets(plain, ""))) >= 5
    assert list(untrusted_targets(plain, "", [])) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"_target_": "backlit.data.PointsDataModule"}, "model._target_ must be a LightningModule, got backlit.data"),
        ({"_target_": "os.system"}, "model of this run wants os.system"),
        ({"in_features": 2}, "model must have a _target_ in the run's config"),
        ({"_target_": "${nothing}"}, "model of the run's config cannot be read"),
        ({"_target_": "x", "y": r"\${oc.env:HOME}"}, "model of the run's config must have no interpolation within"),
    ],
)
def test_a_node_that_is_not_trusted_is_rejected(model: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trusted_node(OmegaConf.create({"model": model}), "model", [])


def test_a_trusted_node_is_plain_and_resolved() -> None:
    config = OmegaConf.create({"n": 2, "model": {"_target_": "backlit.models.BinaryClassifier", "in_features": "${n}"}})
    node = trusted_node(config, "model", [])
    assert node == {"_target_": "backlit.models.BinaryClassifier", "in_features": 2}
    assert type(plain_node(config, "model")) is dict
