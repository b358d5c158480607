"""What a trained generator that learns from verdicts keeps in a folder: its model, its options, what it remembers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from generators import checkpoint
from generators.state_file import understood

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

OWN = frozenset({"name", "format", "weights_sha256"})
"""What a checkpoint says of itself."""


class Remembers(Protocol):
    """What verdicts taught; immutable."""

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON-compatible values."""
        ...

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Remembers:
        """Read what :meth:`as_dict` gave."""
        ...


class Saved(ABC):
    """Base of such generators.

    A generator sets ``_options``, ``_memory`` and ``last_update`` in ``__init__`` and :meth:`blank`, and calls
    ``_read_model`` or ``_take`` for the rest.
    """

    name: ClassVar[str]
    format: ClassVar[int]
    """Of its checkpoints."""

    _options: dict[str, Any]
    _state: dict[str, Any]
    _tensors: dict[str, Tensor]
    _memory: Remembers
    last_update: dict[str, Any] | None

    @classmethod
    @abstractmethod
    def blank(cls, **options: Any) -> Self:
        """Make one without a trained model, to be fitted."""

    @abstractmethod
    def _assemble(self) -> None:
        """Make the model from ``_state`` and ``_tensors``; whatever does not fit raises."""

    def _read_model(self, directory: Path) -> None:
        self._use(directory, *checkpoint.read(directory, self.name, self.format))

    def _use(self, directory: Path, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self._state, self._tensors = state, tensors
        with checkpoint.fitting(directory, self.name):
            self._assemble()

    def _take(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Make a model one's own by way of a checkpoint, which gives its weights their hash."""
        with TemporaryDirectory(prefix=f"nucleate-{self.name}-") as made:
            checkpoint.write(Path(made), self.name, self.format, state, tensors)
            self._read_model(Path(made))

    @property
    def weights_id(self) -> str:
        """Format, then the first digits of the weights' hash."""
        return f"{self.format}.{str(self._state.get('weights_sha256', 'blank'))[:8]}"

    def save(self, directory: Path) -> None:
        """Write ``generator.json`` and ``weights.safetensors``."""
        state = {
            **{key: value for key, value in self._state.items() if key not in OWN},
            "options": self._options,
            "memory": self._memory.as_dict(),
            "last_update": self.last_update,
        }
        checkpoint.write(directory, self.name, self.format, state, self._tensors)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        CheckpointError
            If it is damaged, of another generator or of another version.
        """
        state, tensors = checkpoint.read(directory, cls.name, cls.format)
        with understood(directory):
            made = cls.blank(**state.get("options", {}))
            made._use(directory, state, tensors)  # noqa: SLF001 - our own class
            if (memory := state.get("memory")) is not None:  # blank has one of nothing
                made._memory = made._memory.from_dict(memory)  # noqa: SLF001 - our own class
            made.last_update = state.get("last_update")
        return made
