"""Generators by name. Nothing is imported before it is asked for, so that listing them is instant."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from generators.abilities import Abilities
from generators.adapters.options import anchored as anchored_option
from generators.state_file import STATE, CheckpointError, read_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from generators.base import Generator


@dataclass(frozen=True)
class Entry:
    """One registered generator.

    Parameters
    ----------
    name : str
    target : str
        ``module:Class``.
    summary : str
        One line for people.
    trained : bool
        Whether it is a trained model. Its checkpoint ships in the folder ``checkpoint`` beside its module, or, where
        there is no such folder, is one that somebody trained and names in the option ``checkpoint``.
    paths : tuple of str
        Options that name files or folders, beside the ``checkpoint`` of a trained model.
    """

    name: str
    target: str
    summary: str
    trained: bool = False
    paths: tuple[str, ...] = ()


ENTRIES = (
    Entry(
        "symmetric",
        "generators.symmetric:Symmetric",
        "trained, symmetric by design: skeleton and elements first, then geometry; learns from every verdict",
        trained=True,
    ),
    Entry(
        "diffusion",
        "generators.diffusion:Diffusion",
        "trained, free of symmetry: lattice, coordinates and species diffuse together, guided by wanted properties",
        trained=True,
    ),
    Entry(
        "vae",
        "generators.latent:Vae",
        "variational autoencoder on symmetric crystals; needs a checkpoint that you train",
        trained=True,
    ),
    Entry(
        "flow",
        "generators.latent:Flow",
        "normalizing flow on symmetric crystals, exact likelihood; needs a checkpoint that you train",
        trained=True,
    ),
    Entry(
        "gan",
        "generators.latent:Gan",
        "Wasserstein GAN on symmetric crystals; needs a checkpoint that you train",
        trained=True,
    ),
    Entry(
        "ion_exchange",
        "generators.ion_exchange:IonExchange",
        "charge-balanced substitution into known prototypes; learns which substitutions and prototypes held",
    ),
    Entry(
        "random",
        "generators.random_symmetric:RandomSymmetric",
        "random space group, Wyckoff positions and coordinates; learns which groups and stoichiometries held",
    ),
    Entry("mixture", "generators.mixture:Mixture", "several generators with shares"),
    Entry(
        "folder",
        "generators.adapters.folder:FolderOfCrystals",
        "crystals that lie in a folder of files",
        paths=("path",),
    ),
    Entry(
        "script",
        "generators.adapters.script:OutsideModel",
        "a program of your own in an environment of its own",
        paths=("python", "command", "cache"),
    ),
    Entry(
        "mattergen",
        "generators.adapters.mattergen:MatterGen",
        "MatterGen, installed in an environment of its own",
        paths=("python", "model_path", "cache"),
    ),
    Entry(
        "chemeleon",
        "generators.adapters.chemeleon:ChemeleonDNG",
        "Chemeleon-DNG (compositions or any crystals), installed in an environment of its own",
        paths=("python", "model_path", "cache"),
    ),
)
"""What is registered; the one place to add a generator."""
PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"})
"""Endings of files that hold code beside numbers; only words for whoever names one, none is ever opened."""


def describe() -> list[dict[str, Any]]:
    """List the registered generators.

    Returns
    -------
    list of dict
        ``name``, ``summary`` and ``target``, in the order of :data:`ENTRIES`.
    """
    return [{"name": entry.name, "summary": entry.summary, "target": entry.target} for entry in ENTRIES]


def is_trained(name: str) -> bool:
    """Tell whether a name is that of a trained model."""
    return any(entry.name == name and entry.trained for entry in ENTRIES)


def abilities_of(name: str, checkpoint: str | None = None) -> Abilities | None:
    """Read what a trained model was shown from its checkpoint; nothing heavy is imported.

    Parameters
    ----------
    name : str
        A registered name.
    checkpoint : str or None
        Folder of the checkpoint; None means the one that ships.

    Returns
    -------
    Abilities or None
        None for what is no trained model, and for a checkpoint that can't be read (making the generator tells why).
    """
    entry = next((entry for entry in ENTRIES if entry.name == name and entry.trained), None)
    if entry is None:
        return None
    try:
        if checkpoint is None:
            package = entry.target.partition(":")[0]
            root = find_spec(package)
            if root is None or root.origin is None:
                return None
            folder = Path(root.origin).parent / "checkpoint"
        else:
            folder = Path(checkpoint)
        return Abilities.from_dict(read_state(folder))
    except (OSError, CheckpointError, KeyError, TypeError, ValueError):
        return None


def needs_options(name: str) -> bool:
    """Tell whether a name alone makes no generator: no weights of it ship, or it is of others or made of others."""
    entry = next((entry for entry in ENTRIES if entry.name == name), None)
    if entry is None:
        return False
    return bool(entry.paths) or name == "mixture" or (entry.trained and abilities_of(name) is None)


def anchored(name: str, options: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Take relative paths in a generator's options from a folder; without this they start in the working directory.

    Parameters
    ----------
    name : str
        Of the generator; the options of one that is not registered stay as they are.
    options : mapping
    base : pathlib.Path

    Returns
    -------
    dict
        All options, those that name files or folders with absolute paths if ``base`` is one.
    """
    if name == "mixture" and isinstance(options.get("members"), (list, tuple)):
        return {**options, "members": [_anchored_member(member, base) for member in options["members"]]}
    entry = next((entry for entry in ENTRIES if entry.name == name), None)
    paths = () if entry is None else (*entry.paths, *(("checkpoint",) if entry.trained else ()))
    return {key: anchored_option(key, value, base) if key in paths else value for key, value in options.items()}


def _anchored_member(member: Any, base: Path) -> Any:
    """Do the same for a member of a mixture; what is no member is left to the check of the option."""
    match member:
        case {"name": str(name), "options": dict(options)}:
            return {**member, "options": anchored(name, options, base)}
        case [str(name), share, dict(options)]:
            return [name, share, anchored(name, options, base)]
    return member


def options_of(name: str) -> dict[str, Any]:
    """Return the options a generator takes and their defaults (``inspect.Parameter.empty`` where one is needed).

    Raises
    ------
    ValueError
        If the name is not registered.
    """
    return {key: parameter.default for key, parameter in inspect.signature(_class(name)).parameters.items()}


def make_generator(name: str, **options: Any) -> Generator:
    """Make a generator that has learned nothing yet.

    Parameters
    ----------
    name : str
        A registered name.
    **options : Any
        Passed to its class.

    Raises
    ------
    ValueError
        If the name or an option is unknown, or an option's value is refused.
    """
    cls = _class(name)
    parameters = inspect.signature(cls).parameters
    unknown = sorted(set(options) - set(parameters))
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(sorted(parameters)) or 'none'}")
    missing = [key for key, p in parameters.items() if p.default is inspect.Parameter.empty and key not in options]
    if missing:
        raise ValueError(f"{name} needs the option {', '.join(missing)}")
    try:
        return cast("Generator", cls(**options))
    except TypeError as error:
        raise ValueError(f"{name}: an option has the wrong type: {error}") from error


def load_generator(directory: Path) -> Generator:
    """Load a saved state; ``generator.json`` says whose it is.

    Raises
    ------
    CheckpointError
        If ``generator.json`` is missing, damaged, or no state of a registered generator.
    """
    name = read_state(directory)["name"]
    try:
        found = _class(name)
    except ValueError as error:
        raise CheckpointError(f"{directory / STATE}: {error}; was it written by a newer version?") from error
    return cast("Generator", found.load(directory))


def named(name_or_directory: str) -> tuple[str, Generator]:
    """Make a generator of a registered name, or load one from a folder that holds a saved state.

    Returns
    -------
    label : str
        The name, or the folder as it was given.
    generator : Generator

    Raises
    ------
    ValueError
        If it is neither, or a generator that is nothing without options; the message says what would be right.
    """
    names = [entry.name for entry in ENTRIES]
    if name_or_directory in names:
        _refuse_without_options(name_or_directory)
        made = make_generator(name_or_directory)
        _ = made.version  # a model without weights says so here, not in the middle of a comparison
        return name_or_directory, made
    folder = Path(name_or_directory)
    if (folder / STATE).is_file():
        return name_or_directory.rstrip("/"), load_generator(folder)
    if folder.is_file():
        never = "; pickles are never read" if folder.suffix.lower() in PICKLES else ""
        raise ValueError(
            f"{folder} is a file; name the folder that `nucleate generator train` wrote ({STATE} and "
            f"weights.safetensors){never}"
        )
    if (folder / "training").is_dir():
        raise ValueError(
            f"{folder} has no {STATE}: its training is not finished; the same `nucleate generator train` command goes "
            "on"
        )
    where = f"is a folder without {STATE}" if folder.is_dir() else "is neither a folder nor a name"
    raise ValueError(f"{name_or_directory} {where}; generators are {', '.join(names)}, or a folder of a saved one")


def _refuse_without_options(name: str) -> None:
    """Refuse what can't be made by its name alone: nobody can give options on a command line."""
    needed = [key for key, default in options_of(name).items() if default is inspect.Parameter.empty]
    if not needed:
        return
    example = f"{{name: {name}, options: {{{', '.join(f'{key}: ...' for key in needed)}}}}}"
    if name == "mixture":  # a campaign writes its members as they are
        example = "{name: symmetric, share: 0.7}, {name: random, share: 0.3}"
    raise ValueError(
        f"{name} needs the option {', '.join(needed)}, which can be given only in campaign.yaml: generator: [{example}]"
    )


def class_of(name: str) -> Any:
    """Return the class of a registered generator.

    Raises
    ------
    ValueError
        If the name is not registered.
    """
    return _class(name)


def _class(name: str) -> Any:
    for entry in ENTRIES:
        if entry.name == name:
            module, _, attribute = entry.target.partition(":")
            return getattr(import_module(module), attribute)
    known = ", ".join(entry.name for entry in ENTRIES)
    raise ValueError(f"no generator is called {name!r}; known are {known}")
