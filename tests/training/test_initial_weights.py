"""``init_from``: a new run with another run's weights, where the network has such weights."""

from pathlib import Path

import pytest
import torch

from backlit.errors import ConfigError
from backlit.training.build import build_run
from backlit.training.train import train
from tests.conftest import CallCommand, Compose

TINY = ["experiment=points", "data.train_size=20", "data.passes_per_epoch=1", "trainer=cpu", "callbacks=none"]


def weights(file: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["state_dict"]
    return state


def test_weights_of_the_same_names_and_shapes_are_taken_and_the_others_are_named(
    points_run: Path, composed: Compose, tmp_path: Path, call_command: CallCommand
) -> None:
    there = weights(points_run / "checkpoints" / "best.ckpt")
    name = next(name for name, value in there.items() if value.ndim == 2)
    wider = "model.hidden_sizes=[4,3]"  # the same first layer, another second one
    done = call_command("backlit-train", *TINY, wider, f"init_from={points_run}", "trainer.max_epochs=1", "seed=5")
    assert done.returncode == 0, done.stderr
    assert (
        "/checkpoints/best.ckpt: 2 of the network's 6 tensors\n  new: net.fc2.weight (3, 4): best.ckpt has (1, 4)"
        in (done.stdout)
    )
    built = build_run(composed(*TINY, wider, f"init_from={points_run}", "seed=5"), tmp_path)
    plain = build_run(composed(*TINY, wider, "seed=5"), tmp_path)
    own, fresh = built.model.state_dict(), plain.model.state_dict()
    assert built.initial is not None
    assert name in built.initial.matching
    for key, value in own.items():
        expected = there[key] if key in built.initial.matching else fresh[key]
        assert torch.equal(value, expected), key
    new = [key for key in own if key not in built.initial.matching and not key.startswith("val_best.")]
    assert new == list(built.initial.others)
    assert built.initial.others
    assert built.trainer.global_step == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["init_from=nowhere"], "init_from must be a run directory or a checkpoint, got nowhere, which does not exist"),
        (["init_from=."], "init_from must be a run directory or a checkpoint: run must be a run directory, got ."),
        (["init_from=notes.txt"], "init_from must be a run directory or a checkpoint: "),
        (
            ["init_from=RUN", "model.hidden_sizes=[7,7]"],
            "init_from must have weights of the network's names and shapes",
        ),
        (["init_from=RUN", "train=false", "ckpt_path=RUN/checkpoints/best.ckpt"], "init_from must be null when train"),
        (["init_from=RUN", "ckpt_path=RUN/checkpoints/best.ckpt"], "init_from must be null with ckpt_path, which has"),
        (["init_from=3"], "init_from must be "),
    ],
)
def test_what_gives_no_weights_is_one_line(
    more: list[str], message: str, points_run: Path, composed: Compose, tmp_path: Path
) -> None:
    Path("notes.txt").write_text("mine")
    with pytest.raises(ConfigError) as raised:
        build_run(composed(*TINY, *(argument.replace("RUN", str(points_run)) for argument in more)), tmp_path / "new")
    assert str(raised.value).startswith(message)
    assert len(raised.value.problems) == 1


def test_a_checkpoint_with_other_weights_says_how_to_take_those_that_fit(
    points_run: Path, composed: Compose, tmp_path: Path
) -> None:
    best = points_run / "checkpoints" / "best.ckpt"
    with pytest.raises(ConfigError, match=r"to start with what fits: init_from=.*/checkpoints/best\.ckpt"):
        build_run(composed(*TINY, "model.hidden_sizes=[4,3]", f"ckpt_path={best}"), tmp_path)


@pytest.mark.slow
def test_a_run_that_began_so_is_resumed_without_them(composed: Compose, points_run: Path, tmp_path: Path) -> None:
    config = [*TINY, f"init_from={points_run}", "trainer.max_epochs=2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for directory in (whole, cut):
        directory.mkdir()
    train(composed(*config), whole)
    train(composed(*config, "trainer.max_epochs=1"), cut)
    train(composed(*config, f"ckpt_path={cut}/checkpoints/last.ckpt"), cut)
    after = [weights(directory / "checkpoints" / "last.ckpt") for directory in (whole, cut)]
    assert all(torch.equal(value, after[1][name]) for name, value in after[0].items())


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype:UserWarning")
def test_weights_of_another_kind_are_not_taken(points_run: Path, composed: Compose, tmp_path: Path) -> None:
    best = points_run / "checkpoints" / "best.ckpt"
    there = weights(best)
    kinds = [
        torch.nested.nested_tensor([torch.zeros(4), torch.zeros(2)]),
        there["net.fc1.weight"].to_sparse(),
        there["net.fc1.weight"].to(torch.float8_e4m3fn),
        torch.zeros_like(there["net.fc1.weight"], device="meta"),
    ]
    for value in kinds:
        torch.save({"state_dict": there | {"net.fc1.weight": value}}, "other.ckpt")
        built = build_run(composed(*TINY, "init_from=other.ckpt"), tmp_path)
        assert built.initial is not None
        (line,) = built.initial.others.values()
        assert line.startswith("net.fc1.weight torch.float32: other.ckpt has torch.float")
    parameters = {name: torch.nn.Parameter(value) for name, value in there.items()}  # another program's file
    torch.save({"state_dict": parameters}, "other.ckpt")
    built = build_run(composed(*TINY, "init_from=other.ckpt"), tmp_path)
    assert torch.equal(built.model.state_dict()["net.fc1.weight"], there["net.fc1.weight"])
