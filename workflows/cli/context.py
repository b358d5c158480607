"""Which campaign a command is about, and its store, open."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from workflows.cli.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflows.runtime.store import Store

CAMPAIGN_FILE = "campaign.yaml"
LAUNCHPAD_FILE = "my_launchpad.yaml"
"""What launch writes; named again here because importing the store takes a second."""


@dataclass(frozen=True)
class Opened:
    """A launched campaign and its open store; ``directory`` is where it was launched from, if known."""

    name: str
    store: Store
    directory: Path | None


def campaign_directory(directory: Path | None) -> Path:
    """Find the campaign's directory: the one named, or where we are.

    Raises
    ------
    RefusedError
        If there is no campaign in it, or it has not been launched.
    """
    found = (directory or Path()).expanduser()
    if not found.is_dir():
        raise RefusedError(f"{found} is no directory; name the campaign's directory with -C DIR")
    if not (found / CAMPAIGN_FILE).exists():
        where = f"in {directory}" if directory else "here"
        raise RefusedError(
            f"there is no {CAMPAIGN_FILE} {where}: go to a campaign's directory, name it with -C DIR, "
            "or name the campaign with --campaign NAME; `nucleate init DIR` starts a new one"
        )
    if not (found / LAUNCHPAD_FILE).exists():
        raise RefusedError(
            f"the campaign in {found.resolve()} is not launched yet: nucleate launch {found / CAMPAIGN_FILE}"
        )
    return found


def naming(opened: Opened) -> str:
    """Give what names a campaign in a command that somebody may copy, with a blank before it; nothing where we are."""
    if opened.directory is None:
        return f" --campaign {opened.name}"
    return "" if opened.directory.resolve() == Path.cwd() else f" -C {quote(str(opened.directory))}"


@contextmanager
def open_campaign(directory: Path | None, name: str | None, profile: str | None) -> Iterator[Opened]:
    """Open the store of a launched campaign, by directory or by name.

    Raises
    ------
    RefusedError
        If both or neither are there.
    StoreError
        If the store can't be opened.
    NoSuchCampaignError
        If the store has no such campaign.
    """
    if name is None and profile is not None:
        raise RefusedError("--store goes with --campaign NAME; a campaign's directory knows its store")
    if name is not None and directory is not None:
        raise RefusedError("give -C DIR or --campaign NAME, not both")
    found = campaign_directory(directory) if name is None else None
    from workflows.ledger import campaign_document
    from workflows.runtime.store import open_store, open_store_from_files

    if found is None:
        assert name is not None  # noqa: S101 - a directory was looked for otherwise
        with open_store(profile or "embedded") as store:
            document = campaign_document(store.database, name)
            there = Path(document["directory"])
            yield Opened(name, store, there if there.is_dir() else None)
        return
    name = _name_in(found / CAMPAIGN_FILE)
    with open_store_from_files(found) as store:
        campaign_document(store.database, name)
        yield Opened(name, store, found)


def _name_in(path: Path) -> str:
    """Read the campaign's name; the rest of the file does not matter any more once it is launched."""
    from yaml import YAMLError

    from workflows.yaml_strict import parse

    try:
        data, _ = parse(path.read_text(encoding="utf-8"))
        return str(data["name"])
    except (YAMLError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{path} gives no name any more; `nucleate check {path}` tells why") from error
