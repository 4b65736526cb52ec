"""Where numbers go: the metrics file that every run writes, and TensorBoard."""

import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.logger import _flatten_dict, _sanitize_params
from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.utils.tensorboard.summary import hparams

from backlit.run import read_rows, whole_file

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsCSV(loggers.Logger):
    """``metrics.csv``: one row a record, columns ``step`` (optimizer steps taken), ``epoch`` and one a metric.

    A row is added in one write; the file is written anew, whole, when a metric appears for the first time and
    the header grows. Lightning's CSVLogger is not used since it deletes what an earlier part of a run wrote.

    Args:
        path: The file; it appears with the first record.
        steps_done: Steps that the run has taken before: their records are kept, what the file has beyond them goes.
    """

    def __init__(self, path: Path, steps_done: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.rows_before = [] if steps_done is None else [r for r in read_rows(path) if r["step"] <= steps_done]
        self.rows: list[dict[str, Any]] = list(self.rows_before)
        self._columns = list(dict.fromkeys(["step", "epoch", *(name for row in self.rows for name in row)]))
        self._is_whole = False

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """Return nothing: a run has one such file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing: ``.hydra/config.yaml`` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row and write it."""
        row = {"step": step} | metrics
        self.rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new or not self._is_whole:
            self._columns += new
            self._is_whole = True
            with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self.rows)
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Lightning's, with one event file for the whole run and no ``hparams.yaml`` beside it.

    Args:
        save_dir: The run directory; the events go to its ``tensorboard/``.
    """

    steps_done: int | None = None  # by the run before it was resumed; TensorBoard forgets what came after them

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="tensorboard", default_hp_metric=False, flush_secs=5)

    @property
    def experiment(self) -> "SummaryWriter":
        """Return the writer; the first time it is asked for, it is made."""
        if self._experiment is None and self.steps_done is not None:
            self._kwargs["purge_step"] = self.steps_done + 1
        writer: SummaryWriter = super().experiment
        return writer

    @rank_zero_only
    def save(self) -> None:
        """Wait for nothing: Lightning calls this at every record, and the writer flushes every five seconds."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is buffered; closing here, after training, would open a second file for testing."""
        if self._experiment is not None:
            self._experiment.flush()

    @rank_zero_only
    def begin_session(self, hyperparameters: dict[str, Any]) -> None:
        """Tell HParams what the run is trained with.

        Without a list of columns: TensorBoard then shows all hyperparameters and metrics that any of its runs has,
        whereas it takes such a list from one run for all.
        """
        for path in Path(self.log_dir).glob(f"*{_END}"):
            path.unlink()  # of the attempt before; TensorBoard would believe the first one
        flat = _sanitize_params(_flatten_dict(hyperparameters))
        _, session_start, _ = hparams(flat, {})  # type: ignore[no-untyped-call]
        self.experiment._get_file_writer().add_summary(session_start)  # type: ignore[no-untyped-call]

    @rank_zero_only
    def end_session(self, status: str) -> None:
        """End the event file, and tell HParams how the run ended: completed, failed or interrupted."""
        if self._experiment is not None:
            self._experiment.close()
        write_session_end(Path(self.log_dir), status)


_END = ".end"


def write_session_end(directory: Path, status: str) -> None:
    """Tell TensorBoard's HParams, in an event file of its own, how the run that logged to `directory` ended.

    A file of its own can be taken away when the run is resumed.
    """
    code = api_pb2.Status.STATUS_SUCCESS if status == "completed" else api_pb2.Status.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=code, end_time_secs=time.time())
    described = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    value = summary_pb2.Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=described)
    writer = EventFileWriter(str(directory), filename_suffix=_END)
    writer.add_event(event_pb2.Event(wall_time=time.time(), summary=summary_pb2.Summary(value=[value])))
    writer.close()
