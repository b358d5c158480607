"""A mix of generators with shares: every prefix of its stream honours the shares within one sample."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sized
from dataclasses import replace
from fractions import Fraction
from math import inf
from typing import TYPE_CHECKING, Any, Self

from generators.base import FitReport, derive_seed
from generators.registry import load_generator, make_generator
from generators.state_file import read_own, understood, write_own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from generators.base import Condition, Generator, Labelled, Sample

FORMAT = 1
"""Of a saved state."""


class Mixture:
    """Members take turns by their shares; each keeps a stream of its own and learns from every verdict it is shown.

    Parameters
    ----------
    members : sequence
        Each ``(name, share)`` or ``(name, share, options)``, or a mapping with these keys; ``name`` is a registered
        generator.

    Raises
    ------
    ValueError
        If there is no member, a share is not positive, or a member's name or options are unknown.

    Examples
    --------
    >>> mix = Mixture([("ion_exchange", 0.6), ("random", 0.4, {"exploration": 0.5})])
    >>> [mix.names[j] for j, _ in (mix.turn(i) for i in range(5))]
    ['ion_exchange', 'random', 'ion_exchange', 'random', 'ion_exchange']
    """

    name = "mixture"

    def __init__(self, members: Sequence[Sequence[Any] | Mapping[str, Any]]) -> None:
        parts = [_part(member) for member in members]
        self._set([make_generator(name, **options) for name, _, options in parts], [share for _, share, _ in parts])

    @classmethod
    def of(cls, members: Sequence[tuple[Generator, float]]) -> Self:
        """Mix generators that exist already, trained ones say."""
        mixture = cls.__new__(cls)
        mixture._set([member for member, _ in members], [share for _, share in members])  # noqa: SLF001 (our own class)
        return mixture

    def _set(self, members: Sequence[Generator], shares: Sequence[float]) -> None:
        if not members:
            raise ValueError("mixture: give at least one member")
        for member, share in zip(members, shares, strict=True):
            if not 0 < share < inf:
                raise ValueError(f"mixture: the share of {member.name!r} must be above 0 and finite, not {share}")
        self._members: tuple[Generator, ...] = tuple(members)
        self._shares = tuple(float(share) for share in shares)

    @property
    def names(self) -> tuple[str, ...]:
        """Registry names of the members."""
        return tuple(member.name for member in self._members)

    @property
    def members(self) -> tuple[Generator, ...]:
        """Generators of the mix, in the order of their numbers."""
        return self._members

    @property
    def version(self) -> str:
        """Versions of the members, joined."""
        return ",".join(f"{member.name}={member.version}" for member in self._members)

    @property
    def conditions_on(self) -> frozenset[str]:
        """Properties that every member conditions on."""
        return frozenset.intersection(*(frozenset(member.conditions_on) for member in self._members))

    def turns(self) -> Iterator[tuple[int, int]]:
        """Yield for each index the member whose turn it is, and the index in that member's own stream.

        The schedule is Tijdeman's (Discrete Math. 32, 323 (1980), the chairman assignment problem): after every
        turn each member's count is within 1 - 1/(2m - 2) of its share, m members; exact fractions keep it the
        same on every machine.
        """
        total = sum(Fraction(share) for share in self._shares)
        shares = [Fraction(share) / total for share in self._shares]
        slack = Fraction(1, 2 * len(shares) - 2) if len(shares) > 1 else Fraction(0)
        counts = [0] * len(shares)
        turn = 0
        while True:
            turn += 1
            due = [share * turn - count for share, count in zip(shares, counts, strict=True)]
            ready = [j for j in range(len(shares)) if due[j] >= slack]
            chosen = min(ready, key=lambda j: ((1 - slack - due[j]) / shares[j], j))
            yield chosen, counts[chosen]
            counts[chosen] += 1

    def turn(self, index: int) -> tuple[int, int]:
        """Return the member whose turn an index is, and the index in its own stream."""
        for i, turn in enumerate(self.turns()):
            if i == index:
                return turn
        raise AssertionError  # pragma: no cover (the schedule never ends)

    def fit(self, dataset: Iterable[Structure], **options: Any) -> FitReport:
        """Fit every member on the same structures; options go to all of them."""
        begin = time.perf_counter()
        structures = dataset if isinstance(dataset, Sized) else list(dataset)  # a data set keeps its labels
        reports = [member.fit(structures, **options) for member in self._members]
        metrics = {
            f"{j}.{report.generator}.{key}": value
            for j, report in enumerate(reports)
            for key, value in report.metrics.items()
        }
        return FitReport(self.name, len(structures), time.perf_counter() - begin, metrics)

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1``; see :class:`generators.base.Generator`.

        A sample carries the name, version and seed of the member that made it, and in ``info`` the member's number
        and its index in that member's stream (whose seed is ``derive_seed(seed, member)``).

        Raises
        ------
        ValueError
            At once, if a member can't meet the condition.
        """
        begins, ends = [0] * len(self._members), [0] * len(self._members)
        schedule: list[tuple[int, int]] = []
        for index, (member, local) in zip(range(n), self.turns(), strict=False):
            ends[member] = local + 1
            if index < start:
                begins[member] = local + 1
            else:
                schedule.append((member, local))
        streams = [
            member.sample(ends[j], condition, derive_seed(seed, j), start=begins[j])
            for j, member in enumerate(self._members)
        ]
        return self._merge(streams, schedule, start)

    @staticmethod
    def _merge(streams: list[Iterator[Sample]], schedule: list[tuple[int, int]], start: int) -> Iterator[Sample]:
        for index, (member, local) in enumerate(schedule, start):
            sample = next(streams[member])
            yield replace(sample, index=index, info={**sample.info, "member": member, "member_index": local})

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return a new mixture; every member sees all verdicts and takes what it can learn from."""
        seen = sorted(labelled, key=lambda label: label.candidate)
        return type(self).of(
            [(member.update(seen), share) for member, share in zip(self._members, self._shares, strict=True)]
        )

    def save(self, directory: Path) -> None:
        """Write ``generator.json``, and each member into a folder ``member-<number>`` beside it."""
        members = []
        for j, (member, share) in enumerate(zip(self._members, self._shares, strict=True)):
            member.save(directory / f"member-{j}")
            members.append({"directory": f"member-{j}", "name": member.name, "share": share})
        write_own(directory, self.name, FORMAT, {"members": members})

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        CheckpointError
            If it or a member's state is damaged, of another generator, or of another format.
        """
        state = read_own(directory, cls.name, FORMAT)
        with understood(directory):
            return cls.of([(load_generator(directory / part["directory"]), part["share"]) for part in state["members"]])


def _part(member: Sequence[Any] | Mapping[str, Any]) -> tuple[str, float, dict[str, Any]]:
    if isinstance(member, Mapping):
        unknown = sorted(set(member) - {"name", "share", "options"})
        if unknown or "name" not in member:
            raise ValueError(f"mixture: a member has name, share and options; got {sorted(member)}")
        return str(member["name"]), float(member.get("share", 1.0)), dict(member.get("options") or {})
    name, share, *options = member
    return str(name), float(share), dict(options[0]) if options else {}
