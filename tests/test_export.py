"""Exported files compute what the network computes; a file that would not is not written."""

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from backlit.errors import ConfigError
from backlit.export import ExportError, export
from backlit.training.train import train
from tests.conftest import CallCommand, Compose
from tests.helpers.networks import SimpleNet, SimpleNN
from tests.helpers.runs import only_run, saved_metrics

Floats = NDArray[numpy.float64]
TINY = ["callbacks=none", "logger=csv", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
POINTS = ["experiment=points", *TINY, "data.passes_per_epoch=100", "data.test_size=100", "data.val_size=20"]
FILES = {"state_dict": "points.pth", "torch_export": "points.pt2", "onnx": "points.onnx"}


@pytest.fixture
def exported(composed: Compose) -> Callable[..., Path]:
    return lambda *overrides: export(composed(*overrides, config_name="export"))


def layers(run: Path, inputs: Floats, activation: Callable[[Floats], Any] = lambda x: numpy.maximum(x, 0)) -> Floats:
    """Return the logits ``(b, out_features)`` of the run's weights.pth, computed by numpy in float64."""
    weights = {name: w.double().numpy() for name, w in torch.load(run / "weights.pth", weights_only=True).items()}
    x = inputs.reshape(len(inputs), -1)
    last = len(weights) // 2
    for number in range(1, last + 1):
        x = x @ weights[f"fc{number}.weight"].T + weights[f"fc{number}.bias"]
        x = x if number == last else activation(x)
    return x


def outputs(file: Path, inputs: NDArray[Any]) -> NDArray[Any]:
    """Return the probabilities of an exported program, computed without backlit."""
    if file.suffix == ".pt2":
        result: NDArray[Any] = torch.export.load(file).module()(torch.from_numpy(inputs)).numpy()
        return result
    (result,) = onnxruntime.InferenceSession(file).run(["probabilities"], {"inputs": inputs})
    return result


def test_exported_weights_of_points_fit_the_reference_network(points_run: Path, exported: Callable[..., Path]) -> None:
    net = SimpleNet()
    net.load_state_dict(torch.load(exported("run=latest"), weights_only=True))
    x = numpy.random.RandomState([0, 2]).rand(10_000, 2) * 2 - 1  # the stream of the test points of seed 0
    right = (net(torch.FloatTensor(x)).detach().numpy()[:, 0] > 0.5) == (x.sum(1) > 0)
    assert right.mean() == pytest.approx(saved_metrics(points_run)["test/acc"])


@pytest.mark.slow
def test_exported_images_equal_a_computation_from_pixels(
    tiny_images: str, images_run: Path, exported: Callable[..., Path]
) -> None:
    run, metrics = images_run, saved_metrics(images_run)
    raw = Path(tiny_images, "FashionMNIST", "raw")
    images = numpy.frombuffer(raw.joinpath("t10k-images-idx3-ubyte").read_bytes()[16:], numpy.uint8)
    images = images.reshape(100, 1, 28, 28).copy()
    labels = numpy.arange(100) % 10

    net = SimpleNN()
    net.load_state_dict(torch.load(exported(f"run={run}"), weights_only=True))
    normalised = (images / 255 - 0.5) / 0.5
    logits = net(torch.tensor(normalised, dtype=torch.float32))
    assert nn.functional.cross_entropy(logits, torch.tensor(labels)).item() == pytest.approx(metrics["test/loss"])
    assert (logits.argmax(1).numpy() == labels).mean() == pytest.approx(metrics["test/acc"])

    powers = numpy.exp(layers(run, normalised))
    expected = powers / powers.sum(1, keepdims=True)
    for format in ("torch_export", "onnx"):
        file = exported(f"run={run}/checkpoints/best.ckpt", f"format={format}")
        for size in (1, 9, 100):
            got = outputs(file, images[:size])
            assert got.shape == (size, 10)
            assert got.dtype.name == "float32"
            assert numpy.abs(got - expected[:size]).max() < 1e-6
        # The file does not name the directory of backlit.
        assert str(Path(__file__).parents[1]).encode() not in file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "activation", "dtype"),
    [("32-true", "relu", "float32"), ("bf16-true", "relu", "float32"), ("64-true", "tanh", "float64")],
)
def test_exported_points_equal_a_computation_by_hand_in_any_precision(
    precision: str,
    activation: str,
    dtype: str,
    composed: Compose,
    exported: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(composed(*POINTS, f"trainer.precision={precision}", f"model.activation={activation}"))
    points = numpy.random.default_rng(1).uniform(-1, 1, (50, 2)).astype(dtype)
    relu_or_tanh = numpy.tanh if activation == "tanh" else lambda x: numpy.maximum(x, 0)
    expected = 1 / (1 + numpy.exp(-layers(only_run(), points.astype("float64"), relu_or_tanh)[:, 0]))
    for format in ("torch_export", "onnx"):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            file = exported("run=latest", f"format={format}")
        assert file == Path(FILES[format])
        for size in (1, 50):
            got = outputs(file, points[:size])
            assert got.shape == (size,)
            assert got.dtype.name == dtype
            assert numpy.abs(got - expected[:size]).max() < 1e-6
        (report,) = [record.getMessage() for record in caplog.records if record.name == "backlit.export"]
        assert f"takes     inputs (batch, 2), {dtype}, as the data set stores them" in report
        assert f"gives     probabilities (batch,), {dtype}, 0 to 1, of class 1" in report
        assert f"{FILES[format]}, {file.stat().st_size:,} bytes" in report
        exec(re.findall(r"load it +(.*)", report)[0], {})  # the line works as printed
        assert "[0." in capsys.readouterr().out


@pytest.mark.slow
def test_a_compiled_run_is_exported_without_compiling(points_run: Path, exported: Callable[..., Path]) -> None:
    config = points_run / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("compile: false", "compile: true"))
    torch._dynamo.utils.counters.clear()
    for format in ("torch_export", "onnx"):
        exported("run=latest", f"format={format}")
    assert torch._dynamo.utils.counters["frames"]["total"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("format", ["state_dict", "torch_export", "onnx"])
def test_a_file_that_computes_something_else_is_removed(
    format: str, points_run: Path, exported: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, save_program, save_onnx = torch.save, torch.export.save, torch.onnx.ONNXProgram.save

    def save_other_weights(weights: Any, file: Any) -> None:
        save({name: value + 1e-3 for name, value in weights.items()}, file)

    def save_other_program(program: Any, file: Any) -> None:
        for value in program.state_dict.values():
            value += 1e-3
        save_program(program, file)

    def save_other_onnx(program: Any, file: Any) -> None:
        for name, value in program.model.graph.initializers.items():
            if "fc2" in name:
                value.const_value = type(value.const_value)(value.const_value.raw + 1e-3, name=name)
        save_onnx(program, file)

    if format == "state_dict":  # torch.export also writes by torch.save
        monkeypatch.setattr(torch, "save", save_other_weights)
    monkeypatch.setattr(torch.export, "save", save_other_program)
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", save_other_onnx)
    with pytest.raises(ExportError, match=rf"{FILES[format]} was not written as {format}: .*differ"):
        exported("run=latest", f"format={format}")
    assert [path.name for path in Path().iterdir()] == ["outputs"]
    if format == "state_dict":  # the file that it would replace stays
        Path("points.pth").write_text("mine")
        with pytest.raises(ExportError):
            exported("run=latest", "output=points.pth")
        assert Path("points.pth").read_text() == "mine"
        assert sorted(path.name for path in Path().iterdir()) == ["outputs", "points.pth"]


def test_wrong_values_are_reported_in_one_line(
    points_run: Path, exported: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("points.pth").write_text("mine")
    Path("file").touch()
    Path("empty").mkdir()
    Path("empty.pth").mkdir()
    for overrides, message in (
        (["format=tflite"], "format must be one of state_dict, torch_export, onnx or null, got 'tflite'"),
        (["run=???"], "run must be a run directory, a file in its checkpoints/, or 'latest': run=latest"),
        (["run=empty"], "run must be a run directory, got empty, which has no .hydra/config.yaml"),
        (["run=empty", "format=onnx"], "run must be a run directory, got empty, which has no .hydra/config.yaml"),
        (["checkpoint=first"], "(best, last, previous), got first"),
        (["packages=mine"], "packages must be a list, got mine: packages=[mine]"),
        ([], "points.pth exists already; give output=... (output=points.pth replaces it)"),
        (["output=file/x.pth"], "output must be in a directory that can be written, got file/x.pth: Not a directory"),
        (["output=empty.pth"], "output must be a file, got empty.pth, which is a directory"),
        (["output=x.bin", "format=torch_export"], "output must end in .pt2 for format=torch_export, got x.bin"),
        (["output=x.pth", "format=onnx"], "must end in .onnx for format=onnx, got x.pth (format=state_dict)"),
        (["output=x.onnx", "format=state_dict"], "must end in .pth or .pt for format=state_dict, got x.onnx (format="),
        (["output=x"], "output must end in .pth or .pt (state_dict), .pt2 (torch_export), .onnx (onnx), got x"),
        (["output=new/x.txt"], "output must end in .pth or .pt (state_dict), .pt2 "),
    ):
        with pytest.raises(ConfigError) as caught:
            exported("run=latest", *overrides)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"^format=onnx needs pip install 'backlit\[onnx\]'$"):
        exported("run=latest", "format=onnx")
    assert Path("points.pth").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["empty", "empty.pth", "file", "outputs", "points.pth"]


@pytest.mark.slow
def test_the_name_gives_the_format_and_directories_are_made(
    points_run: Path, exported: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = numpy.zeros((3, 2), numpy.float32)
    assert set(torch.load(exported("run=latest", "output=new/a/x.pt"))) >= {"fc1.weight"}
    first, second = (outputs(exported("run=latest", f"output=new/b/x.{suffix}"), inputs) for suffix in ("onnx", "pt2"))
    assert numpy.allclose(first, second, atol=1e-6)
    monkeypatch.setattr(torch, "save", lambda *_: 1 / 0)
    with pytest.raises(ExportError):
        exported("run=latest", "output=new/c/d/x.pth")
    assert sorted(path.name for path in Path("new").iterdir()) == ["a", "b"]


def test_a_users_own_module_is_exported_as_weights_but_not_as_a_program(
    points_run: Path, exported: Callable[..., Path]
) -> None:
    run = points_run
    module = nn.Linear(2, 1)
    torch.save({"state_dict": {f"layer.{k}": v for k, v in module.state_dict().items()}}, run / "checkpoints/best.ckpt")
    config = run / ".hydra" / "config.yaml"
    # Its package is not installed: the weights need none of its code.
    text = re.sub(r"backlit\.models\.BinaryClassifier", "their_package.Theirs", config.read_text())
    config.write_text(text)
    read = torch.load(exported("run=latest"), weights_only=True)
    assert torch.equal(read["layer.weight"], module.weight)
    with pytest.raises(ConfigError, match=r"their_package\.Theirs.*packages=\[their_package\]"):
        exported("run=latest", "format=onnx")

    Path("their_package.py").write_text(
        "import lightning, torch\n\n\nclass Theirs(lightning.LightningModule):\n"
        "    def __init__(self, **_):\n        super().__init__()\n        self.layer = torch.nn.Linear(2, 1)\n"
    )
    sys.path.insert(0, str(Path.cwd()))
    try:
        with pytest.raises(ConfigError, match=r"^for format=onnx Theirs needs forward\(self"):
            exported("run=latest", "format=onnx", "packages=[their_package]")
    finally:
        sys.path.remove(str(Path.cwd()))
        sys.modules.pop("their_package", None)


@pytest.mark.slow
def test_the_command_prints_what_the_file_takes_and_gives(points_run: Path, call_command: CallCommand) -> None:
    done = call_command("backlit-export", "run=latest", "format=onnx")
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["file", "from", "takes", "gives", "checked", "load"]


@pytest.mark.slow
def test_a_failed_export_is_reported_in_one_line_and_leaves_no_file(
    composed: Compose, call_command: CallCommand
) -> None:
    # onnxruntime has no gelu in float64.
    train(composed(*POINTS, "trainer.precision=64-true", "model.activation=gelu"))
    failed = call_command("backlit-export", "run=latest", "format=onnx")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert re.fullmatch(r"error: points\.onnx was not written as onnx: .*NOT_IMPLEMENTED.*Erf.*\n", failed.stderr)
    assert [path.name for path in Path().iterdir()] == ["outputs"]
