"""How a database is reached: from a profile of the settings, or from the files in a campaign's directory."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import yaml
from pydantic import SecretStr
from pymongo.errors import (
    ConfigurationError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from workflows import records
from workflows.runtime import embedded
from workflows.runtime.settings import EMBEDDED, NucleateSettings, StoreError
from workflows.runtime.supervisor import write_private

if TYPE_CHECKING:
    from collections.abc import Callable

LAUNCHPAD_FILE = "my_launchpad.yaml"
JOBFLOW_FILE = "jobflow.yaml"
ADDITIONAL = "data"
"""Name of the JobStore's additional store; atomate2 puts big outputs into one by this name."""

OUT_OF_DISK_SPACE = 14031
"""MongoDB's error code."""

_OF_DISCOVERY = {"directconnection", "loadbalanced", "srvmaxhosts", "srvservicename"}
"""Options about finding the hosts of a database; meaningless where exactly one is dialled."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """A database and how to reach it; the one place from which LaunchPad, JobStore and files are configured.

    Parameters
    ----------
    profile : str
        Name of the profile in the settings.
    host : str
        Host name, or a ``mongodb://`` URI without credentials.
    port : int
        Used where ``host`` names none.
    database : str
    username : str or None
    password : pydantic.SecretStr or None
    auth_source : str
        Database that knows the user.
    files : "gridfs" or dict
        The additional store, see :class:`workflows.runtime.settings.StoreProfile`.
    retry_ms : int
        How long one operation is repeated while the server is away.
    data_dir : pathlib.Path or None
        Of the embedded server; ``None`` for any other.
    """

    profile: str
    host: str
    port: int
    database: str
    username: str | None
    password: SecretStr | None
    auth_source: str
    files: str | dict[str, Any]
    retry_ms: int
    data_dir: Path | None = None

    @property
    def shown(self) -> str:
        """What messages call the server."""
        return f"{self.host}:{self.port}" if "://" not in self.host else self.host.partition("?")[0]

    def client_options(self) -> dict[str, Any]:
        """Give the options of every MongoClient that works for us; all of them can stand in a YAML file."""
        return {
            "appname": "nucleate",
            "retryReads": True,
            "retryWrites": True,
            "serverSelectionTimeoutMS": self.retry_ms,
            "timeoutMS": self.retry_ms,
        }

    def _password(self) -> str:
        return self.password.get_secret_value() if self.password else ""

    def hosts(self) -> list[tuple[str, int]]:
        """Give the hosts that it names; empty where DNS names them (``mongodb+srv://``)."""
        if "://" not in self.host:
            return [(self.host, self.port)]
        scheme, _, rest = self.host.partition("://")
        if scheme == "mongodb+srv":
            return []
        named = rest.partition("/")[0].partition("?")[0].split(",")
        return [split_host_port(one, self.port) for one in named]

    def by_way_of(self, host: str, port: int, *, any_certificate_name: bool = False) -> Address:
        """Give the address of the same database as it is dialled through a relay or a tunnel.

        Parameters
        ----------
        host : str
        port : int
            Where the relay or the tunnel listens.
        any_certificate_name : bool
            Accept a TLS certificate that is made out to another name; its authority is checked all the same.

        Returns
        -------
        Address
            Drivers dial it and nothing else: they don't follow what a replica set says of its members, whom only the
            other end of the relay can reach.
        """
        options = {}
        if "://" in self.host:
            parts = urlsplit(self.host)
            options = {k: v for k, v in parse_qsl(parts.query) if k.lower() not in _OF_DISCOVERY}
            if parts.scheme == "mongodb+srv" and not {"tls", "ssl"} & {k.lower() for k in options}:
                options["tls"] = "true"  # what +srv means besides DNS
        options["directConnection"] = "true"
        if any_certificate_name:
            options["tlsAllowInvalidHostnames"] = "true"
        shown = f"[{host}]" if ":" in host else host
        return replace(self, host=f"mongodb://{shown}:{port}/?{urlencode(options)}", port=port)

    def launchpad_document(self) -> dict[str, Any]:
        """Give what ``my_launchpad.yaml`` holds, password included."""
        return {
            "host": self.host,
            "port": self.port,
            "name": self.database,
            "username": self.username,
            "password": self._password() or None,
            "authsource": self.auth_source,
            "logdir": None,
            "strm_lvl": "WARNING",
            "user_indices": list(records.USER_INDICES),
            "wf_user_indices": [],
            "mongoclient_kwargs": self.client_options(),
            # FireWorks ignores this; our workers need it to bring an embedded server back.
            "nucleate": {
                "profile": self.profile,
                "data_dir": str(self.data_dir) if self.data_dir else None,
                "files": self.files,
            },
        }

    def jobstore_document(self) -> dict[str, Any]:
        """Give the JobStore as ``jobflow.yaml`` spells it, password included."""
        mongo = {
            "database": self.database,
            "host": self.host,
            "port": self.port,
            "username": self.username or "",
            "password": self._password(),
            "auth_source": self.auth_source,
            "mongoclient_kwargs": self.client_options(),
        }
        # MongoStore with its parts, not MongoURIStore, which can't be read back (and whose name shows the password).
        docs = {"type": "MongoStore", "collection_name": "outputs", **mongo}
        big = {"type": "GridFSStore", "collection_name": "outputs_blobs", **mongo}
        return {
            "docs_store": docs,
            "additional_stores": {ADDITIONAL: dict(self.files) if isinstance(self.files, dict) else big},
        }


def split_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Take ``HOST:PORT`` apart; an IPv6 address stands in brackets.

    Parameters
    ----------
    text : str
    default_port : int, optional
        For a text that names none.

    Raises
    ------
    StoreError
        If it is not that.

    Examples
    --------
    >>> split_host_port("login1:27117"), split_host_port("[::1]:27117"), split_host_port("db1", 27017)
    (('login1', 27117), ('::1', 27117), ('db1', 27017))
    """
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon:
        host, port = text, "" if default_port is None else str(default_port)
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16 or set(host) & set("/@ []"):
        raise StoreError(f"{text!r} is no HOST:PORT, such as login1:27117")
    return host, int(port)


def write_files(address: Address, directory: Path) -> None:
    """Write ``my_launchpad.yaml`` and ``jobflow.yaml``, mode 0600, each whole or not at all.

    ``lpad -l my_launchpad.yaml`` works with the first; jobflow with the second named in ``JOBFLOW_CONFIG_FILE``.

    Parameters
    ----------
    address : Address
    directory : pathlib.Path
        Made if it isn't there.

    Raises
    ------
    StoreError
        If they can't be written.
    """
    documents = {
        LAUNCHPAD_FILE: address.launchpad_document(),
        JOBFLOW_FILE: {"JOB_STORE": address.jobstore_document()},
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, document in documents.items():
            write_private(directory / name, yaml.safe_dump(document, sort_keys=False))
    except OSError as error:
        raise StoreError(f"the store's files can't be written to {directory}: {error.strerror}") from None


def address_of(name: str, settings: NucleateSettings) -> Address:
    """Find out how a profile is reached; the embedded server is started if it isn't running.

    Raises
    ------
    StoreError
        If the profile is unknown, its password can't be had, or the embedded server can't be started.
    """
    retry_ms = int(settings.retry_seconds * 1000)
    if name == EMBEDDED:
        info = embedded.ensure_running(settings.data_dir)
        return Address(
            profile=name,
            host=info.host,
            port=info.port,
            database=settings.embedded_database,
            username=info.username,
            password=info.password,
            auth_source=info.auth_source,
            files="gridfs",
            retry_ms=retry_ms,
            data_dir=settings.data_dir.expanduser().absolute(),
        )
    profile = settings.profile(name)
    parts = urlsplit(profile.uri)
    options = {k.lower(): v[-1] for k, v in parse_qs(parts.query).items()}
    mechanism = options.get("authmechanism", "").upper()
    default_source = "$external" if mechanism in {"MONGODB-X509", "MONGODB-AWS"} else parts.path.strip("/") or "admin"
    return Address(
        profile=name,
        host=profile.uri,
        port=27017,
        database=profile.database,
        username=profile.username,
        password=profile.secret(),
        auth_source=profile.auth_source or options.get("authsource") or default_source,
        files=profile.files,
        retry_ms=retry_ms,
    )


def address_in(directory: Path) -> Address:
    """Read how a campaign's store is reached from the file that was written when it was launched.

    Raises
    ------
    StoreError
        If the file is missing, corrupt or open to others.
    """
    path = directory / LAUNCHPAD_FILE
    try:
        if path.stat().st_mode & 0o077:
            raise StoreError(f"{path} holds a password and is open to others; run: chmod 600 {path}")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        ours = document["nucleate"]
        return Address(
            profile=ours["profile"],
            host=document["host"],
            port=document["port"],
            database=document["name"],
            username=document["username"],
            password=SecretStr(document["password"]) if document["password"] else None,
            auth_source=document["authsource"],
            files=ours["files"],
            retry_ms=int(document["mongoclient_kwargs"]["timeoutMS"]),
            data_dir=Path(ours["data_dir"]) if ours["data_dir"] else None,
        )
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist: launch the campaign first, or name its directory") from None
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise StoreError(f"{path} is corrupt, or not written by us: launch the campaign again") from None


def translated(address: Address, function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that pymongo's errors become one clear :class:`StoreError`."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        where = f"store {address.profile!r} at {address.shown}"
        try:
            return function(*args, **kwargs)
        except ServerSelectionTimeoutError:
            raise StoreError(f"{where} can't be reached: is the server up, and is the address right?") from None
        except OperationFailure as error:
            if error.code in {13, 18}:
                raise StoreError(
                    f"{where} refused user {address.username or '(none)'}: check name and password"
                ) from None
            if error.code == OUT_OF_DISK_SPACE:
                raise StoreError(f"{where} refuses writes: its disk is full") from None
            raise StoreError(f"{where} answered with an error: {error.details or error}") from None
        except (ConfigurationError, InvalidURI, ValueError) as error:
            raise StoreError(f"{where} is configured wrongly: {error}") from None
        except PyMongoError as error:
            raise StoreError(f"{where} failed: {error}") from None

    return run
