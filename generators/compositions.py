"""Which compositions a condition leaves open: element sets, stoichiometries, and the share of the largest sets."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from math import comb, gcd
from typing import TYPE_CHECKING

from pymatgen.core import Composition

from generators.crystals.neutrality import neutral, strict_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generators.base import Condition, NeutralityRule

COMPLEX_SHARE = 0.5
"""Share of proposals with as many elements as the condition allows: small sets are many, known and soon exhausted."""
MAX_STOICHIOMETRIES = 500
"""Most stoichiometries looked at for one element set; beyond it the formula unit is kept smaller."""
MAX_ADVICE = 100
"""Most element sets that are looked through for a neutral composition before somebody is told that there is none."""


def element_sets(condition: Condition) -> dict[int, list[tuple[str, ...]]]:
    """List the distinct element sets that a condition allows, by their size.

    Returns
    -------
    dict of int to list of tuple of str
        Sizes ascending, sets sorted, symbols sorted inside each.
    """
    found: dict[int, set[tuple[str, ...]]] = {}
    for system in condition.chemical_systems:
        elements = sorted(set(system))
        for size in range(max(1, condition.min_elements), min(len(elements), condition.max_elements) + 1):
            found.setdefault(size, set()).update(combinations(elements, size))
    return {size: sorted(found[size]) for size in sorted(found)}


def complexity_shares(sizes: list[int]) -> dict[int, float]:
    """Share the proposals between numbers of elements: half to the largest, the rest evenly.

    Examples
    --------
    >>> complexity_shares([2, 3])
    {2: 0.5, 3: 0.5}
    >>> complexity_shares([3])
    {3: 1.0}
    """
    if len(sizes) == 1:
        return {sizes[0]: 1.0}
    rest = (1 - COMPLEX_SHARE) / (len(sizes) - 1)
    return {size: COMPLEX_SHARE if size == max(sizes) else rest for size in sorted(sizes)}


def is_neutral(elements: tuple[str, ...], counts: tuple[int, ...], rule: NeutralityRule) -> bool:
    """Tell whether a composition keeps a neutrality rule."""
    if rule == "off":
        return True
    unit = gcd(*counts)
    reduced = sorted(zip(elements, (count // unit for count in counts), strict=True))
    return _is_neutral(tuple(reduced), rule)


@lru_cache(maxsize=500_000)
def _is_neutral(composition: tuple[tuple[str, int], ...], rule: NeutralityRule) -> bool:
    """Remember a pure function: draws come back to the same few compositions, and smact takes a millisecond each."""
    return neutral(Composition(dict(composition)), rule)


def _stoichiometries(n_elements: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Yield all reduced counts of ``n_elements`` elements with at most ``largest`` atoms in total."""
    if n_elements == 1:
        yield (1,)
        return

    def parts(left: int, room: int) -> Iterator[tuple[int, ...]]:
        if left == 0:
            yield ()
            return
        for count in range(1, room - left + 2):
            for tail in parts(left - 1, room - count):
                yield (count, *tail)

    yield from (counts for counts in parts(n_elements, largest) if gcd(*counts) == 1)


@lru_cache(maxsize=10_000)
def neutral_stoichiometries(
    elements: tuple[str, ...], max_atoms: int, rule: NeutralityRule
) -> tuple[tuple[int, ...], ...]:
    """List the reduced stoichiometries of an element set that fit a cell and keep a neutrality rule.

    Parameters
    ----------
    elements : tuple of str
    max_atoms : int
        Atoms in the primitive cell.
    rule : {"strict", "permissive", "off"}

    Returns
    -------
    tuple of tuple of int
        Counts in the order of ``elements``, smallest formula units first. Formula units so large that there would be
        more than MAX_STOICHIOMETRIES are left out.
    """
    if len(elements) > max_atoms:
        return ()
    largest = max_atoms
    while largest > len(elements) and comb(largest, len(elements)) > MAX_STOICHIOMETRIES:
        largest -= 1
    counts = sorted(_stoichiometries(len(elements), largest), key=lambda c: (sum(c), c))
    return tuple(c for c in counts if is_neutral(elements, c, rule))


def anonymous(counts: tuple[int, ...]) -> str:
    """Name a stoichiometry without its elements, fewest atoms first.

    Examples
    --------
    >>> anonymous((4, 1, 2))
    'AB2C4'
    """
    return "".join(chr(ord("A") + i) + (str(count) if count > 1 else "") for i, count in enumerate(sorted(counts)))


def asked(condition: Condition) -> str:
    """Say what a condition that nothing meets asks for, and how it is lifted if the neutrality rule is to blame.

    Examples
    --------
    >>> from generators.base import Condition
    >>> asked(Condition((("Mg", "O"),), max_elements=2, max_atoms=1, neutrality="off"))
    "Mg-O with 2 elements, at most 1 atom and the neutrality rule 'off'"
    """
    systems = condition.chemical_systems
    first = "-".join(systems[0]) if systems else "nothing"
    which = first if len(systems) == 1 else f"the {len(systems)} chemical systems (the first: {first})"
    fewest, most = condition.min_elements, min(condition.max_elements, max(map(len, systems), default=0))
    elements = _count(fewest, "element") if fewest >= most else f"{fewest} to {most} elements"
    text = f"{which} with {elements}, at most {_count(condition.max_atoms, 'atom')} and the neutrality rule "
    text += repr(condition.neutrality)
    if _none_is_neutral(condition):
        text += ": none is neutral by it; lift it with --neutrality off (campaign.yaml: `chemistry: {neutrality: off}`)"
    return text


def _none_is_neutral(condition: Condition) -> bool:
    """Tell whether it is the neutrality rule that leaves no composition, as far as that is soon found out."""
    if condition.neutrality == "off":
        return False
    sets = [s for size, members in element_sets(condition).items() if size <= condition.max_atoms for s in members]
    states = [state for symbol in {symbol for members in sets for symbol in members} for state in strict_states(symbol)]
    if condition.neutrality == "strict" and condition.min_elements > 1 and all(state > 0 for state in states):
        return bool(sets)  # metals, say: none takes electrons
    return 0 < len(sets) <= MAX_ADVICE and not any(
        neutral_stoichiometries(s, condition.max_atoms, condition.neutrality) for s in sets
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
