"""Predictions for files equal those of the weights themselves; input and output that do not fit are rejected."""

import csv
import gzip
import importlib
import io
import json
import math
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from backlit.errors import ConfigError
from backlit.predict import predict
from backlit.training.train import train
from tests.conftest import CallCommand, Compose
from tests.helpers.commands import compose_config
from tests.helpers.images import write_idx
from tests.helpers.own_package import PACKAGE
from tests.helpers.processes import Started

MNIST = Path(__file__).parents[1] / "src" / "backlit" / "data" / "mnist_files"
COUNT = 200


@pytest.fixture(scope="module")
def mnist_run(mnist_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 200 batches of MNIST; not to be changed."""
    directory = tmp_path_factory.mktemp("mnist")
    limits = ["trainer.max_epochs=1", "trainer.limit_train_batches=200", "trainer.limit_test_batches=1"]
    more = ["trainer.limit_val_batches=1", "trainer.accelerator=cpu", "callbacks=none", "logger=csv"]
    train(compose_config("experiment=mnist_mlp", *limits, *more, f"data.data_dir={mnist_data}"), directory)
    return directory


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]:
    """`COUNT` images of MNIST's test set, shape ``(COUNT, 28, 28)``, and their labels."""
    images = gzip.decompress((MNIST / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((MNIST / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = numpy.frombuffer(images, numpy.uint8).reshape(-1, 28, 28)
    return pixels[:COUNT], numpy.frombuffer(labels, numpy.uint8)[:COUNT]


@pytest.fixture
def digit_files(tmp_path: Path, digits: tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]) -> Path:
    directory = tmp_path / "digits"
    directory.mkdir()
    for index, image in enumerate(digits[0]):
        Image.fromarray(image).save(directory / f"{index:03}.png")
    return directory


@pytest.fixture
def predicted(composed: Compose) -> Any:
    """Run the command in this process, and return the rows of the output."""

    def run_predict(run: Path, given: str, *overrides: str, output: str = "out.csv") -> list[dict[str, str]]:
        cfg = composed(f"run={run}", f"input={given}", f"output={output}", *overrides, config_name="predict")
        predict(cfg)
        return read(Path(output))

    return run_predict


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def classes(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["class"]) for row in rows]


def direct(run: Path, images: NDArray[numpy.uint8]) -> torch.Tensor:
    """Return the probabilities by nothing but the exported weights and matrix products."""
    weights = torch.load(run / "weights.pth", weights_only=True)
    x = (torch.from_numpy(images.copy()).reshape(len(images), -1) / 255 - 0.5) / 0.5
    layers = sorted({name.split(".")[0] for name in weights})
    for layer in layers:
        x = x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        if layer != layers[-1]:
            x = x.relu()
    return x.softmax(1)


def test_predictions_of_images_equal_those_of_the_weights(
    digit_files: Path, mnist_run: Path, digits: Any, predicted: Any
) -> None:
    rows = predicted(mnist_run, "digits", "batch_size=64")
    expected = direct(mnist_run, digits[0]).sort(1, descending=True)
    assert [row["source"] for row in rows] == [f"digits/{index:03}.png" for index in range(COUNT)]
    assert classes(rows) == expected.indices[:, 0].tolist()
    assert [int(row["runner_up"]) for row in rows] == expected.indices[:, 1].tolist()
    for name, column in (("probability", 0), ("runner_up_probability", 1)):
        written = torch.tensor([float(row[name]) for row in rows])
        assert torch.allclose(written, expected.values[:, column], atol=1e-5)
    assert (numpy.array(classes(rows)) == digits[1]).mean() > 0.75
    assert {row["inverted"] for row in rows} == {"False"}
    with Image.open("out.png") as picture:
        assert picture.width > 1000
    assert sorted(os.listdir()) == ["digits", "out.csv", "out.png"]  # nothing temporary is left


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["idx", "idx.gz", "npy", "npy flat floats", "npy int64", "list", "glob", "stdin"])
def test_other_file_formats_give_the_same_predictions(
    kind: str, digit_files: Path, mnist_run: Path, digits: Any, predicted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digits[0]
    given, count = kind, COUNT
    if kind.startswith("idx"):
        given = "some-idx3-ubyte"
        write_idx(Path(given), images)
        if kind == "idx.gz":
            Path("some.gz").write_bytes(gzip.compress(Path(given).read_bytes()))
            given = "some.gz"
    elif kind.startswith("npy"):
        given = "some.npy"
        stored = {"npy": images[:, None], "npy int64": images.astype(numpy.int64)}
        numpy.save(given, stored.get(kind, (images.reshape(COUNT, 784) / 255).astype(numpy.float32)))
    elif kind == "list":
        given, count = "[digits/000.png,digits/001.png]", 2
    elif kind == "glob":
        given, count = "digits/00*.png", 10
    elif kind == "stdin":
        given = "-"
        content = io.BytesIO()
        numpy.save(content, images)
        monkeypatch.setattr("backlit.data.readers.read_stdin", content.getvalue)
    rows = predicted(mnist_run, given, "batch_size=70")
    assert classes(rows) == direct(mnist_run, images[:count]).argmax(1).tolist()
    if kind in ("idx", "npy"):
        assert rows[-1]["source"] == f"{given}[{COUNT - 1}]"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["inverted", "RGB", "large JPEG", "16 bit", "transparent", "white on nothing", "wide"])
def test_other_forms_of_the_images_give_the_same_predictions(
    way: str, mnist_run: Path, digits: Any, predicted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other").mkdir()
    for index, image in enumerate(digits[0]):
        path = f"other/{index:03}.png"
        ink = Image.fromarray(image)
        if way == "inverted":
            Image.fromarray(255 - image).save(path)
        elif way == "RGB":
            ink.convert("RGB").save(path)
        elif way == "large JPEG":
            ink.resize((280, 280), Image.Resampling.BICUBIC).save(f"other/{index:03}.jpg", quality=95)
        elif way == "16 bit":
            Image.fromarray(image.astype(numpy.uint16) * 257).save(path)
        elif way == "wide":  # a border of paper left and right, that padding gives above and below, too
            wide = Image.new("L", (56, 28), 255)
            wide.paste(Image.fromarray(255 - image), (14, 0))
            wide.save(path)
        else:
            Image.merge("LA", (Image.new("L", (28, 28), 255 if way == "white on nothing" else 0), ink)).save(path)
    rows = predicted(mnist_run, "other", "frame=none")  # the whole image; framing has its own tests
    are_inverted = way in ("inverted", "transparent", "wide")
    assert [row["inverted"] for row in rows] == [str(are_inverted)] * COUNT
    message = "200 of 200 images were dark on light and were inverted"
    assert (message in capsys.readouterr().out) == are_inverted
    expected = direct(mnist_run, digits[0]).argmax(1)
    agree = (torch.tensor(classes(rows)) == expected).float().mean()
    if way == "wide":
        small = [numpy.asarray(Image.fromarray(numpy.pad(i, 14)).resize((28, 28))) for i in digits[0]]
        padded = direct(mnist_run, numpy.stack(small)).argmax(1)
        assert (torch.tensor(classes(rows)) == padded).float().mean() >= 0.99
    else:
        assert agree >= (0.98 if way == "large JPEG" else 1)


def test_images_are_inverted_on_request(digit_files: Path, mnist_run: Path, digits: Any, predicted: Any) -> None:
    rows = predicted(mnist_run, "digits", "invert=true")
    assert classes(rows) == direct(mnist_run, 255 - digits[0]).argmax(1).tolist()
    assert {row["inverted"] for row in rows} == {"True"}


def test_json_lines_have_numbers_and_truth_values(digit_files: Path, mnist_run: Path, composed: Compose) -> None:
    predict(composed(f"run={mnist_run}", "input=digits/000.png", "output=out.jsonl", config_name="predict"))
    (row,) = map(json.loads, Path("out.jsonl").read_text().splitlines())
    assert row["source"] == "digits/000.png"
    assert row["class"] == "7"  # a name; Fashion-MNIST's are words
    assert row["inverted"] is False
    assert 0 < row["runner_up_probability"] < row["probability"] < 1


@pytest.mark.parametrize("kind", ["csv", "headed csv", "npy"])
def test_predictions_of_points_equal_a_computation_by_hand(kind: str, trained_points: Path, predicted: Any) -> None:
    points = numpy.random.default_rng(0).uniform(-2, 2, (50, 2))
    if kind == "npy":
        numpy.save("points.npy", points)
    else:
        header = "y, X" if kind == "headed csv" else ""
        columns = points[:, ::-1] if header else points
        numpy.savetxt("points.csv", columns, delimiter=",", header=header, comments="", fmt="%.17g")
    rows = predicted(trained_points, f"points.{kind[-3:]}", "batch_size=20")
    weights = {name: value.double() for name, value in torch.load(trained_points / "weights.pth").items()}
    hidden = (torch.from_numpy(points) @ weights["fc1.weight"].T + weights["fc1.bias"]).relu()
    logits = (hidden @ weights["fc2.weight"].T + weights["fc2.bias"])[:, 0]
    for row, (x, y), logit in zip(rows, points.tolist(), logits.tolist(), strict=True):
        assert (float(row["x"]), float(row["y"])) == (x, y)
        assert int(row["class"]) == (logit > 0)
        assert float(row["probability_of_1"]) == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-4)
    assert Path("out.png").exists()


@pytest.mark.process
def test_points_from_standard_input_give_csv_on_standard_output(trained_points: Path, tmp_path: Path) -> None:
    command = ["backlit-predict", f"run={trained_points}", "input=-", "output=-"]
    process = Started(*command, directory=tmp_path, stdin="x,y\n1,1\n-1,-1\n")
    printed, reported = process.communicate()
    assert process.returncode == 0, reported
    header, *rows = csv.reader(printed.splitlines())
    assert header == ["x", "y", "class", "probability_of_1"]
    assert [row[:3] for row in rows] == [["1.0", "1.0", "1"], ["-1.0", "-1.0", "0"]]
    assert "points by class:  0: 1  1: 1" in reported
    assert not list(tmp_path.iterdir())


def test_unreadable_images_are_reported_and_skipped(
    digit_files: Path, mnist_run: Path, call_command: CallCommand
) -> None:
    (digit_files / "000.png").write_text("no image")
    (digit_files / "001.png").write_bytes((digit_files / "001.png").read_bytes()[:100])
    with (digit_files / "002.png").open("wb") as file:  # more images than there are numbers
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**32, 2**32, 28, 28)}
        numpy.lib.format.write_array_header_1_0(file, header)
    (digit_files / "002.png").rename("002.npy")
    done = call_command("backlit-predict", f"run={mnist_run}", "input=[digits,002.npy]", "output=out.csv")
    assert done.returncode == 1
    *lines, array = done.stderr.splitlines()
    assert array.startswith("error: 002.npy cannot be read: ")
    assert lines[0] == "error: digits/000.png cannot be read: it is no image"
    assert lines[1].startswith("error: digits/001.png cannot be read: ")
    assert len(lines) == 2
    assert [row["source"] for row in read(Path("out.csv"))] == [f"digits/{index:03}.png" for index in range(3, COUNT)]
    assert "and 177 more" in done.stdout
    assert "written   out.csv, out.png" in done.stdout


def test_a_picture_of_an_earlier_prediction_is_replaced_and_no_other(
    trained_points: Path, call_command: CallCommand
) -> None:
    Path("new.csv").write_text("0,0\n1,1\n")
    command = ["backlit-predict", f"run={trained_points}", "input=new.csv", "output=out.csv"]
    assert call_command(*command).returncode == 0
    assert call_command(*command).returncode == 0
    Path("out.csv").unlink()
    Image.new("L", (28, 28)).save("out.png")
    before = Path("out.png").read_bytes()
    done = call_command(*command)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert Path("out.png").read_bytes() == before
    assert not Path("out.csv").exists()


def test_a_truncated_archive_gives_its_whole_batches(mnist_run: Path, digits: Any, predicted: Any) -> None:
    write_idx(Path("whole"), digits[0])
    Path("part.gz").write_bytes(gzip.compress(Path("whole").read_bytes()[: 16 + 784 * 105]))
    with pytest.raises(SystemExit) as error:
        predicted(mnist_run, "part.gz", "batch_size=50")
    assert error.value.code == 1
    assert len(read(Path("out.csv"))) == 100


def test_without_a_readable_file_nothing_is_written(mnist_run: Path, call_command: CallCommand) -> None:
    Path("a.csv").write_text("1,2\n")
    done = call_command("backlit-predict", f"run={mnist_run}", "input=a.csv", "output=out.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: a.csv cannot be read: it is no image\n"
    assert os.listdir() == ["a.csv"]


@pytest.mark.parametrize(
    ("run", "overrides", "message"),
    [
        ("images", ["input=none*.png"], r"^input must be .*, got none\*\.png, which does not exist"),
        ("images", ["input=empty"], r"^input must be .*, got empty, which has no images "),
        ("images", ["input=[]"], r"^input must be given"),
        ("images", ["input=small.npy"], r"^small\.npy must have .* or \(28, 28\) or \(784,\) .*, got float64 \(2,\)$"),
        ("images", ["input=words.npy"], r"^words\.npy must have numbers .*, got <U1 \(28, 28\)$"),
        (
            "images",
            ["input=large.npy"],
            r"^large\.npy must have integers .* or floats .*, got float64 from 2\.0 to 2\.0$",
        ),
        ("images", ["input=a.png", "invert=maybe"], r"^invert must be one of auto or bool, got 'maybe'$"),
        ("images", ["input=a.png", "invert=0"], r"^invert must be one of auto or bool, got 0$"),
        ("images", ["input=a.png", "invert=1"], r"^invert must be one of auto or bool, got 1$"),
        ("images", ["input=a.png", "batch_size=true"], r"^batch_size must be int, got True$"),
        ("images", ["input=a.png", "checkpoint=false"], r"^checkpoint must be str or null, got False$"),
        (
            "images",
            ["input=a.png", "output=empty.csv"],
            r"^output=empty\.csv must be .*, which backlit-predict has not",
        ),
        ("images", ["input=none.npy"], r"^input must have at least one sample, got none in none\.npy$"),
        ("images", ["input=a.png", "output=out.txt"], r"^output must be a \.csv or \.jsonl file, .*, got out\.txt$"),
        (
            "images",
            ["input=a.png", "output=a.csv"],
            r"^output=a\.csv must be .* would replace a\.png, which backlit-predict has not",
        ),
        ("images", ["input=a.png", "output=large.npy/a.csv"], r"^output must be .*, got large\.npy/a\.csv: "),
        ("images", ["input=none.npy", "output=new/a.csv"], r"^input must have at least one sample"),
        ("images", ["input=a.png", "frame=photo"], r"^frame must be one of auto, mnist, none, got 'photo'$"),
        ("points", ["input=nan.csv", "frame=mnist"], r"^run must be of data with has_framed_digits, .* got Points"),
        ("points", ["input=words.csv"], r"^words\.csv must have a column x and a column y, .*, got 'lon,lat'$"),
        ("images", ["input=a.png", "batch_size=0"], r"^batch_size must be >= 1, got 0$"),
        ("images", ["input=a.png", "device=abacus"], r"^device must be .*, got abacus: "),
        ("images", ["input=a.png", "run=nowhere"], r"^run must be a run directory, got nowhere"),
        ("points", ["input=a.png"], r"^a\.png must be points for this run, as CSV or \.npy, got no text$"),
        ("points", ["input=three.csv"], r"^three\.csv, line 2, must be two finite numbers, x and y, got '1,2,3'$"),
        ("points", ["input=nan.csv", "batch_size=1"], r"^nan\.csv, line 2, must be two finite .*, got 'nan,1'$"),
        ("points", ["input=nan.npy"], r"^nan\.npy\[1\] must be two finite numbers, got \[nan, 1\.0\]$"),
        ("points", ["input=images.npy"], r"^images\.npy must have .* shape \(2,\) .*, got uint8 \(28, 28\)$"),
    ],
)
def test_wrong_values_are_reported_in_one_line_and_nothing_is_written(
    run: str, overrides: list[str], message: str, mnist_run: Path, trained_points: Path, composed: Compose
) -> None:
    Path("empty").mkdir()
    Path("empty.png").touch()
    Image.new("L", (28, 28)).save("a.png")
    numpy.save("small.npy", numpy.zeros((3, 2)))
    numpy.save("words.npy", numpy.full((1, 28, 28), "a"))
    numpy.save("large.npy", numpy.full((1, 28, 28), 2.0))
    numpy.save("none.npy", numpy.zeros((0, 28, 28)))
    numpy.save("nan.npy", numpy.array([[0, 0], [math.nan, 1]]))
    numpy.save("images.npy", numpy.zeros((1, 28, 28), numpy.uint8))
    Path("words.csv").write_text("lon,lat\n1,2\n")
    Path("three.csv").write_text("1,2\n1,2,3\n")
    Path("nan.csv").write_text("1,2\nnan,1\n")
    before = sorted(os.listdir())
    where = {"images": mnist_run, "points": trained_points}[run]
    cfg = composed(f"run={where}", "output=out.csv", *overrides, config_name="predict")
    with pytest.raises(ConfigError, match=message) as error:
        predict(cfg)
    assert len(str(error.value).splitlines()) == 1
    assert sorted(os.listdir()) == before


def test_a_missing_input_is_reported(call_command: CallCommand) -> None:
    done = call_command("backlit-predict", "run=latest")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: input must be given: backlit-predict run=latest input=digits\n"


def test_a_full_disk_leaves_no_file(trained_points: Path, predicted: Any) -> None:
    numpy.save("points.npy", numpy.zeros((20_000, 2)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            ConfigError, match=r"^output must be a file that can be written, got out.csv: File too large$"
        ):
            predicted(trained_points, "points.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir() == ["points.npy"]


@pytest.mark.slow
def test_a_run_in_bfloat16_predicts(composed: Compose, predicted: Any) -> None:
    small = ["experiment=points", "trainer=cpu", "trainer.max_epochs=1", "callbacks=none", "logger=csv"]
    Path("run").mkdir()
    train(composed(*small, "trainer.precision=bf16-true"), Path("run").absolute())
    Path("points.csv").write_text("1,1\n-1,-1\n")
    assert classes(predicted(Path("run"), "points.csv")) == [1, 0]


@pytest.fixture
def own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an untrained run of a user's own model and data."""
    (tmp_path / "foreign_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "foreign_package", raising=False)

    def make(data: str, model: str, **arguments: Any) -> Path:
        run = tmp_path / "run"
        (run / ".hydra").mkdir(parents=True)
        (run / "checkpoints").mkdir()
        nodes = {"data": {"_target_": data}, "model": {"_target_": f"foreign_package.{model}", **arguments}}
        (run / ".hydra" / "config.yaml").write_text(json.dumps({"seed": 0, **nodes}))
        module = getattr(importlib.import_module("foreign_package"), model)(**arguments, optimizer=None, scheduler=None)
        torch.save({"state_dict": module.state_dict()}, run / "checkpoints" / "best.ckpt")
        return run

    return make


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ("backlit.data.PointsDataModule", "Foreign", r"^Foreign needs forward\(self, inputs\), .*, for predictions$"),
        ("lightning.LightningDataModule", "MyCNN", r"^LightningDataModule needs input_shape, "),
    ],
)
def test_what_a_run_does_not_offer_is_named(data: str, model: str, message: str, own_run: Any, predicted: Any) -> None:
    Image.new("L", (28, 28)).save("a.png")
    run = own_run(data, model, **({"channels": 3} if model == "MyCNN" else {}))
    with pytest.raises(ConfigError, match=r"packages=\["):
        predicted(run, "a.png")
    with pytest.raises(ConfigError, match=message):
        predicted(run, "a.png", "packages=[foreign_package,lightning]")
    assert not Path("out.csv").exists()


def test_a_users_own_network_predicts_images_of_its_own_size(own_run: Any, predicted: Any) -> None:
    run = own_run("backlit.data.InMemoryDataModule", "MyCNN", channels=3)
    config = run / ".hydra" / "config.yaml"
    content = json.loads(config.read_text())
    content["data"] = {"_target_": "foreign_package.MyData", "size": 4}
    config.write_text(json.dumps(content))
    images = numpy.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=numpy.uint8)
    numpy.save("a.npy", images)
    rows = predicted(run, "a.npy", "packages=[foreign_package]")
    model = importlib.import_module("foreign_package").MyCNN(3)
    model.load_state_dict(torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"])
    assert classes(rows) == model(torch.from_numpy(images)[:, None].float()).argmax(1).tolist()
