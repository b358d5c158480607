"""Charge neutrality of a composition: a choice (strict, permissive, off), not a law.

``strict`` asks for one assignment of known oxidation states that balances to zero:

- an anion has its octet state only (O -2, N -3, F -1, Si -4, ...), if pymatgen lists it as common: no peroxides, no
  azides, no polyanions with bonds among themselves;
- a cation has a state that occurs in the ICSD (pymatgen's ``Element.icsd_oxidation_states``): for metals that list is
  better than the textbook's common ones, which know Cu +2 but not +1 and Ti +4 only. Non-metals as cations (nitrates,
  sulfates, carbonates) must also be common in textbooks, which drops N +1 and the like;
- every cation is less electronegative (Pauling) than every anion;
- at most one metal is of mixed valence, over two neighbouring states (Fe3O4: Fe2+ and 2 Fe3+).

It refuses alloys, most borides and many carbides. ``permissive`` is smact's validity test (``smact_validity``), which
takes all known states and passes every alloy of metals, or the strict rule. ``off`` passes everything. An element by
itself is neutral under each rule.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

from pymatgen.core import Composition, Element
from smact.screening import smact_validity

if TYPE_CHECKING:
    from generators.base import NeutralityRule

Assignment = dict[str, dict[int, int]]
"""For each element symbol: oxidation state to the number of atoms that have it, in the reduced formula."""


def neutral(composition: Composition | str, rule: NeutralityRule = "strict") -> bool:
    """Tell whether a composition is charge neutral under a rule.

    Parameters
    ----------
    composition : pymatgen.core.Composition or str
        Elements or species; given oxidation states are ignored.
    rule : {"strict", "permissive", "off"}
        As described at the top of this module.

    Raises
    ------
    ValueError
        If the rule is unknown or the formula can't be read.

    Examples
    --------
    >>> neutral("MgAl2O4"), neutral("Fe3O4"), neutral("Mo2Se")
    (True, True, False)
    """
    if rule == "off":
        return True
    if rule not in {"strict", "permissive"}:
        raise ValueError(f"neutrality rule {rule!r} is unknown; use strict, permissive or off")
    formula = Composition(composition).element_composition.reduced_formula
    return _permissive(formula) if rule == "permissive" else _assign(formula) is not None


def strict_states(symbol: str) -> tuple[int, ...]:
    """List the oxidation states that the strict rule grants an element, ascending.

    Parameters
    ----------
    symbol : str
        Element symbol.

    Examples
    --------
    >>> strict_states("Fe"), strict_states("N"), strict_states("O")
    ((2, 3), (-3, 3, 5), (-2,))
    """
    element = Element(symbol)
    common = set(element.common_oxidation_states)
    known = set(element.icsd_oxidation_states) or common
    octet = element.group - 18 if element.group >= 13 else -1  # -1: the hydride
    positive = known if element.is_metal or element.is_metalloid else known & common
    return tuple(sorted({s for s in positive if s > 0} | {s for s in common if s == octet}))


def oxidation_states(composition: Composition | str) -> Assignment | None:
    """Give the first neutral assignment of the strict rule, or None.

    Parameters
    ----------
    composition : pymatgen.core.Composition or str

    Examples
    --------
    >>> oxidation_states("Fe3O4")
    {'Fe': {2: 1, 3: 2}, 'O': {-2: 4}}
    """
    assigned = _assign(Composition(composition).element_composition.reduced_formula)
    return None if assigned is None else {symbol: dict(states) for symbol, states in assigned}


_Frozen = tuple[tuple[str, tuple[tuple[int, int], ...]], ...]


@lru_cache(maxsize=100_000)
def _permissive(formula: str) -> bool:
    # smact knows no mixed valence (it refuses Fe3O4); permissive must pass whatever strict passes.
    return bool(smact_validity(formula, use_pauling_test=True, include_alloys=True)) or _assign(formula) is not None


@lru_cache(maxsize=100_000)
def _assign(formula: str) -> _Frozen | None:
    amounts = Composition(formula).get_el_amt_dict()
    if any(amount != round(amount) for amount in amounts.values()):
        return None
    counts = {symbol: round(amount) for symbol, amount in amounts.items()}
    symbols = list(counts)
    if len(symbols) == 1:
        return ((symbols[0], ((0, counts[symbols[0]]),)),)
    states = [strict_states(symbol) for symbol in symbols]
    choices = [choice for choice in product(*states) if _cations_are_electropositive(symbols, choice)]
    for choice in choices:
        if sum(n * s for n, s in zip(counts.values(), choice, strict=True)) == 0:
            return tuple((symbol, ((s, counts[symbol]),)) for symbol, s in zip(symbols, choice, strict=True))
    for choice in choices:
        mixed = _mixed_valence(symbols, counts, choice)
        if mixed is not None:
            return mixed
    return None


def _cations_are_electropositive(symbols: list[str], states: tuple[int, ...]) -> bool:
    cations = [Element(symbol).X for symbol, state in zip(symbols, states, strict=True) if state > 0]
    anions = [Element(symbol).X for symbol, state in zip(symbols, states, strict=True) if state < 0]
    return bool(cations) and bool(anions) and max(cations) < min(anions)


def _mixed_valence(symbols: list[str], counts: dict[str, int], choice: tuple[int, ...]) -> _Frozen | None:
    """Let one metal take two neighbouring states, the lower of which is the chosen one."""
    total = sum(counts[symbol] * state for symbol, state in zip(symbols, choice, strict=True))
    for symbol, low in zip(symbols, choice, strict=True):
        higher = [s for s in strict_states(symbol) if s > low]
        if low < 0 or not higher or not Element(symbol).is_metal:
            continue
        step = higher[0] - low
        raised, rest = divmod(-total, step)
        if rest == 0 and 0 < raised < counts[symbol]:
            return tuple(
                (s, ((state, counts[s] - raised), (higher[0], raised)) if s == symbol else ((state, counts[s]),))
                for s, state in zip(symbols, choice, strict=True)
            )
    return None
