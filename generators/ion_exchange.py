"""Ion exchange: charge-balanced substitution into known prototypes, learning which substitutions and prototypes held.

All substitutions that a condition allows are laid out in one table; each has a weight (how plausible the exchange is,
what verdicts taught, whether it was tried before), and a stream is a random order of the table drawn without
replacement from those weights. Without replacement, because the second copy of a substitution is a duplicate. The
order follows from the stream's seed alone, so sample *i* is the same whatever came before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from generators.base import FitReport, Sample, derive_seed, untrained
from generators.compositions import asked, complexity_shares, element_sets
from generators.exchanges import Exchange, Option, decorations, exchanges
from generators.state_file import read_own, understood, write_own
from generators.tally import Tally, evidence
from generators.volume import rescaled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from generators.base import Condition, Labelled

TRIED_FACTOR, MAX_TRIED = 0.05, 3
"""Weight of a substitution for each time it was proposed (it would be a duplicate), and how often that counts."""
MAX_SETS = 150
"""Most element sets in one table; a condition with more is sampled, by the stream's seed."""
JITTER = 0.02
"""Standard deviation of the relative volume, so that two passes over an exhausted table differ."""
FORMAT = 1
"""Of a saved state."""


@dataclass(frozen=True)
class Memory:
    """What verdicts taught: immutable.

    Parameters
    ----------
    prototypes, pairs : Tally
        By prototype tag, and by element-for-element pair.
    tried : mapping of str to int
        How often each substitution was proposed.
    updates : int
        Updates learned from.
    """

    prototypes: Tally = field(default_factory=Tally)
    pairs: Tally = field(default_factory=Tally)
    tried: Mapping[str, int] = field(default_factory=dict)
    updates: int = 0


class IonExchange:
    """Charge-balanced substitution into known prototypes.

    Parameters
    ----------
    exploration : float
        Share of the choice that ignores what verdicts taught, 0 to 1.
    plausibility : float
        Weight of the data-mined substitution probabilities (Hautier et al., Inorg. Chem. 50, 656 (2011)): 0 ignores
        them, 1 takes the geometric mean of a substitution's exp(lambda).

    splits : float
        Weight of substitutions that split one species of a prototype over its orbits, relative to the others, 0 to 1.

    Raises
    ------
    ValueError
        If an option is out of range.
    """

    name = "ion_exchange"
    conditions_on: frozenset[str] = frozenset()

    def __init__(self, exploration: float = 0.2, plausibility: float = 0.4, splits: float = 0.5) -> None:
        if not 0 <= exploration <= 1:
            raise ValueError(f"ion_exchange: exploration {exploration} must lie between 0 and 1")
        if not 0 <= plausibility <= 2:
            raise ValueError(f"ion_exchange: plausibility {plausibility} must lie between 0 and 2")
        if not 0 <= splits <= 1:
            raise ValueError(f"ion_exchange: splits {splits} must lie between 0 and 1")
        self.exploration = float(exploration)
        self.plausibility = float(plausibility)
        self.splits = float(splits)
        self._memory = Memory()

    @property
    def version(self) -> str:
        """Version of the method, then the number of updates learned from."""
        return f"1+{self._memory.updates}"

    def fit(self, dataset: Iterable[Structure], **options: Any) -> FitReport:
        """Count the structures; there is nothing to train.

        Raises
        ------
        ValueError
            If an option is given.
        """
        return untrained(self.name, dataset, options)

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1``; see :class:`generators.base.Generator`.

        The stream seed and the index reproduce a sample; its own seed alone decides the volume.

        Raises
        ------
        ValueError
            At once, if no substitution meets the condition.
        """
        sets = _choose_sets(condition, seed)
        table = exchanges(sets, condition.max_atoms, condition.neutrality)
        if not self.splits:
            table = tuple(option for option in table if not option.exchange.label)
        if not table:
            raise ValueError(f"ion_exchange: no known prototype takes a crystal of {asked(condition)}")
        shares = self.shares(table)
        # Gumbel keys sort a table into a draw without replacement (Yellott, J. Math. Psychol. 15, 109 (1977)).
        keys = np.log(shares) + np.random.default_rng(derive_seed(seed, "order")).gumbel(size=len(table))
        order = np.argsort(-keys, kind="stable")
        return self._stream(n, condition, seed, start, table, shares, order)

    def _stream(
        self,
        n: int,
        condition: Condition,
        seed: int,
        start: int,
        table: tuple[Option, ...],
        shares: NDArray[np.float64],
        order: NDArray[np.intp],
    ) -> Iterator[Sample]:
        known = decorations(condition.max_atoms)
        for index in range(start, n):
            row = int(order[index % len(table)])
            exchange = table[row].exchange
            own_seed = derive_seed(seed, index)
            jitter = float(np.random.default_rng(own_seed).normal(1.0, JITTER))
            decoration = known[exchange.tag, exchange.label]
            info = {
                **exchange.info,
                "spacegroup": decoration.spacegroup,
                "weight": round(float(shares[row]), 8),
                "pass": index // len(table),
            }
            structure = rescaled(decoration.decorated(exchange.new), max(0.9, jitter))
            yield Sample(index, structure, own_seed, self.name, self.version, info)

    def shares(self, table: tuple[Option, ...]) -> NDArray[np.float64]:
        """Return the probability of each substitution of a table to be drawn first.

        Parameters
        ----------
        table : tuple of Option

        Returns
        -------
        numpy.ndarray
            (n,) sums to 1. Before anything is learned, numbers of elements have the shares of
            :func:`generators.compositions.complexity_shares`; ``exploration`` of it stays so whatever is learned.
        """
        choices = [option.exchange for option in table]
        base = np.exp(self.plausibility * np.array([option.plausibility for option in table]))
        base *= np.array([self.splits if exchange.label else 1.0 for exchange in choices])
        sizes = np.array([len(exchange.new) for exchange in choices])
        for size, share in complexity_shares(sorted(set(sizes.tolist()))).items():
            base[sizes == size] *= share / base[sizes == size].sum()
        learned = base * np.array([self._learned(exchange) for exchange in choices])
        mixed = (1 - self.exploration) * learned / learned.sum() + self.exploration * base
        mixed *= TRIED_FACTOR ** np.array(
            [min(MAX_TRIED, self._memory.tried.get(exchange.key, 0)) for exchange in choices]
        )
        result: NDArray[np.float64] = mixed / mixed.sum()
        return result

    def _options(self) -> dict[str, float]:
        return {"exploration": self.exploration, "plausibility": self.plausibility, "splits": self.splits}

    def _learned(self, exchange: Exchange) -> float:
        pairs = [self._memory.pairs.weight(pair) for pair in exchange.pairs]
        return self._memory.prototypes.weight(exchange.tag) * float(np.prod(pairs) ** (1 / len(pairs)))

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return a new generator that has learned from its own proposals among ``labelled``."""
        seen = [
            (Exchange.from_info(label.info), evidence(label))
            for label in labelled
            if label.generator == self.name and "prototype" in label.info
        ]
        tried = dict(self._memory.tried)
        for exchange, what in seen:
            if what.seen:
                tried[exchange.key] = tried.get(exchange.key, 0) + 1
        new = type(self)(**self._options())
        new._memory = replace(  # noqa: SLF001 (our own class)
            self._memory,
            prototypes=self._memory.prototypes.learn((exchange.tag, what) for exchange, what in seen),
            pairs=self._memory.pairs.learn((pair, what) for exchange, what in seen for pair in exchange.pairs),
            tried=tried,
            updates=self._memory.updates + 1,
        )
        return new

    def save(self, directory: Path) -> None:
        """Write ``generator.json``."""
        state = {
            "options": self._options(),
            "updates": self._memory.updates,
            "prototypes": self._memory.prototypes.as_dict(),
            "pairs": self._memory.pairs.as_dict(),
            "tried": dict(self._memory.tried),
        }
        write_own(directory, self.name, FORMAT, state)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        CheckpointError
            If it is damaged, of another generator, or of another format.
        """
        state = read_own(directory, cls.name, FORMAT)
        with understood(directory):
            generator = cls(**state["options"])
            generator._memory = Memory(
                prototypes=Tally.from_dict(state["prototypes"]),
                pairs=Tally.from_dict(state["pairs"]),
                tried={key: int(count) for key, count in state["tried"].items()},
                updates=int(state["updates"]),
            )
        return generator


def _choose_sets(condition: Condition, seed: int) -> tuple[tuple[str, ...], ...]:
    """Take all element sets of a condition, or MAX_SETS of them at random, the same share of each size."""
    by_size = element_sets(condition)
    total = sum(len(sets) for sets in by_size.values())
    if total <= MAX_SETS:
        return tuple(s for sets in by_size.values() for s in sets)
    rng = np.random.default_rng(derive_seed(seed, "sets"))
    room = MAX_SETS // len(by_size)
    return tuple(sets[i] for sets in by_size.values() for i in sorted(rng.permutation(len(sets))[:room].tolist()))
