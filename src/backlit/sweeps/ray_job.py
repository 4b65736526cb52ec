"""What an actor of Ray runs: the command of a job, in a session of its own that ends when the actor is gone.

``python -m backlit.sweeps.ray_job ACTOR COMMAND...``: ACTOR is the actor's process id. Signals go to the whole session;
this process waits for the command.
"""

import signal
import subprocess
import sys

from backlit.sweeps.fork import end_session, when_parent_ends


def main() -> None:
    """Run the command; exit with its code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)  # SIG_IGN would be inherited
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # Ray blocks Ctrl-C in what it starts
    when_parent_ends(int(sys.argv[1]), end_session)
    code = subprocess.Popen(sys.argv[2:]).wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
