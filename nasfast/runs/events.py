"""Numbers for TensorBoard, written by the thread that has them: an error of the disk is raised where it happens."""

from __future__ import annotations

import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any

_count = itertools.count()


class EventFile:
    """A file of events in a folder, which is made.

    Args:
        first_step: Events from a run that was cut off after this step are dropped by TensorBoard.

    Raises:
        ImportError: TensorBoard is not installed.
        OSError: The file cannot be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._make = Event
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_count)}"
        self._file = open(folder / name, "wb")  # noqa: SIM115 - held until close
        self._records = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")
        self._add(step=first_step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def _add(self, **content: Any) -> None:
        self._records.write(self._make(wall_time=time.time(), **content).SerializeToString())

    def add(self, name: str, value: float, step: int) -> None:
        """A number; it is in the file after :meth:`flush`."""
        from torch.utils.tensorboard.summary import scalar

        self._add(step=step, summary=scalar(name, value))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
