"""What the settings of every search have in common whose architectures can be evaluated on workers."""

from __future__ import annotations

from dataclasses import dataclass

from nasfast.config.base import option
from nasfast.config.space import SpaceOptions
from nasfast.errors import ConfigError

WORKERS = ("workers", "address", "worker_gpus", "trial_timeout")
"""The options by name."""


@dataclass(frozen=True)
class WorkerOptions(SpaceOptions, panel="Trials on workers"):
    """How many workers, and where they are."""

    workers: str = option(
        "",
        "Evaluate in so many processes at the same time; ray, or ray:8: on a Ray cluster, by as many as fit, or "
        "by 8. Default: in this process, one after the other.",
    )
    address: str = option("", "Of the Ray cluster, like auto or HOST:6379. Default: this machine.")
    worker_gpus: float = option(0.0, "GPUs of each Ray worker, or the share of one.", 0)
    trial_timeout: float = option(
        600.0, "Seconds without progress after which a trial hangs: it is stopped, and tried once more.", 1
    )

    def check(self) -> None:
        super().check()
        self.worker_count()

    @property
    def on_ray(self) -> bool:
        """Whether a Ray cluster runs the trials."""
        return self.workers.startswith("ray")

    def worker_count(self) -> int:
        """Workers; 0 for none, and for as many as fit a Ray cluster.

        Raises:
            ConfigError: ``workers`` is none of its forms.
        """
        text = self.workers.removeprefix("ray:")
        if self.workers in ("", "ray"):
            return 0
        if not text.isdecimal() or int(text) < 1:
            raise ConfigError(f"--workers must be a number, ray, or ray and a number like ray:8, got {self.workers!r}")
        return int(text)
