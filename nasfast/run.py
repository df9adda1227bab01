"""The run folder of a search: config, metrics, checkpoints, and the rules for writing them.

Every file is written to a temporary name beside its target, synced, and renamed, so that a crash or a full disk leaves
the previous version in place. The metrics log is append-only; a checkpoint remembers how long the log was, and resuming
cuts the log back to that length. Reading a run never executes code: JSON, or ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any, BinaryIO

import torch

from nasfast.errors import RunError

FORMAT = 1
"""Version of the layout of config.json and of checkpoints. A file of another version is refused, by name."""


class CheckpointError(RunError, ValueError):
    """A checkpoint is missing, damaged, of another version, or holds more than plain tensors and containers."""


def nasfast_version() -> str:
    """Version of the running nasfast."""
    try:
        return metadata.version("nasfast")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def _write_error(path: Path, error: OSError) -> RunError:
    return RunError(f"cannot write {path}: {error.strerror or error}")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: str | os.PathLike[str], content: bytes | str | Callable[[BinaryIO], None]) -> None:
    """Write a whole file, or leave whatever was there before.

    Args:
        path: Target file; its folder must exist.
        content: The bytes, a text (written as UTF-8), or a function that writes to the open binary file it is given.

    Raises:
        RunError: The file could not be written (full disk, no permission ...). The temporary file is gone, the old file
            is as it was.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _write_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity; both become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


class MetricsLog:
    """Append-only JSON lines. Rows are on disk when ``append`` returns, or they are not in the file at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def position(self) -> int:
        """Length of the log in bytes: what a checkpoint stores to be able to cut later rows off."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, *rows: dict[str, Any]) -> None:
        """Add rows, all or none. Floats that are not finite become null.

        Raises:
            RunError: They could not be written; the log is as it was.
        """
        line = "".join(json.dumps(_finite(row)) + "\n" for row in rows).encode()
        start = self.position
        try:
            with open(self.path, "ab", buffering=0) as file:
                try:
                    written = 0
                    while written < len(line):
                        written += file.write(line[written:])
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(start)
                    raise
        except OSError as error:
            raise _write_error(self.path, error) from error

    def truncate(self, position: int) -> None:
        """Cut the log back to ``position`` bytes, a value that :attr:`position` had earlier."""
        if position > self.position:
            raise CheckpointError(
                f"{self.path} has {self.position} bytes, shorter than its checkpoint says ({position})"
            )
        if self.path.exists():
            with open(self.path, "r+b") as file:
                file.truncate(position)
                os.fsync(file.fileno())

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in order. A last line without its end (a write that was cut) is left out."""
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)


def save_checkpoint(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Save plain tensors and containers, with the format version, the nasfast version and ``kind`` (what it is for)."""
    # Serialised in memory first: torch's zip writer turns an OSError of its file into an anonymous RuntimeError.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "nasfast": nasfast_version(), "kind": kind, **content}, buffer)
    atomic_write(path, lambda file: _write_all(file, buffer))


def _write_all(file: IO[bytes], buffer: io.BytesIO) -> None:
    file.write(buffer.getbuffer())


def _holds_pickled_code(path: Path, reason: str) -> bool:
    """Whether a file that would not load names Python objects. Reads the pickle's opcodes; never runs them."""
    if zipfile.is_zipfile(path):
        return "global" in reason.lower()
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            return False
        file.seek(0)
        try:
            while file.peek(1):  # torch's old format is several pickles, one after the other
                if any(op.name in ("GLOBAL", "STACK_GLOBAL", "INST") for op, _, _ in pickletools.genops(file)):
                    return True
        except Exception:  # pickletools raises many types on bytes that are no pickle
            return False
    return False


def load_checkpoint(path: Path, kind: str) -> dict[str, Any]:
    """Load what :func:`save_checkpoint` wrote, tensors on the CPU.

    Raises:
        CheckpointError: Missing, truncated, of another format version or kind, or holding pickled Python objects.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols: one error says it all
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if _holds_pickled_code(path, str(error)):
            raise CheckpointError(
                f"{path} holds pickled Python code, which nasfast never loads; expected plain tensors and containers"
            ) from error
        raise CheckpointError(f"{path} is truncated or damaged: it cannot be read as a checkpoint") from error
    if not isinstance(content, dict) or "format" not in content or "kind" not in content:
        raise CheckpointError(f"{path} is no nasfast checkpoint: it has no format version")
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {content['format']} (nasfast {content.get('nasfast')}); "
            f"this nasfast {nasfast_version()} reads format {FORMAT}"
        )
    if content["kind"] != kind:
        raise CheckpointError(f"{path} is a checkpoint of kind {content['kind']!r}, expected {kind!r}")
    return content


class RunFolder:
    """Paths of one run and the files every part of nasfast shares. Make with :meth:`create`, reopen with :meth:`open`.

    Files: ``config.json``, ``metrics.jsonl``, ``checkpoint.pt``, ``genotype.json`` or ``architectures.json``,
    ``trials.sqlite`` of a search on workers, ``optuna.sqlite3`` of one by Optuna's samplers and pruners,
    ``report.html``, ``tensorboard/``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metrics = MetricsLog(self.path / "metrics.jsonl")
        self._lock: IO[bytes] | None = None
        self._writers: dict[str, Any] = {}

    config_path = property(lambda self: self.path / "config.json")
    checkpoint_path = property(lambda self: self.path / "checkpoint.pt")
    genotype_path = property(lambda self: self.path / "genotype.json")
    architectures_path = property(lambda self: self.path / "architectures.json")
    trials_path = property(lambda self: self.path / "trials.sqlite")
    candidates_path = property(lambda self: self.path / "candidates")
    study_path = property(lambda self: self.path / "optuna.sqlite3")
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
            raise _write_error(run.path, error) from error
        try:
            content = {"format": FORMAT, "nasfast": nasfast_version(), **config}
            atomic_write(run.config_path, json.dumps(content, indent=2) + "\n")
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
            RunError: No run is there, or another process writes to it.
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
        return run

    def lock(self) -> None:
        """Become the only writer until :meth:`close` or the end of the process, however it ends."""
        try:
            handle = open(self.path / ".lock", "ab")  # noqa: SIM115 - held for the life of the run
        except OSError as error:
            raise _write_error(self.path / ".lock", error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise RunError(f"run folder {self.path} is in use by another process") from error
        self._lock = handle

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json anew, with the versions of this nasfast."""
        content = {**config, "format": FORMAT, "nasfast": nasfast_version()}
        atomic_write(self.config_path, json.dumps(content, indent=2) + "\n")

    def read_config(self) -> dict[str, Any]:
        """The content of config.json.

        Raises:
            RunError: It is not JSON, or of another format version.
        """
        try:
            config = json.loads(self.config_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {self.config_path}: {error}") from error
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            found = config.get("format") if isinstance(config, dict) else None
            raise RunError(f"{self.config_path} has format {found}; nasfast {nasfast_version()} reads format {FORMAT}")
        return config

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
                        writer.add_scalar(name, value, step)
            writer.flush()
        except OSError as error:
            raise _write_error(self.path / "tensorboard", error) from error

    def _tensorboard(self, first_step: int, group: str) -> Any:
        if group not in self._writers:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return None
            try:
                # Events from a run that was cut off after this step are dropped by TensorBoard.
                self._writers[group] = SummaryWriter(str(self.path / "tensorboard" / group), purge_step=first_step)
            except OSError as error:
                raise _write_error(self.path / "tensorboard", error) from error
        return self._writers[group]

    def close(self) -> None:
        """Close the TensorBoard writer and give the lock back."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
