"""``generator``: what proposes crystals, by itself: list, train, sample, evaluate, compare, look into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workflows.cli import options, output
from workflows.cli.errors import RefusedError

app = typer.Typer(help="Generators: train, sample, evaluate and compare what proposes crystals.", no_args_is_help=True)

_WHAT = "What is asked for"
_HOW = "How it is judged"

Elements = Annotated[
    str | None,
    typer.Option("--elements", help="Elements that may meet, e.g. Mg,Al,O.", metavar="LIST", rich_help_panel=_WHAT),
]
Systems = Annotated[
    list[str] | None,
    typer.Option("--systems", help="Instead: chemical systems, e.g. Mg-Al-O; may be repeated.", rich_help_panel=_WHAT),
]
MinElements = Annotated[
    int, typer.Option("--min-elements", help="Fewest elements in a crystal.", min=1, max=8, rich_help_panel=_WHAT)
]
MaxElements = Annotated[
    int | None,
    typer.Option(
        "--max-elements",
        help="Most elements in a crystal (default: 3, or as many as there are).",
        min=1,
        max=8,
        rich_help_panel=_WHAT,
    ),
]
MaxAtoms = Annotated[
    int, typer.Option("--max-atoms", help="Most atoms in the primitive cell.", min=1, max=64, rich_help_panel=_WHAT)
]
Neutrality = Annotated[
    str, typer.Option("--neutrality", help="strict, permissive or off.", metavar="RULE", rich_help_panel=_WHAT)
]
Properties = Annotated[
    list[str] | None,
    typer.Option(
        "--property",
        help='A target such as "bulk_modulus>=120" (GPa); may be repeated.',
        metavar="TARGET",
        rich_help_panel=_WHAT,
    ),
]
Count = Annotated[int, typer.Option("-n", "--samples", help="Samples.", min=1, max=100_000)]
Seed = Annotated[int, typer.Option("--seed", help="Seed.", min=0)]
FirstSeed = Annotated[int, typer.Option("--seed", help="Seed; the first one where there are several.", min=0)]
Seeds = Annotated[int, typer.Option("--seeds", help="How many seeds, each with -n samples.", min=1, max=100)]
Into = Annotated[Path, typer.Option("--output", "-o", help="A directory; made if missing.", metavar="DIR")]
Cut = Annotated[
    float,
    typer.Option("--cut", help="eV/atom above the hull that is called stable.", min=0.0, max=1.0, rich_help_panel=_HOW),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Where samples and relaxations are kept (default: DIR/cache); shared ones are not computed again.",
        metavar="DIR",
        rich_help_panel=_HOW,
    ),
]
Steps = Annotated[
    int, typer.Option("--max-steps", help="Most steps of a relaxation.", min=1, max=10_000, rich_help_panel=_HOW)
]
Competitors = Annotated[
    int,
    typer.Option(
        "--competitors",
        help="Most competitors relaxed of each composition that a sample has; fewer flatter everybody.",
        min=1,
        max=1000,
        rich_help_panel=_HOW,
    ),
]
SecondOpinion = Annotated[
    bool,
    typer.Option(
        "--second-opinion/--no-second-opinion",
        help="Ask SevenNet-0 about what is called stable.",
        rich_help_panel=_HOW,
    ),
]
Trained = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Training set that is not novel: shipped or a file (default: shipped, where it is); its test part tells "
        "which held-out prototypes come back.",
        metavar="FILE",
        rich_help_panel=_HOW,
    ),
]
SplitBy = Annotated[str, typer.Option("--split-by", help="prototype or chemistry: what never parts in a split.")]


@app.command("list")
def show(as_json: options.AsJson = False) -> None:
    """List the generators: whether they are trained, and what properties they condition on."""
    from workflows.cli.generating_parts import listed

    rows = listed()
    if as_json:
        output.print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("generator", "trained", "conditions on", "what it does"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row["name"], row["trained"], ", ".join(row["conditions_on"]) or "–", row["summary"])
    output.console().print(table)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="A generator that learns from data.", metavar="NAME")],
    into: Into,
    data: Annotated[
        str, typer.Option("--data", help="shipped, or a file that a data build wrote.", metavar="FILE")
    ] = "shipped",
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="At most (default: the model's own).", min=1, max=100_000)
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, max=65_536, help="Crystals a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", min=0.0, help="Its peak.")] = None,
    seed: Seed = 0,
    split_by: SplitBy = "prototype",
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", help="A property to condition on, e.g. bulk_modulus; may be repeated."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on where a training in DIR stopped, or start over.")
    ] = True,
) -> None:
    """Train a generator and save it in DIR, with its loss curve in losses.png; killed, the same command goes on."""
    from workflows.cli.generating_train import Wanted, run_training

    wanted = Wanted(
        name=name,
        data=data,
        folder=into,
        options={
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "split_by": split_by,
            "properties": tuple(properties) if properties else None,
        },
        resume=resume,
    )
    run_training(wanted)


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="A generator, or the folder of a saved one.", metavar="NAME|DIR")],
    into: Into,
    elements: Elements = None,
    systems: Systems = None,
    properties: Properties = None,
    n: Count = 16,
    seed: Seed = 0,
    min_elements: MinElements = 2,
    max_elements: MaxElements = None,
    max_atoms: MaxAtoms = 8,
    neutrality: Neutrality = "strict",
    as_json: options.AsJson = False,
) -> None:
    """Draw crystals and write them to DIR: a CIF each, samples.extxyz, and samples.jsonl with what is known of each.

    Killed, the same command goes on.
    """
    from workflows.cli.generating_parts import condition_of, named_of

    condition = condition_of(elements, systems, properties, min_elements, max_elements, max_atoms, neutrality)
    _, generator = named_of(name)
    from workflows.cli.generating_samples import words_of, write_samples  # seconds: what is refused is refused before

    rows = write_samples(generator, n, condition, seed, into)
    if as_json:
        output.print_json(rows)
        return
    for line in words_of(rows, into):
        output.say(line)
    ignored = sorted(set(condition.properties) - set(rows[0]["conditions_on"])) if rows else []
    if ignored:
        output.say(f"{name} does not condition on {', '.join(ignored)}: it was ignored")


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="A generator, or the folder of a saved one.", metavar="NAME|DIR")],
    into: Into,
    elements: Elements = None,
    systems: Systems = None,
    properties: Properties = None,
    n: Count = 24,
    seed: FirstSeed = 0,
    seeds: Seeds = 1,
    min_elements: MinElements = 2,
    max_elements: MaxElements = None,
    max_atoms: MaxAtoms = 8,
    neutrality: Neutrality = "strict",
    cut: Cut = 0.1,
    max_steps: Steps = 200,
    competitors: Competitors = 24,
    data: Trained = None,
    split_by: SplitBy = "prototype",
    second_opinion: SecondOpinion = False,
    cache: Cache = None,
    as_json: options.AsJson = False,
) -> None:
    """Evaluate one generator: valid, unique, novel, stable, on target, and what that costs."""
    from workflows.cli.generating_parts import condition_of, named_of

    condition = condition_of(elements, systems, properties, min_elements, max_elements, max_atoms, neutrality)
    chosen = [named_of(name)]
    from workflows.cli.generating_compare import Judging, run_comparison  # seconds, too

    judging = Judging(
        into, n, seed, seeds, cut, max_steps, competitors, data, split_by, cache, second_opinion=second_opinion
    )
    run_comparison(chosen, condition, judging, baselines=False, as_json=as_json)


@app.command()
def compare(
    into: Into,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Generators, or folders of saved ones.",
            metavar="[NAME|DIR]...",
        ),
    ] = None,
    elements: Elements = None,
    systems: Systems = None,
    properties: Properties = None,
    n: Count = 24,
    seed: FirstSeed = 0,
    seeds: Seeds = 1,
    min_elements: MinElements = 2,
    max_elements: MaxElements = None,
    max_atoms: MaxAtoms = 8,
    neutrality: Neutrality = "strict",
    cut: Cut = 0.1,
    max_steps: Steps = 200,
    competitors: Competitors = 24,
    data: Trained = None,
    split_by: SplitBy = "prototype",
    second_opinion: SecondOpinion = True,
    cache: Cache = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare generators on the same condition, samples, relaxer and hull; killed, the same command goes on.

    Writes DIR/index.html and DIR/comparison.json. random, ion_exchange and an untrained symmetric are always among the
    rows: what a trained generator has to beat.
    """
    from workflows.cli.generating_parts import condition_of, named_of

    condition = condition_of(elements, systems, properties, min_elements, max_elements, max_atoms, neutrality)
    chosen = [named_of(name) for name in dict.fromkeys(names or [])]
    from workflows.cli.generating_compare import Judging, run_comparison  # seconds, too

    judging = Judging(
        into, n, seed, seeds, cut, max_steps, competitors, data, split_by, cache, second_opinion=second_opinion
    )
    run_comparison(chosen, condition, judging, baselines=True, as_json=as_json)


@app.command()
def latent(
    name: Annotated[str, typer.Argument(help="A generator with a latent space, or its folder.", metavar="NAME|DIR")],
    into: Into,
    data: Annotated[
        str, typer.Option("--data", help="Crystals to show: shipped, or a file.", metavar="FILE")
    ] = "shipped",
    most: Annotated[int, typer.Option("--most", help="Crystals on the map, chosen by the seed.", min=3)] = 2000,
    color: Annotated[
        str | None,
        typer.Option(
            "--color",
            help="Property that colours the map (default: formation_energy, or another that the data has).",
            metavar="PROPERTY",
        ),
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="Label of the crystal where the walk starts.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Label of the crystal where it ends.")] = None,
    steps: Annotated[int, typer.Option("--steps", help="Crystals on the walk, ends included.", min=2, max=40)] = 7,
    seed: Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Draw a model's latent space: a map of crystals, and a walk from one to another.

    Writes DIR/index.html and DIR/latent.json.
    """
    from workflows.cli.generating_latent import Look, run_latent

    if (start is None) != (end is None):
        raise RefusedError("--from and --to belong together: give both, or none")
    ends = None if start is None or end is None else (start, end)
    run_latent(Look(name, into, data, most, color, ends, steps, seed), as_json=as_json)
