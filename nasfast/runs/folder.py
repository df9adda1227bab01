"""The run folder of a search: config, metrics, checkpoints, and the rules for writing them.

Every file is written to a temporary name beside its target, synced, and renamed, so that a crash or a full disk leaves
the previous version in place. The metrics log is append-only; a checkpoint remembers how long the log was, and resuming
cuts the log back to that length. Reading a run never executes code: JSON, or ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from nasfast.errors import RunError
from nasfast.runs.checkpoint import FORMAT
from nasfast.runs.events import EventFile
from nasfast.runs.metrics import MetricsLog
from nasfast.utils.files import atomic_write, write_error
from nasfast.utils.sealed import read_sealed, sealed
from nasfast.utils.texts import read_json
from nasfast.utils.version import nasfast_version


class RunFolder:
    """Paths of one run and the files every part of nasfast shares. Make with :meth:`create`, reopen with :meth:`open`.

    Files: ``config.json``, ``metrics.jsonl``, ``checkpoint.pt``, ``genotype.json`` or ``architectures.json``,
    ``trials.sqlite`` of a search on workers, ``optuna.journal`` of one by Optuna's samplers and pruners,
    ``report.html``, ``tensorboard/``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metrics = MetricsLog(self.path / "metrics.jsonl")
        self._lock: IO[bytes] | None = None
        self._writers: dict[str, EventFile] = {}

    config_path = property(lambda self: self.path / "config.json")
    data_path = property(lambda self: self.path / "data.json")
    checkpoint_path = property(lambda self: self.path / "checkpoint.pt")
    genotype_path = property(lambda self: self.path / "genotype.json")
    architectures_path = property(lambda self: self.path / "architectures.json")
    trials_path = property(lambda self: self.path / "trials.sqlite")
    candidates_path = property(lambda self: self.path / "candidates")
    study_path = property(lambda self: self.path / "optuna.journal")
    report_path = property(lambda self: self.path / "report.html")

    @classmethod
    def check_free(cls, path: str | os.PathLike[str]) -> None:
        """Raise RunError where something is in the place of a new run already (an empty folder is fine)."""
        target = Path(path)
        if target.is_dir() and not any(target.iterdir()):
            return
        if target.exists():
            hint = f"continue it with --resume {target}, or " if (target / "config.json").is_file() else ""
            raise RunError(f"run folder {target} exists already; {hint}choose another --out")

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: dict[str, Any]) -> RunFolder:
        """Make a new run folder with its config.json and take its lock.

        Raises:
            RunError: The folder exists and is not empty, or cannot be written. A folder made here is removed again.
        """
        cls.check_free(path)
        run = cls(path)
        existed = run.path.exists()
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(run.path, error) from error
        try:
            run.write_config(config)
        except RunError:
            if not existed:
                run.path.rmdir()
            raise
        run.lock()
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str], lock: bool = True) -> RunFolder:
        """Open an existing run; with ``lock``, as its only writer.

        Raises:
            RunError: No run is there, another process writes to it, or with ``lock``, its log is damaged.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise RunError(f"no run folder at {run.path}")
        if not run.config_path.is_file():
            raise RunError(f"{run.path} is no run folder: it has no config.json")
        if lock:
            run.lock()
            for leftover in run.path.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            try:
                run.metrics.check()
            except RunError:
                run.close()
                raise
        return run

    def lock(self) -> None:
        """Become the only writer until :meth:`close` or the end of the process, however it ends."""
        try:
            handle = open(self.path / ".lock", "ab")  # noqa: SIM115 - held for the life of the run
        except OSError as error:
            raise write_error(self.path / ".lock", error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise RunError(f"run folder {self.path} is in use by another process") from error
        self._lock = handle

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json anew, with the versions of this nasfast."""
        content = {"format": FORMAT, "nasfast": nasfast_version()}
        content |= {name: value for name, value in config.items() if name not in content}
        atomic_write(self.config_path, json.dumps(sealed(content), indent=2) + "\n")

    def read_config(self) -> dict[str, Any]:
        """The content of config.json.

        Raises:
            RunError: It is not JSON, of another format version, or its checksum does not fit.
        """
        config = read_json(self.config_path, "the settings of a run", RunError)
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            found = config if isinstance(config, dict) else {}
            raise RunError(
                f"{self.config_path} has format {found.get('format')} (nasfast {found.get('nasfast')}); "
                f"this nasfast {nasfast_version()} reads format {FORMAT}"
            )
        return read_sealed(self.config_path, "the settings of a run", RunError)

    def log_scalars(self, step: int, scalars: dict[str, float | None], group: str = "") -> None:
        """Write numbers to TensorBoard (where it is installed), without those that are None or not finite.

        Steps of one ``group`` count on their own: what starts again at 0 needs a group of its own.
        """
        self.log_steps({step: scalars}, group)

    def log_steps(self, steps: Mapping[int, Mapping[str, float | None]], group: str = "") -> None:
        """The same of several steps, in their order."""
        if not steps:
            return
        writer = self._tensorboard(next(iter(steps)), group)
        if writer is None:
            return
        try:
            for step, scalars in steps.items():
                for name, value in scalars.items():
                    if value is not None and math.isfinite(value):
                        writer.add(name, value, step)
            writer.flush()
        except OSError as error:
            raise write_error(self.path / "tensorboard", error) from error

    def _tensorboard(self, first_step: int, group: str) -> EventFile | None:
        if group not in self._writers:
            try:
                self._writers[group] = EventFile(self.path / "tensorboard" / group, first_step)
            except ImportError:
                return None
            except OSError as error:
                raise write_error(self.path / "tensorboard", error) from error
        return self._writers[group]

    def close(self) -> None:
        """Close the TensorBoard writer and give the lock back."""
        for writer in self._writers.values():
            with contextlib.suppress(OSError):  # of numbers that could not be written, which was said
                writer.close()
        self._writers.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def search_path(run: RunFolder) -> Path:
    """The checkpoint of the search that follows; there is one when the training is over."""
    return run.path / "search.pt"
