"""What of a campaign can be refused by those who would run it: its engine and its generators."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING

from generators.registry import describe, options_of
from workflows.engines.registry import make_engine
from workflows.known_files import check_known
from workflows.problems import Problem
from workflows.runtime.address import address_of
from workflows.runtime.settings import EMBEDDED, StoreError, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workflows.spec import CampaignSpec


def check_engine(spec: CampaignSpec) -> list[Problem]:
    """List what the campaign's engine can't do of it."""
    try:
        engine = make_engine(spec.engine, spec.protocol)
    except ValueError as error:
        return [Problem("engine", str(error))]
    return engine.check(spec)


def check_generators(spec: CampaignSpec) -> list[Problem]:
    """List generators and options of generators that do not exist."""
    problems = []
    known = [entry["name"] for entry in describe()]
    for index, share in enumerate(spec.generator):
        if share.name not in known:
            close = get_close_matches(share.name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            message = f"no generator is called {share.name!r}; {hint}known: {', '.join(known)}"
            problems.append(Problem(f"generator[{index}].name", message))
            continue
        if not share.options:
            continue  # what a generator's options are is known by importing it, which takes seconds
        options = options_of(share.name)
        problems += [
            Problem(
                f"generator[{index}].options.{option}",
                f"{share.name} has no such option; it has: {', '.join(sorted(options)) or 'none'}",
            )
            for option in sorted(set(share.options) - set(options))
        ]
    return problems


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
    return (check_engine, check_generators, check_budget, check_store, partial(check_known, base=base))
