"""``init``, ``check``, ``launch``: from nothing to a campaign in the launchpad."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.cli import options, output
from workflows.cli.context import CAMPAIGN_FILE
from workflows.cli.errors import REFUSED, RefusedError

if TYPE_CHECKING:
    from workflows.campaign import LaunchResult
    from workflows.spec import CampaignSpec

File = Annotated[Path, typer.Argument(help="The campaign's YAML file.", metavar="FILE")]


def init(
    directory: Annotated[Path, typer.Argument(help="A new directory; its name becomes the campaign's.", metavar="DIR")],
) -> None:
    """Write a commented campaign.yaml to start from."""
    path = write_template(directory)
    output.say(f"wrote {path}")
    output.say(f"next: edit it, then  nucleate check {quote(str(path))}  and  nucleate launch {quote(str(path))}")


def write_template(directory: Path, name: str | None = None) -> Path:
    """Write a new campaign's file, named after its directory by default; nothing is ever overwritten."""
    from workflows.spec_file import template

    path = directory / CAMPAIGN_FILE
    if path.exists():
        raise RefusedError(f"{path} is there already; choose another directory, or edit that file")
    text = template(name or campaign_name(directory))
    directory.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as stream:
        stream.write(text)
    return path


def campaign_name(directory: Path) -> str:
    """Make a campaign's name of a directory's."""
    name = re.sub(r"[^a-z0-9_-]+", "-", directory.expanduser().resolve().name.lower()).strip("-_")[:40]
    if not name:
        raise RefusedError(f"{directory} makes no name for a campaign; use letters or digits")
    return name


def check(file: File, as_json: options.AsJson = False) -> None:
    """Tell everything that is wrong with a campaign file; nothing is submitted."""
    from workflows.checks import checks_for
    from workflows.spec_file import SpecError, check_file

    if not as_json:
        checked = check_file(file, checks_for(file.parent))
        for line in output.problem_lines(checked.warnings):
            output.say(line)
        output.say(f"{file} is right.")
        for line in preview(checked.spec):
            output.say(f"  {line}")
        return
    try:
        problems = list(check_file(file, checks_for(file.parent)).warnings)
    except SpecError as error:
        problems = error.problems
    errors = any(problem.level == "error" for problem in problems)
    output.print_json({"file": str(file), "ok": not errors, "problems": [vars(problem) for problem in problems]})
    if errors:
        raise typer.Exit(REFUSED)


def preview(spec: CampaignSpec) -> list[str]:
    """Say in words what a campaign will do."""
    systems = spec.chemistry.chemical_systems()
    shown = ", ".join("-".join(system) for system in systems[:6]) + (
        f", ... ({len(systems)})" if len(systems) > 6 else ""
    )
    targets = [f"phonons {spec.targets.phonons}", f"within {spec.targets.energy_above_hull.max:g} eV/atom of the hull"]
    for name, wanted in spec.targets.properties.items():
        low = f"at least {wanted.min:g}" if wanted.min is not None else ""
        high = f"at most {wanted.max:g}" if wanted.max is not None else ""
        targets.append(f"{name.replace('_', ' ')} {' and '.join(filter(None, (low, high)))} {wanted.unit}")
    total = sum(share.share for share in spec.generator)
    mix = " + ".join(f"{share.share / total:.0%} {share.name}" for share in spec.generator)
    rounds = "1 round" if spec.rounds == 1 else f"{spec.rounds} rounds"
    verified = min(spec.budget.verifications, spec.samples)
    return [
        f"campaign {spec.name}: {rounds} of {spec.samples} samples, up to {verified} verified in each",
        f"crystals of {shown}; up to {spec.chemistry.max_atoms} atoms, neutrality {spec.chemistry.neutrality}",
        f"a hit: {'; '.join(targets)}",
        f"proposed by {mix}",
        f"verified by {spec.engine}, protocol {spec.protocol}; store {spec.store}",
    ]


def launch(
    file: File,
    directory: options.Directory = None,
    as_json: options.AsJson = False,
) -> None:
    """Check a campaign file and put its first round into the launchpad.

    Launching the same file again changes nothing (and repairs a launch that was cut short).
    """
    from workflows.checks import checks_for
    from workflows.spec_file import check_file

    checked = check_file(file, checks_for(file.parent))
    where = home_of(file, checked.spec, directory)
    written = (where / CAMPAIGN_FILE).exists()
    result = put_up(checked.spec, where, base=file.parent)
    if not written:
        _keep_the_file(file, checked.spec, where / CAMPAIGN_FILE)
    if as_json:
        output.print_json(vars(result) | {"directory": str(where)})
        return
    for line in output.problem_lines(checked.warnings):
        output.say(line)
    output.say(result.message)
    if result.missing_reference:
        output.say(f"before round 1 the reference set is completed for: {', '.join(result.missing_reference)}")
    there = "" if where.resolve() == Path.cwd() else f" -C {quote(str(where))}"
    output.say(f"next: nucleate work{there}, and in another terminal: nucleate status --watch{there}")


def _keep_the_file(file: Path, spec: CampaignSpec, copy: Path) -> None:
    """Copy the campaign's file to its directory: the user's own words, comments included."""
    shutil.copyfile(file, copy)
    from workflows.generator_states import shares_of

    relative = any(not Path(path).is_absolute() for path in spec.known)
    if relative or shares_of(spec, file.parent) != spec.generator:
        head = f"# A copy of {file.resolve()}: launch that one again, the paths in it start there.\n"
        copy.write_text(head + copy.read_text(encoding="utf-8-sig"), encoding="utf-8")


def home_of(file: Path, spec: CampaignSpec, directory: Path | None) -> Path:
    """Choose the campaign's directory: the one named, the file's own, or a new one beside a file of another name.

    Raises
    ------
    RefusedError
        If another campaign lives there.
    """
    from workflows.spec_file import SpecError, load_spec

    where = directory or (file.parent if file.name == CAMPAIGN_FILE else file.parent / spec.name)
    there = where / CAMPAIGN_FILE
    if there.exists() and not there.samefile(file):
        try:
            same = load_spec(there).sha256() == spec.sha256()
        except SpecError:
            same = False
        if not same:
            raise RefusedError(f"{there} is another campaign's file; choose another directory with -C DIR")
    return where


def put_up(spec: CampaignSpec, directory: Path, base: Path) -> LaunchResult:
    """Open the campaign's store and launch it; relative paths in the spec start at ``base``."""
    from workflows.campaign import launch as launch_campaign
    from workflows.runtime.store import open_store

    with open_store(spec.store) as store:
        return launch_campaign(spec, directory, store=store, base=base)
