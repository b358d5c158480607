"""How long things have looked the same, by this process' own clock: hosts need not agree on the time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Watch:
    """Remembers since when things have looked the same; ``clock`` gives s and never goes back."""

    clock: Callable[[], float] = time.monotonic
    seen: dict[tuple[str, Any], tuple[Any, float]] = field(default_factory=dict)
    touched: set[tuple[str, Any]] = field(default_factory=set)

    def age_s(self, key: tuple[str, Any], looks: Any) -> float:
        """Note how something looks and tell for how long it has looked so."""
        self.touched.add(key)
        before = self.seen.get(key)
        if before is None or before[0] != looks:
            self.seen[key] = (looks, self.clock())
            return 0.0
        return self.clock() - before[1]

    def forget_others(self) -> None:
        """Forget what was not seen since the last call: it has mended itself."""
        self.seen = {key: value for key, value in self.seen.items() if key in self.touched}
        self.touched = set()

    def clear(self) -> None:
        """Forget everything."""
        self.seen, self.touched = {}, set()
