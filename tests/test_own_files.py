"""A table and a folder of pictures of one's own: trained, resumed, evaluated, predicted and exported by commands."""

import csv
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from backlit import load_run
from tests.conftest import CallCommand
from tests.helpers.own_files import write_pictures, write_table
from tests.helpers.runs import assert_same_run, only_run, read_record, saved_metrics

TABLE = ["data=csv", "data.file=flowers.csv", "model=mlp", "model.hidden_sizes=[8]", "optimizer.lr=0.02"]
PICTURES = ["data=image_folder", "data.data_dir=pictures", "data.image_size=12", "data.batch_size=4", "model=cnn"]
PICTURES += ["model.channels=[4]", "model.kernel_size=3", "model.hidden_sizes=[]", "data.augment=true"]
SHORT = ["trainer=cpu", "callbacks=none", "logger=csv", "trainer.enable_progress_bar=false"]


@pytest.fixture(params=["table", "pictures"])
def arguments(request: pytest.FixtureRequest) -> list[str]:
    """What trains on a table or a folder in the working directory."""
    write_table(Path("flowers.csv"))
    write_pictures(Path("pictures"))
    return [*(TABLE if request.param == "table" else PICTURES), *SHORT, f"task_name={request.param}"]


def call(call_command: CallCommand, *command: str) -> str:
    ended = call_command(*command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_a_resumed_run_is_bit_identical_and_one_on_other_data_is_rejected(
    arguments: list[str], call_command: CallCommand
) -> None:
    call(call_command, "backlit-train", *arguments, "trainer.max_epochs=4", "hydra.run.dir=whole")
    call(call_command, "backlit-train", *arguments, "trainer.max_epochs=2", "hydra.run.dir=part")
    extended = ("backlit-train", "resume=part", "trainer.max_epochs=4", arguments[1])
    with Path("flowers.csv").open("a") as file:
        file.write("1,2,rose\n")
    Image.new("RGB", (9, 9)).save("pictures/red/new.png")
    before = (Path("part") / "checkpoints" / "last.ckpt").read_bytes()
    ended = call_command(*extended)
    assert ended.returncode == 2
    assert ended.stderr == "error: data: the files must be those that the run began with, but have other samples\n"
    assert (Path("part") / "checkpoints" / "last.ckpt").read_bytes() == before
    write_table(Path("flowers.csv"))
    Path("pictures/red/new.png").unlink()
    call(call_command, *extended)
    assert_same_run(Path("part"), Path("whole"))


def test_a_table_is_predicted_and_exported_without_the_files_of_the_training(call_command: CallCommand) -> None:
    write_table(Path("flowers.csv"))
    call(call_command, "backlit-train", *TABLE, *SHORT, "trainer.max_epochs=6", "task_name=table")
    run = only_run("table")
    assert saved_metrics(run)["test/acc"] == 1
    Path("flowers.csv").unlink()
    new = write_table(Path("new.csv"), rows_per_class=2, seed=1)
    with Path("new.csv").open("w", newline="") as file:  # other columns, in another order
        csv.writer(file).writerows([["kind", "id", "width", "height"], *([k, "?", w, h] for h, w, k in new)])
    printed = call(call_command, "backlit-predict", "run=latest", "input=new.csv", "output=out.csv")
    assert "accuracy  1.0000 (6 of 6 right)" in printed
    assert not Path("out.png").exists()
    with Path("out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [row["true_class"] for row in rows] == [kind for _, _, kind in new]
    # By hand: the means and deviations of the checkpoint, and matrix products with the weights.
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    state, weights = content["TableDataModule"], torch.load(run / "weights.pth", weights_only=True)
    values = torch.tensor([[float(height), float(width)] for height, width, _ in new], dtype=torch.float64)
    x = ((values - torch.tensor(state["mean"])) / torch.tensor(state["std"])).float()
    hidden = torch.relu(x @ weights["fc1.weight"].T + weights["fc1.bias"])
    expected = (hidden @ weights["fc2.weight"].T + weights["fc2.bias"]).softmax(1)
    written = torch.tensor([float(row["probability"]) for row in rows])
    assert torch.allclose(written, expected.max(1).values, atol=1e-5)
    call(call_command, "backlit-export", "run=latest", "format=torch_export", "output=flowers.pt2")
    program = torch.export.load("flowers.pt2").module()
    assert torch.allclose(program(values.float()), expected, atol=1e-4)


def test_pictures_are_predicted_by_the_names_of_their_folders(call_command: CallCommand) -> None:
    write_pictures(Path("pictures"))
    call(
        call_command,
        "backlit-train",
        *PICTURES,
        "trainer=cpu",
        "logger=csv",
        "trainer.max_epochs=8",
        "task_name=pictures",
    )
    run = only_run("pictures")
    assert saved_metrics(run)["test/acc"] == 1
    assert {"mistakes.png", "first_layer.png"} <= {path.name for path in (run / "plots").iterdir()}
    shutil.move("pictures", "moved")
    write_pictures(Path("new"), per_class=2, seed=1)
    printed = call(call_command, "backlit-predict", "run=latest", "input='new/*/*.*'", "output=out.csv")
    assert "images by class:  blue: 2  red: 2" in printed
    with Path("out.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["blue", "blue", "red", "red"]
    with Image.open("out.png") as sheet:
        pixels = numpy.asarray(sheet.convert("RGB")).astype(int)
    assert (pixels[..., 0] - pixels[..., 2]).max() > 100  # in their colours
    loaded = load_run(run)
    assert loaded.datamodule.class_names == ("blue", "red")  # type: ignore[attr-defined]
    printed = call(call_command, "backlit-evaluate", f"run={run}", "data.data_dir=moved")
    assert "samples   4" in printed
    assert read_record(run)["status"] == "completed"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=csv"], "data.file must be given: data.file=..."),
        (["data=csv", "data.file=nowhere.csv"], "data: nowhere.csv cannot be read: No such file or directory"),
        ([*TABLE, "model.in_features=3"], "model.in_features must be 2 for these data, got 3"),
        ([*TABLE, "model=binary_mlp"], "model must distinguish 3 classes for these data, got one for 2"),
        ([*TABLE, "model=cnn"], "model.input_shape must be one of images, (channels, height, width), got (2,)"),
        ([*PICTURES, "model.channels=[1,1,1,1]"], "model.channels must be at most 3 numbers for images of 12 x 12"),
        ([*PICTURES, "model.input_shape=[1,12,12]"], "model.input_shape must be [3, 12, 12] for these data"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_written(
    overrides: list[str], message: str, call_command: CallCommand
) -> None:
    write_table(Path("flowers.csv"))
    write_pictures(Path("pictures"))
    ended = call_command("backlit-train", *overrides, *SHORT)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert not Path("outputs").exists()
