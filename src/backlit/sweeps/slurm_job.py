"""What a Slurm job runs: the command of a sweep's job, which goes back into the queue when its time limit comes.

``python -m backlit.sweeps.slurm_job DIRECTORY COMMAND...``. Slurm sends SIGUSR1 to this process alone, `LEAD_S` before
the limit (``sbatch --signal``); the run gets SIGTERM then, saves its state in DIRECTORY, and this process has the job
queued again, unless nothing was saved: that would never end. SIGTERM, from ``scancel`` or ``scontrol requeue``, is sent
by Slurm to all processes of a job; this one waits for the run to end.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

# Time for a run to save its state before the limit; Slurm may send the signal a minute earlier.
LEAD_S = 60


def main() -> None:
    """Run the command that follows in ``sys.argv``; exit with its code."""
    is_out_of_time = False
    run: subprocess.Popen[bytes] | None = None

    def end_run(number: int, frame: FrameType | None) -> None:
        nonlocal is_out_of_time
        is_out_of_time = True
        if run is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGTERM)

    signal.signal(signal.SIGUSR1, end_run)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    checkpoint = Path(sys.argv[1], "checkpoints", "last.ckpt")
    saved_before = _time_of(checkpoint)
    run = subprocess.Popen(sys.argv[2:], start_new_session=True)
    if is_out_of_time:  # before there was a run
        end_run(signal.SIGUSR1, None)
    code = run.wait()
    if is_out_of_time and code in (128 + signal.SIGTERM, -signal.SIGTERM):
        if _time_of(checkpoint) == saved_before:
            print("error: the run has saved nothing until its time limit; a longer one: hydra.launcher.time=...")
        else:
            print("the time limit is near: this job goes back into the queue", flush=True)
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
    sys.exit(code if code >= 0 else 128 - code)


def _time_of(file: Path) -> int | None:
    """Return when a file was written, in nanoseconds; None if there is none."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    main()
