"""TensorBoard's event file, with the session that its HParams tab lists."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.utils.tensorboard.summary import hparams

from backlit.arguments import Count, Text, check_arguments
from backlit.text import flatten

# The session's start and end are files of their own, which a run that is resumed replaces: TensorBoard believes the
# first that it reads.
_START, _END = ".start", ".end"


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Lightning's, with one event file for the whole run and no ``hparams.yaml`` beside it.

    Args:
        save_dir: The run directory; the events go to its ``tensorboard/``.
        purge_step: The optimizer step from which on TensorBoard forgets the events of an earlier attempt.
    """

    def __init__(self, save_dir: Text | Path, purge_step: Count | None = None) -> None:
        check_arguments(TensorBoardLogger.__init__, locals())
        more: dict[str, Any] = {} if purge_step is None else {"purge_step": purge_step}
        super().__init__(save_dir, name="", version="tensorboard", default_hp_metric=False, flush_secs=5, **more)

    @rank_zero_only
    def save(self) -> None:
        """Do nothing: Lightning calls this at every record, and the writer flushes every five seconds."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is buffered; closing here, after training, would open a second file for testing."""
        self.experiment.flush()

    @rank_zero_only
    def begin_session(self, hyperparameters: Mapping[str, Any]) -> None:
        """Record for HParams what the run is trained with.

        There is no list of columns: TensorBoard then shows all hyperparameters and metrics that any of its runs has,
        whereas it takes such a list from one run for all.

        Args:
            hyperparameters: Names to values; nested ones get names like ``optimizer/lr``.
        """
        for suffix in (_START, _END):
            for path in Path(self.log_dir).glob(f"*{suffix}"):
                path.unlink()  # of the previous attempt
        # TensorBoard lists numbers and texts.
        flat = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in flatten(hyperparameters, "/").items()
        }
        _, session_start, _ = hparams(flat, {})  # type: ignore[no-untyped-call]
        _write_summary(Path(self.log_dir), session_start, _START)

    @rank_zero_only
    def end_session(self, status: str) -> None:
        """End the event file, and record for HParams how the run ended: completed, failed or interrupted."""
        self.experiment.close()
        write_session_end(Path(self.log_dir), status)


def write_session_end(directory: Path, status: str) -> None:
    """Record for TensorBoard's HParams, in a file of its own, how the run that logged to `directory` ended."""
    code = api_pb2.Status.STATUS_SUCCESS if status == "completed" else api_pb2.Status.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=code, end_time_secs=time.time())
    described = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    value = summary_pb2.Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=described)
    _write_summary(directory, summary_pb2.Summary(value=[value]), _END)


def _write_summary(directory: Path, summary: Any, suffix: str) -> None:
    """Write an event file of one summary."""
    writer = EventFileWriter(str(directory), filename_suffix=suffix)
    writer.add_event(event_pb2.Event(wall_time=time.time(), summary=summary))
    writer.close()
