"""Where things are on this machine: the data directory and the store profiles, from environment and config file.

Everything is read from ``NUCLEATE_*`` variables first, then from ``~/.config/nucleate/config.yaml``
(``NUCLEATE_CONFIG`` names another file). Passwords are never part of a setting that gets printed: they live in an
environment variable or in a file that only its owner can read, and become a :class:`pydantic.SecretStr` when they are
needed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote_plus

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

EMBEDDED = "embedded"
"""Name of the profile that needs no configuration."""


class StoreError(Exception):
    """A store can't be used, and the message says why and what to do; the CLI prints it and exits with 2.

    Parameters
    ----------
    message : str
        One clear sentence or two. Never holds a password.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


def split_credentials(uri: str) -> tuple[str, str | None, SecretStr | None]:
    """Take user and password out of a MongoDB URI.

    Parameters
    ----------
    uri : str
        ``mongodb://`` or ``mongodb+srv://``, with or without ``user:password@``.

    Returns
    -------
    tuple
        The URI without credentials, the user and the password (each ``None`` if the URI has none).

    Raises
    ------
    StoreError
        If it is no MongoDB URI. The message doesn't repeat the URI, which may hold a password.

    Examples
    --------
    >>> split_credentials("mongodb://ada:s3cret@db.example.org:27017/?tls=true")[:2]
    ('mongodb://db.example.org:27017/?tls=true', 'ada')
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in {"mongodb", "mongodb+srv"}:
        raise StoreError("a store's uri must begin with mongodb:// or mongodb+srv://")
    hosts, slash, tail = rest.partition("/")
    credentials, at, hosts = hosts.rpartition("@")
    if not hosts:
        raise StoreError("a store's uri names no host: mongodb://HOST:PORT/")
    bare = f"{scheme}://{hosts}{slash}{tail}"
    if not at:
        return bare, None, None
    user, colon, password = credentials.partition(":")
    return bare, unquote_plus(user), SecretStr(unquote_plus(password)) if colon else None


class StoreProfile(BaseModel):
    """One MongoDB that a campaign's ``store`` can name.

    Credentials in the URI are taken out as soon as it is read; ``uri`` never holds them afterwards.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    uri: str = Field(description="mongodb://HOST:PORT/ or mongodb+srv://HOST/, options allowed")
    database: str = Field(default="nucleate", pattern=r"^[A-Za-z0-9_-]{1,60}$", description="name of the database")
    username: str | None = None
    password: SecretStr | None = Field(
        default=None, description="taken from the uri; prefer password_env or password_file"
    )
    password_env: str | None = Field(
        default=None, description="name of the environment variable that holds the password"
    )
    password_file: Path | None = Field(default=None, description="file that holds the password; yours, mode 0600")
    auth_source: str | None = Field(
        default=None, description="database that knows the user; default: the uri's, or admin"
    )
    files: Literal["gridfs"] | dict[str, Any] = Field(
        default="gridfs",
        description="where big outputs go: gridfs, or a maggma store as jobflow.yaml spells it (type: S3Store)",
    )

    @model_validator(mode="before")
    @classmethod
    def _strip_credentials(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("uri"), str):
            return values
        try:
            bare, user, password = split_credentials(values["uri"])
        except StoreError as error:
            raise ValueError(error.message) from None
        found = {"uri": bare}
        if user is not None:
            found["username"] = user
        if password is not None:
            found["password"] = password  # type: ignore[assignment]
        return {**values, **found}

    @model_validator(mode="after")
    def _one_password(self) -> StoreProfile:
        given = [k for k in ("password", "password_env", "password_file") if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError(f"give the password once, not as {' and '.join(given)}")
        if given and not self.username:
            raise ValueError(f"{given[0]} without a username")
        return self

    def secret(self) -> SecretStr | None:
        """Read the password from where the profile says it is.

        Returns
        -------
        pydantic.SecretStr or None
            ``None`` if the profile names no password.

        Raises
        ------
        StoreError
            If the variable is not set, or the file is missing, open to others, or not ours.
        """
        if self.password_env is not None:
            value = os.environ.get(self.password_env)
            if not value:
                raise StoreError(f"the environment variable {self.password_env}, named by password_env, is not set")
            return SecretStr(value)
        if self.password_file is not None:
            return read_secret(self.password_file)
        return self.password


def read_secret(path: Path) -> SecretStr:
    """Read a password from a file that only its owner can read.

    Parameters
    ----------
    path : pathlib.Path
        The first line is the password.

    Returns
    -------
    pydantic.SecretStr

    Raises
    ------
    StoreError
        If the file is missing, empty, not a plain file, not ours, or open to group or others.
    """
    path = path.expanduser()
    try:
        # Checked on the open descriptor: what is read is what was checked.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise StoreError(f"password file {path} can't be read: {error.strerror}") from None
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        os.close(descriptor)
        raise StoreError(f"password file {path} is not a plain file")
    with os.fdopen(descriptor, "r", encoding="utf-8") as file:
        if info.st_uid != os.geteuid():
            raise StoreError(f"password file {path} belongs to another user; it must be yours")
        if stat.S_IMODE(info.st_mode) & 0o077:
            raise StoreError(f"password file {path} is open to others; run: chmod 600 {path}")
        try:
            password = file.readline().strip()
        except UnicodeDecodeError:
            raise StoreError(f"password file {path} is corrupt: it is no UTF-8 text") from None
    if not password:
        raise StoreError(f"password file {path} is empty")
    return SecretStr(password)


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "nucleate"


def config_path() -> Path:
    """Give the path of the config file: ``NUCLEATE_CONFIG``, or ``~/.config/nucleate/config.yaml``."""
    named = os.environ.get("NUCLEATE_CONFIG")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "nucleate" / "config.yaml"


class EspressoSettings(BaseModel):
    """How Quantum ESPRESSO runs on this machine, and which pseudopotentials a group has agreed on.

    ``family`` and ``hubbard_u_ev`` are physics: they are part of the reference key, and a worker whose settings differ
    from those at launch is refused before its energies meet others.
    """

    model_config = ConfigDict(extra="forbid")

    command: str = Field(default="pw.x", min_length=1, description="pw.x: a name on PATH, or a path")
    launcher: tuple[str, ...] = Field(
        default=(), description="what stands before it, word by word: [mpirun, -np, '8'], [srun]"
    )
    processes: int = Field(default=1, ge=1, description="how many processes the launcher starts")
    pools: int | None = Field(
        default=None,
        ge=1,
        description="groups of processes that share k-points out; chosen for each input if not given",
    )
    memory_gb: float | None = Field(
        default=None, gt=0, description="GB that one pw.x may use; larger inputs are refused (default: this machine's)"
    )
    scratch: Path | None = Field(default=None, description="pw.x's own files, e.g. a node's local disk")
    environment: dict[str, str] = Field(default_factory=dict, description="added to pw.x's environment")
    family: str | None = Field(
        default=None, description="pseudopotentials, instead of the protocol's own (`nucleate pseudos list`)"
    )
    pseudos: Path | None = Field(default=None, description="where families are installed (default: NUCLEATE_PSEUDOS)")
    hubbard_u_ev: dict[str, float] = Field(default_factory=dict, description="DFT+U: eV by element, e.g. {Fe: 4.0}")


class VaspSettings(BaseModel):
    """How VASP runs on this machine, and where its POTCARs are; none of it is written into a job."""

    model_config = ConfigDict(extra="forbid")

    command: str | None = Field(default=None, description="what starts VASP, e.g. 'srun vasp_std'; no shell reads it")
    gamma_command: str | None = Field(default=None, description="the same for runs with the Γ point alone")
    pseudos: Path | None = Field(
        default=None, description="directory of POTCARs, laid out as pymatgen wants it (default: PMG_VASP_PSP_DIR)"
    )
    poll_seconds: float = Field(default=5.0, gt=0, description="s between looks whether VASP has ended")
    check_seconds: float = Field(default=30.0, gt=0, description="s between looks at a running VASP (wall-time)")
    max_corrections: int = Field(default=5, ge=0, description="most corrections by custodian in one run")


class _ConfigFile(PydanticBaseSettingsSource):
    """The YAML file as a source of settings; an error names the file, never a value."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - abstract
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        path = config_path()
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            if os.environ.get("NUCLEATE_CONFIG"):
                raise StoreError(f"the config file {path}, named by NUCLEATE_CONFIG, does not exist") from None
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"the config file {path} can't be read: {error}") from None
        try:
            loaded = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else "?"
            raise StoreError(f"the config file {path} is no valid YAML (line {line}: {error.problem})") from None
        if loaded is None:
            return {}
        if not isinstance(loaded, dict):
            raise StoreError(f"the config file {path} must hold a mapping of settings")
        return loaded


class NucleateSettings(BaseSettings):
    """Settings of this machine; the environment (``NUCLEATE_*``) wins over the config file."""

    model_config = SettingsConfigDict(
        env_prefix="NUCLEATE_", env_nested_delimiter="__", extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Field(default_factory=_default_data_dir, description="the embedded server and its database")
    stores: dict[str, StoreProfile] = Field(default_factory=dict, description="MongoDBs by name")
    embedded_port: int | None = Field(
        default=None, ge=1024, le=65535, description="port of the embedded server; chosen once and kept if not given"
    )
    embedded_idle_seconds: float = Field(
        default=600.0, gt=0, description="s without any client after which the embedded server stops"
    )
    embedded_database: str = Field(
        default="nucleate", pattern=r"^[A-Za-z0-9_-]{1,60}$", description="name of the database in the embedded server"
    )
    embedded_cache: str = Field(
        default="512M", pattern=r"^\d+[MG]$", description="most memory that the embedded database's cache takes"
    )
    espresso: EspressoSettings = Field(default_factory=EspressoSettings, description="Quantum ESPRESSO on this machine")
    vasp: VaspSettings = Field(default_factory=VaspSettings, description="VASP on this machine")
    store_timeout_seconds: float = Field(default=5.0, gt=0, description="s to wait for a store before calling it down")
    retry_seconds: float = Field(default=90.0, gt=0, description="s that a worker's operation rides through a restart")

    @model_validator(mode="after")
    def _embedded_is_ours(self) -> NucleateSettings:
        if EMBEDDED in self.stores:
            raise ValueError(f"stores: the name {EMBEDDED!r} is taken by the embedded server")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env files: what counts must be visible
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - password_file does this
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then the config file."""
        return init_settings, env_settings, _ConfigFile(settings_cls)

    def profile(self, name: str) -> StoreProfile:
        """Find a profile by name.

        Raises
        ------
        StoreError
            If there is none by that name; the message lists those that there are.
        """
        if name not in self.stores:
            known = ", ".join(sorted([EMBEDDED, *self.stores]))
            raise StoreError(f"unknown store {name!r}; known: {known}. Add it under 'stores' in {config_path()}")
        return self.stores[name]


def load_settings() -> NucleateSettings:
    """Read the settings of this machine.

    Raises
    ------
    StoreError
        If environment or config file hold something wrong; all errors in one message, without the values.
    """
    try:
        return NucleateSettings()
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc']) or 'settings'}: {e['msg']}" for e in error.errors()]
        raise StoreError(f"wrong settings (environment NUCLEATE_* or {config_path()}): " + "; ".join(lines)) from None
