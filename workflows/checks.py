"""What of a campaign can be refused by those who would run it: its engine and its generators."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING

from generators.registry import abilities_of, describe, make_generator, needs_options, options_of
from workflows.engines.registry import make_engine
from workflows.generator_states import shares_of
from workflows.known_files import check_known
from workflows.problems import Problem
from workflows.runtime.address import address_of
from workflows.runtime.settings import EMBEDDED, StoreError, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workflows.spec import CampaignSpec, GeneratorShare


def check_engine(spec: CampaignSpec) -> list[Problem]:
    """List what the campaign's engine can't do of it."""
    try:
        engine = make_engine(spec.engine, spec.protocol)
    except ValueError as error:
        return [Problem("engine", str(error))]
    return engine.check(spec)


def check_generators(spec: CampaignSpec, base: Path | None = None) -> list[Problem]:
    """List generators and options of generators that do not exist; relative paths in options start at ``base``."""
    problems = []
    known = [entry["name"] for entry in describe()]
    for index, share in enumerate(shares_of(spec, base)):
        if share.name not in known:
            close = get_close_matches(share.name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            message = f"no generator is called {share.name!r}; {hint}known: {', '.join(known)}"
            problems.append(Problem(f"generator[{index}].name", message))
            continue
        problems += _untaught(spec, index, share)
        if not share.options and not needs_options(share.name):
            continue  # what a generator's options are is known by importing it, which takes seconds
        options = options_of(share.name)
        unknown = sorted(set(share.options) - set(options))
        problems += [
            Problem(
                f"generator[{index}].options.{option}",
                f"{share.name} has no such option; it has: {', '.join(sorted(options)) or 'none'}",
            )
            for option in unknown
        ]
        if unknown:
            continue
        try:
            make_generator(share.name, **share.options)
        except (ValueError, OSError) as error:
            problems.append(Problem(f"generator[{index}].options", str(error)))
    return problems


def _untaught(spec: CampaignSpec, index: int, share: GeneratorShare) -> list[Problem]:
    """List the elements, targets and sizes of a campaign that a trained model never saw."""
    checkpoint = share.options.get("checkpoint")
    seen = abilities_of(share.name, checkpoint if isinstance(checkpoint, str) else None)
    if seen is None:
        return []
    problems = []
    if missing := seen.missing(element for system in spec.chemistry.chemical_systems() for element in system):
        message = (
            f"{share.name} was trained on no crystal with {', '.join(missing)}; leave "
            f"{'it' if len(missing) == 1 else 'them'} out, or propose with ion_exchange or random"
        )
        problems.append(Problem(f"generator[{index}].name", message))
    return problems + [
        Problem(f"generator[{index}].name", f"{share.name}: {doubt}", level="warning")
        for doubt in seen.doubts(spec.condition())
    ]


def check_budget(spec: CampaignSpec) -> list[Problem]:
    """Warn of a budget that can't be spent."""
    if spec.budget.verifications <= spec.samples:
        return []
    message = f"is more than the {spec.samples} samples of a round: at most {spec.samples} can be verified"
    return [Problem("budget.verifications", message, level="warning")]


def check_store(spec: CampaignSpec) -> list[Problem]:
    """List why the campaign's store profile can't be used; whether its server answers is seen at launch."""
    if spec.store == EMBEDDED:
        return []
    try:
        address_of(spec.store, load_settings())
    except StoreError as error:
        return [Problem("store", str(error))]
    return []


def checks_for(base: Path) -> tuple[Callable[[CampaignSpec], list[Problem]], ...]:
    """Give all checks, for :func:`workflows.spec_file.load_spec`.

    Parameters
    ----------
    base : pathlib.Path
        Directory of the campaign's file, where its relative paths start.
    """
    generators, known = partial(check_generators, base=base), partial(check_known, base=base)
    return (check_engine, generators, check_budget, check_store, known)
