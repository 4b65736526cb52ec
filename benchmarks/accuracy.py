"""Whether backlit learns MNIST as well as the reference program: test accuracy over several seeds, all 60,000 images.

    python benchmarks/accuracy.py [--seeds 5]

One seed spreads by 0.3 percentage points, so the means of 5 seeds differ by 0.2 by chance; 30 seeds resolve 0.1.
Both compute with one thread: rounding, and with it the accuracy of a seed, depends on the number of threads, so another
number of cores would measure something else.

The reference program runs as written, after ``torch.manual_seed(seed)``; its network is then tested on MNIST's 10,000
test images, normalised as in the program.
"""

import argparse
import contextlib
import io
import math
import os
import statistics
import tempfile
from pathlib import Path

import torch
import torchvision
from hydra import compose, initialize_config_dir

from backlit.config.conf import CONFIG_DIR
from backlit.training.train import train

REFERENCE = Path(__file__).resolve().parent / "reference" / "mnist.py"


def of_backlit(seed: int) -> float:
    """Return the test accuracy of ``experiment=mnist_mlp data.val_size=0``."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose(
            "train", ["experiment=mnist_mlp", "data.val_size=0", f"seed={seed}", "callbacks=none", "logger=csv"]
        )
    return train(cfg)["test/acc"]


def of_reference(seed: int) -> float:
    """Return the test accuracy of the reference program's network."""
    torch.manual_seed(seed)
    namespace: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(REFERENCE.read_text(), namespace)
    model = namespace["model"]
    assert isinstance(model, torch.nn.Module)
    test = torchvision.datasets.MNIST("data", train=False)
    with torch.no_grad():
        predicted = model((test.data.float() / 255 - 0.5) / 0.5).argmax(1)
    return float((predicted == test.targets).float().mean())


def main() -> None:
    """Train with every seed and print mean, standard deviation and each value."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        accuracies = {
            "backlit": [of_backlit(seed) for seed in seeds],
            "reference": [of_reference(seed) for seed in seeds],
        }
        os.chdir("/")
    for name, values in accuracies.items():
        single = ", ".join(f"{value:.4f}" for value in values)
        print(
            f"{name:9}  {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}  (n = {len(values)}: {single})"
        )
    difference = 100 * (statistics.mean(accuracies["backlit"]) - statistics.mean(accuracies["reference"]))
    error = 100 * math.sqrt(sum(statistics.variance(values) / len(values) for values in accuracies.values()))
    print(f"difference {difference:+.2f} percentage points, standard error {error:.2f} (to reach: within ±0.30)")


if __name__ == "__main__":
    main()
