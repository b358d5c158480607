"""Where a campaign's records live: one MongoDB database for the LaunchPad, our collections and the job outputs.

A worker's operations ride through a restart of the server: ``timeoutMS`` makes pymongo repeat what is safe to repeat
until the time is up, and the server (MongoDB as a replica set, or the embedded one) answers a repeated write from its
record of retryable writes instead of applying it twice.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fireworks import LaunchPad
from jobflow import JobStore
from pymongo import ASCENDING, MongoClient
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, CursorNotFound, DuplicateKeyError
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from workflows import records
from workflows.runtime import embedded
from workflows.runtime.address import (
    ADDITIONAL,
    JOBFLOW_FILE,
    LAUNCHPAD_FILE,
    Address,
    address_in,
    address_of,
    translated,
    write_files,
)
from workflows.runtime.blobs import Blobs
from workflows.runtime.settings import EMBEDDED, NucleateSettings, StoreError, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database
    from pymongo.results import DeleteResult

__all__ = [
    "JOBFLOW_FILE",
    "LAUNCHPAD_FILE",
    "Address",
    "QuietLaunchPad",
    "Store",
    "open_store",
    "open_store_from_files",
    "retrying",
    "translated",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

Document = dict[str, Any]


def retrying(function: Callable[[], T], seconds: float = 90.0) -> T:
    """Repeat an operation while the server is away.

    Needed only where drivers don't repeat by themselves: ``*_many`` with a filter, indexes, and reading more than one
    batch (about 100 documents) of a cursor.

    Parameters
    ----------
    function : callable
        Must be safe to run twice, and take its cursor to the end: ``retrying(lambda: list(collection.find()))``.
    seconds : float
        Time after which the error is raised.

    Raises
    ------
    pymongo.errors.AutoReconnect
        If the server is still away then.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return function()
        except (AutoReconnect, CursorNotFound):
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.2)


class _PatientCollection(Collection[Document]):
    """Repeats ``delete_many``, which drivers don't although it is safe; add_wf begins with one."""

    def delete_many(self, *args: Any, **kwargs: Any) -> DeleteResult:
        return retrying(lambda: super(_PatientCollection, self).delete_many(*args, **kwargs))


class QuietLaunchPad(LaunchPad):  # type: ignore[misc]
    """A LaunchPad whose ``repr`` hides the password (FireWorks' own doesn't) and whose add_wf outlasts a restart."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.fireworks = _PatientCollection(self.db, "fireworks")

    def __repr__(self) -> str:
        return f"<LaunchPad {self.name}>"


class _Reviver(ServerHeartbeatListener):
    """Brings a dead embedded server back as soon as pymongo's monitor misses it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        """Nothing to do."""

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        """Nothing to do."""

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:  # noqa: ARG002 - which heartbeat doesn't matter
        """Start the server again, or wait until whoever does has done it."""
        try:
            embedded.revive(self.data_dir)
        except StoreError as error:
            log.warning("%s", error)


@dataclass
class Store:
    """One open database.

    Parameters
    ----------
    profile : str
        Name of the profile that it was opened from.
    address : Address
        How it is reached.
    launchpad : fireworks.LaunchPad
        Connected.
    jobstore : jobflow.JobStore
        Connected; big outputs go to its additional store ``data``.
    """

    profile: str
    address: Address
    launchpad: LaunchPad
    jobstore: JobStore
    files: Blobs = field(init=False)

    def __post_init__(self) -> None:
        self.files = Blobs(self.jobstore.additional_stores[ADDITIONAL])

    @property
    def database(self) -> Database[Document]:
        """The database that holds our collections beside FireWorks' own."""
        database: Database[Document] = self.launchpad.db
        return database

    @property
    def campaigns(self) -> Collection[Document]:
        """What users asked for."""
        return self.database["campaigns"]

    @property
    def rounds(self) -> Collection[Document]:
        """Turns of the loop."""
        return self.database["rounds"]

    @property
    def candidates(self) -> Collection[Document]:
        """Proposed crystals."""
        return self.database["candidates"]

    @property
    def attempts(self) -> Collection[Document]:
        """Launches of stages."""
        return self.database["attempts"]

    @property
    def verdicts(self) -> Collection[Document]:
        """What verification found."""
        return self.database["verdicts"]

    def ensure_indexes(self) -> None:
        """Create the unique keys and query keys of :mod:`workflows.records` and FireWorks' own; safe to repeat."""
        for collection, keys in records.UNIQUE_KEYS.items():
            for key in keys:
                self.database[collection].create_index([(k, ASCENDING) for k in key], unique=True)
        for collection, keys in records.QUERY_KEYS.items():
            for key in keys:
                self.database[collection].create_index([(k, ASCENDING) for k in key])
        self.database["outputs"].create_index([("uuid", ASCENDING), ("index", ASCENDING)])
        self.jobstore.additional_stores[ADDITIONAL].ensure_index("blob_uuid")
        assigner = self.database["fw_id_assigner"]
        if assigner.find_one({}) is None:
            # What `lpad reset` does, without deleting anything; the fixed _id makes two at once one.
            first = {"next_fw_id": 1, "next_launch_id": 1}
            try:
                assigner.update_one({"_id": -1}, {"$setOnInsert": first}, upsert=True)
            except DuplicateKeyError:
                log.debug("another process was first")
        self.launchpad.tuneup()

    def write_configs(self, directory: Path) -> None:
        """Write ``my_launchpad.yaml`` and ``jobflow.yaml``, see :func:`workflows.runtime.address.write_files`."""
        write_files(self.address, directory)

    def close(self) -> None:
        """Close all connections."""
        self.jobstore.close()
        self.launchpad.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _probe(address: Address, timeout_seconds: float) -> None:
    """Ask the server for something that needs authentication, without the long patience of workers."""
    credentials: dict[str, Any] = {"authSource": address.auth_source}
    if address.username:
        credentials |= {"username": address.username, "password": address._password() or None}  # noqa: SLF001
    wait = int(timeout_seconds * 1000)
    client: MongoClient[Document] = MongoClient(
        address.host, address.port, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait, **credentials
    )
    with client:
        client[address.database]["campaigns"].find_one({}, {"_id": 1})


def _open(address: Address, timeout_seconds: float) -> Store:
    if address.data_dir is None:
        translated(address, _probe)(address, timeout_seconds)
    else:
        # It was running a moment ago; if it dies just now it comes back by itself.
        translated(address, retrying)(lambda: _probe(address, timeout_seconds), address.retry_ms / 1000)
    document = address.launchpad_document()
    options = document.pop("mongoclient_kwargs")
    document.pop("nucleate")
    listeners = [_Reviver(address.data_dir)] if address.data_dir else []
    launchpad = QuietLaunchPad(**document, mongoclient_kwargs={**options, "event_listeners": listeners})
    launchpad.mongoclient_kwargs = options  # what to_dict() gives must stay plain data
    jobstore = JobStore.from_dict_spec(address.jobstore_document())
    jobstore.connect()
    return Store(address.profile, address, launchpad, jobstore)


def open_store(profile: str = EMBEDDED, settings: NucleateSettings | None = None) -> Store:
    """Open a store by the name of its profile; the embedded server is started if it isn't running.

    Indexes are created, so that every key is unique from the first write on.

    Parameters
    ----------
    profile : str
        ``embedded``, or a name under ``stores`` in the settings.
    settings : NucleateSettings, optional
        Default: those of this machine.

    Returns
    -------
    Store

    Raises
    ------
    StoreError
        If the profile is unknown, the server can't be reached or refuses us; or, embedded, can't be started.
    """
    settings = settings or load_settings()
    address = address_of(profile, settings)
    store = _open(address, settings.store_timeout_seconds)
    translated(address, retrying)(store.ensure_indexes, settings.retry_seconds)
    return store


def open_store_from_files(directory: Path) -> Store:
    """Open the store that a campaign's directory names; what workers do.

    Parameters
    ----------
    directory : pathlib.Path
        Where :meth:`Store.write_configs` wrote its files.

    Returns
    -------
    Store

    Raises
    ------
    StoreError
        If the file is missing, corrupt or open to others, or the store can't be opened.
    """
    settings = load_settings()
    address = address_in(directory)
    if address.data_dir is None:
        return _open(address, settings.store_timeout_seconds)
    info = embedded.ensure_running(address.data_dir)
    fresh = Address(**{**vars(address), "port": info.port, "password": info.password})
    store = _open(fresh, settings.store_timeout_seconds)
    if fresh.port != address.port:
        store.write_configs(directory)  # the server was moved to another port: plain lpad must find it too
    return store
