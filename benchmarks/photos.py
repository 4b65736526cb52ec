"""How well `backlit-predict` reads photos of digits, by kind of photo: the whole image, and the digit that is found.

    backlit-train experiment=mnist_mlp
    python benchmarks/photos.py outputs/mnist_mlp/runs/... photos [--n 300] [--kinds small lined]

The photos are rendered (photo_scenes.py) into the folder `photos`, unless they are there. ``frame=none`` scales the
whole photo to 28×28; ``frame=auto`` finds the digit. An accuracy of 0.9 over 300 photos has a standard error of 0.017.
"""

import argparse
import contextlib
import io
import json
from pathlib import Path
from typing import Any, Literal

from torchvision.datasets import MNIST

from backlit import load_run
from backlit.data.input_files import find_files
from backlit.data.readers import Reader
from backlit.inference.predictor import Predictor
from backlit.models import Classifier
from photo_scenes import SCENES, render


def classes_of(run: Any, files: list[str], frame: Literal["auto", "none"]) -> dict[str, str]:
    """Return the class of each file in which a digit is found."""
    assert isinstance(run.model, Classifier)
    reader = Reader(run.datamodule.input_shape, 100, frame=frame)
    with io.StringIO() as output, contextlib.redirect_stderr(io.StringIO()):
        Predictor(run.model, run.datamodule, 100).predict_files(reader, files, output, "jsonl")
        rows = map(json.loads, output.getvalue().splitlines())
        return {row["source"]: row["class"] for row in rows}


def main() -> None:
    """Print a line per kind: its accuracy with each framing, and in how many photos no digit was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run of experiment=mnist_mlp")
    parser.add_argument("folder", type=Path, help="for the photos")
    parser.add_argument("--n", type=int, default=300, help="photos of each kind")
    parser.add_argument("--kinds", nargs="+", default=["28×28", "280×280", *SCENES])
    options = parser.parse_args()
    run = load_run(options.run)
    run.datamodule.prepare_data()
    test = MNIST(str(run.datamodule.data_dir), train=False)
    for kind in options.kinds:
        labels_file = options.folder / f"{kind}.json"
        if not labels_file.exists():
            labels_file.write_text(json.dumps(render(kind, options.n, options.folder / kind, test)))
        labels = json.loads(labels_file.read_text())
        files = find_files([str(options.folder / kind)])
        columns = []
        for frame in ("none", "auto"):
            found = classes_of(run, files, frame)
            right = sum(found.get(file) == str(label) for file, label in zip(files, labels, strict=True))
            columns.append(f"frame={frame} {right / len(files):.3f}")
        print(f"{kind:12} n {len(files)}  {'  '.join(columns)}  no digit {len(files) - len(found)}", flush=True)


if __name__ == "__main__":
    main()
