"""What a search may cost in all: trials, time, or the hours of processors."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from time import monotonic

from nasfast.errors import ConfigError
from nasfast.utils.clock import clock

_UNITS = {
    86400.0: ("d", "day", "days"),
    3600.0: ("h", "hr", "hrs", "hour", "hours"),
    60.0: ("m", "min", "mins", "minute", "minutes"),
    1.0: ("s", "sec", "secs", "second", "seconds"),
}
_SECONDS = {name: seconds for seconds, names in _UNITS.items() for name in names}
_NAMES = {"trials": ("trials", "trial"), "cpu_hours": ("cpu-hours", "cpu-hour"), "gpu_hours": ("gpu-hours", "gpu-hour")}
_LIMITS = {name: limit for limit, names in _NAMES.items() for name in names}
_AMOUNT = r"(\d+(?:\.\d+)?)\s*((?:cpu|gpu)[- ]hours?|[a-z]+)"
_LARGEST = 1e15  # trials, hours or seconds; of these 30 million years
_EXAMPLES = "'30m', '1h 30m', '2 hours', '200 trials', '10 gpu-hours', or several with commas between"


@dataclass(frozen=True)
class Budget:
    """Limits, all of which a search keeps; None: no such limit.

    Attributes:
        trials: Evaluations, those that fail among them.
        seconds: Of the clock, over all sessions of a run.
        cpu_hours: Hours of trials times the CPU threads that each has.
        gpu_hours: Hours of trials times the GPUs, or the share of one, that each has.
    """

    trials: int | None = None
    seconds: float | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read the text form, such as ``1h 30m``, ``10 gpu-hours`` or ``2h, 500 trials``; "": no limits.

        Raises:
            ConfigError: It is none.
        """
        found = cls()
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, value = cls._read(part, text)
            if getattr(found, name) is not None:
                raise ConfigError(f"--budget has two limits of one kind: {text!r}")
            found = replace(found, **{name: value})  # type: ignore[arg-type]
        return found

    @staticmethod
    def _read(part: str, text: str) -> tuple[str, float]:
        amounts = _amounts(part.lower())
        units = [unit for _, unit in amounts]
        name = "seconds" if units and all(unit in _SECONDS for unit in units) else _LIMITS.get(" ".join(units))
        scales = [_SECONDS.get(unit, 1.0) for unit in units]
        falls = all(one > other for one, other in itertools.pairwise(scales))  # 1h 30m, not 30m 1h
        number = sum(amount * scale for (amount, _), scale in zip(amounts, scales, strict=True))
        if name is None or not falls or not 0 < number < _LARGEST or (name == "trials" and number != int(number)):
            raise ConfigError(f"--budget must be like {_EXAMPLES}, got {text!r}")
        return name, int(number) if name == "trials" else number

    @property
    def timed(self) -> bool:
        """Whether there is a limit that a clock decides."""
        return any(limit is not None for limit in (self.seconds, self.cpu_hours, self.gpu_hours))

    def is_spent(self, spent: Spent) -> bool:
        """Whether a limit is reached."""
        return self.share(spent) >= 1

    def share(self, spent: Spent) -> float:
        """The largest share that is spent of any limit; 0 without limits."""
        pairs = [(getattr(spent, f.name), getattr(self, f.name)) for f in fields(self)]
        return max((used / limit for used, limit in pairs if limit is not None), default=0.0)

    def text(self, spent: Spent) -> str:
        """What is spent of each limit, such as ``1:02 of 30:00, 12 of 200 trials``."""
        parts = []
        if self.seconds is not None:
            parts.append(f"{clock(spent.seconds)} of {clock(self.seconds)}")
        if self.trials is not None:
            parts.append(f"{spent.trials} of {self.trials} trials")
        for name in ("cpu_hours", "gpu_hours"):
            limit = getattr(self, name)
            if limit is not None:
                parts.append(f"{getattr(spent, name):.2f} of {limit:g} {name.replace('_', '-')}")
        return ", ".join(parts)


def _amounts(text: str) -> list[tuple[float, str]]:
    """Numbers and the units behind them; none where anything else stands there."""
    if not re.fullmatch(rf"(?:{_AMOUNT}\s*)+", text):
        return []
    return [(float(number), unit.replace(" ", "-")) for number, unit in re.findall(_AMOUNT, text)]


@dataclass(frozen=True)
class Spent:
    """What a search has cost; see :class:`Budget`."""

    trials: int = 0
    seconds: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0


def check_budget(text: str, device: str) -> Budget:
    """Read a budget that is to be spent on a device.

    Raises:
        ConfigError: It is none, or the device cannot spend it.
    """
    budget = Budget.parse(text)
    if budget.gpu_hours is not None and not device.startswith("cuda"):
        raise ConfigError(f"--budget {text!r} counts hours of a GPU; it needs --device cuda, got {device}")
    return budget


class Meter:
    """Counts what a search costs.

    Args:
        threads, gpus: Of each trial.
        before: What earlier sessions of the run have cost.
        worker_seconds: What trials have taken in this session; None: they run one after the other, all the time.
    """

    def __init__(
        self,
        threads: int,
        gpus: float = 0.0,
        before: Spent | None = None,
        worker_seconds: Callable[[], float] | None = None,
    ) -> None:
        self._threads, self._gpus, self.before = threads, gpus, before or Spent()
        self._start, self._worker_seconds = monotonic(), worker_seconds

    def spent(self, trials: int) -> Spent:
        """All that is spent until now, ``trials`` of them in the whole run."""
        seconds = monotonic() - self._start
        hours = (seconds if self._worker_seconds is None else self._worker_seconds()) / 3600
        return Spent(
            trials,
            self.before.seconds + seconds,
            self.before.cpu_hours + hours * self._threads,
            self.before.gpu_hours + hours * self._gpus,
        )
