"""Against a real Slurm of one node on this machine: Debian's slurmctld, slurmd, slurm-client and munge, as root."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
QUICK = ["experiment=points", "data.passes_per_epoch=10", "trainer.max_epochs=1"]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "srun", "munged"))),
        reason="needs Slurm, munge and root",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("slurm")
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(str(free.getsockname()[1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(directory / "slurm.conf"))
        script = Path(__file__).parent / "start_slurm.sh"
        subprocess.run(["sh", str(script), str(directory), *ports], check=True)
        try:
            deadline = time.monotonic() + 30
            while "idle" not in subprocess.run(["sinfo"], capture_output=True, text=True, check=False).stdout:
                assert time.monotonic() < deadline, [log.read_text() for log in directory.glob("*.log")]
                time.sleep(0.2)
            yield
        finally:
            for name in ("slurmd", "slurmctld", "munged"):
                os.kill(int((directory / f"{name}.pid").read_text()), signal.SIGTERM)


def test_srun_starts_the_processes_of_one_run(tmp_path: Path) -> None:
    command = ["srun", "--nodes", "1", "--ntasks-per-node", "2", str(BIN / "backlit-train"), *QUICK, "trainer=ddp_cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("completed in") == 1
    (path,) = tmp_path.glob("outputs/points/runs/*/run.json")
    record = json.loads(path.read_text())
    assert (record["status"], record["world_size"]) == ("completed", 2)
    assert sorted(log.name for log in path.parent.glob("*.log")) == ["train.log", "train_ddp_process_1.log"]


def test_a_sweep_is_slurm_jobs(tmp_path: Path) -> None:
    command = [str(BIN / "backlit-train"), "-m", *QUICK, "optimizer.lr=0.1,0.3", "hydra/launcher=slurm"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/points/sweeps/*/*/run.json")]
    assert [record["status"] for record in records] == ["completed"] * 2
    assert "the best  backlit-evaluate run=outputs/points/sweeps/" in done.stdout
