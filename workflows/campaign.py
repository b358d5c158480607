"""launch: from a spec to a stored campaign with its first round, once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from pymongo.errors import DuplicateKeyError

from workflows.engines.registry import make_engine
from workflows.generator_states import initial_generator, save_state
from workflows.known_files import KnownFilesError, read_known, to_bytes
from workflows.ledger import campaign_document
from workflows.provenance import software_versions
from workflows.records import now
from workflows.reference_store import prepare_reference
from workflows.rounds import WORKFLOW_KEY, open_round
from workflows.runtime.firetask import PRODUCER

if TYPE_CHECKING:
    from pathlib import Path

    from generators.base import Generator
    from workflows.engines.base import Engine
    from workflows.problems import Problem
    from workflows.runtime.store import Store
    from workflows.spec import CampaignSpec


class LaunchRefusedError(Exception):
    """The campaign can't be launched; nothing was written.

    Parameters
    ----------
    message : str
        What, where, and what would be right.
    problems : list of Problem
        One by one, where there are several.
    """

    def __init__(self, message: str, problems: list[Problem] | None = None) -> None:
        self.problems = problems or []
        super().__init__(message)


@dataclass(frozen=True)
class LaunchResult:
    """What launch did.

    Parameters
    ----------
    campaign : str
    created : bool
        False if the same campaign was there already.
    message : str
        For people.
    missing_reference : tuple of str
        Chemical systems that the reference set lacks and that round 1 completes first.
    """

    campaign: str
    created: bool
    message: str
    missing_reference: tuple[str, ...] = ()


@dataclass(frozen=True)
class _OwnKnown:
    """The user's own known crystals as they are stored."""

    data: bytes
    n: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def launch(spec: CampaignSpec, directory: Path, *, store: Store, base: Path | None = None) -> LaunchResult:
    """Store a campaign and open its first round; launching the same spec again repairs or does nothing.

    Parameters
    ----------
    spec : CampaignSpec
    directory : Path
        The campaign's directory; gets ``my_launchpad.yaml`` and ``jobflow.yaml`` (0600) for workers.
    store : Store
    base : Path, optional
        Where relative paths in the spec start (the directory of its file); ``directory`` by default.

    Raises
    ------
    LaunchRefusedError
        If the engine can't do what is asked, a file of known crystals can't be taken, a generator can't be made, or
        another spec has the name.
    """
    engine = make_engine(spec.engine, spec.protocol)
    errors = [problem for problem in engine.check(spec) if problem.level == "error"]
    if errors:
        raise LaunchRefusedError("; ".join(f"{p.key}: {p.message}" for p in errors), errors)
    base = base or directory
    try:
        crystals = read_known(spec, base)
    except KnownFilesError as error:
        raise LaunchRefusedError(str(error), error.problems) from error
    known = _OwnKnown(to_bytes(crystals), len(crystals))
    ensure_campaign_indexes(store)
    database = store.database
    existing = database.campaigns.find_one({"name": spec.name})
    if existing is not None:
        _refuse_another(existing, spec, known)
    generator = None if existing is not None else _first_generator(spec, base)
    directory.mkdir(parents=True, exist_ok=True)
    store.write_configs(directory)  # before the store is written to: a directory that refuses leaves nothing behind
    created = generator is not None and _store_campaign(spec, directory, generator, store, engine, known)
    stored = campaign_document(database, spec.name)
    if not (directory / "campaign.yaml").exists():
        text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (directory / "campaign.yaml").write_text(text)
    added = open_round(store.launchpad, spec.name, 1, stored["initial_state"], None)
    missing = tuple("-".join(system) for system in stored["reference"]["missing"])
    if created or added:
        message = f"campaign {spec.name} launched: round 1 of {spec.rounds} is in the launchpad"
    else:
        message = f"campaign {spec.name} is in the store already with this very spec: nothing to do"
    return LaunchResult(spec.name, created or added, message, missing)


def _first_generator(spec: CampaignSpec, base: Path) -> Generator:
    try:
        return initial_generator(spec, base)
    except (ValueError, OSError) as error:
        raise LaunchRefusedError(f"generator: {error}") from error


def _store_campaign(
    spec: CampaignSpec, directory: Path, generator: Generator, store: Store, engine: Engine, known: _OwnKnown
) -> bool:
    """Insert the campaign's document with its reference set and initial generator; false if another was faster."""
    document: dict[str, Any] = {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "spec_sha256": spec.sha256(),
        "created_at": now(),
        "directory": str(directory.resolve()),
        "store": store.profile,
        "state": "running",
        "why": "",
        "initial_state": save_state(store.files, generator),
        "reference": prepare_reference(store.files, engine, spec),
        "known": {"sha256": store.files.put_bytes(known.data), "n": known.n},
        "software": software_versions(),
    }
    try:
        store.database.campaigns.insert_one(document)
    except DuplicateKeyError:
        _refuse_another(campaign_document(store.database, spec.name), spec, known)
        return False
    return True


def _refuse_another(stored: dict[str, Any], spec: CampaignSpec, known: _OwnKnown) -> None:
    """Refuse a name that is taken by a campaign with other results."""
    if stored["spec_sha256"] != spec.sha256():
        differs = "another spec"
    elif stored["known"]["sha256"] != known.sha256:
        differs = "another spec: the files under known: hold other crystals now"
    else:
        return
    raise LaunchRefusedError(
        f"name: the store already has a campaign {spec.name!r} with {differs}; "
        "choose another name, or launch the unchanged file to go on with it"
    )


def ensure_campaign_indexes(store: Store) -> None:
    """Create the indexes that make each write happen once and the queries of status fast."""
    store.ensure_indexes()
    store.launchpad.workflows.create_index(WORKFLOW_KEY, unique=True, sparse=True)
    store.launchpad.fireworks.create_index(f"spec.{PRODUCER}", sparse=True)
