"""What `accelerate` did: which modules run fused, and why the others do not."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AccelerateReport:
    """`fused` holds (module name, what it is), `left` holds (module name, why it runs as it was).

    Of the `mixed` operations that were found, `fused_mixed` run fused, by themselves or within their cell.
    """

    fused: list[tuple[str, str]] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    mixed: int = 0
    fused_mixed: int = 0

    def __str__(self) -> str:
        if not self.fused and not self.left:
            return "accelerate: found no mixed operation or cell"
        lines = [
            f"accelerate: {self.fused_mixed} of {self.mixed} mixed operations run fused; "
            f"modules: {len(self.fused)} fused, {len(self.left)} left as they were"
        ]
        for title, rows in (("fused", self.fused), ("left", self.left)):
            width = max((len(_shown(name)) for name, _ in rows), default=0)
            lines += [f"  {title:5}  {_shown(name):{width}}  {text}" for name, text in rows]
        return "\n".join(lines)


def _shown(name: str) -> str:
    return name or "(the model)"
