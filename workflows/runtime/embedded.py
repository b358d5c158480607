"""The embedded database server: started when needed, shared by all commands of a user, restarted when found dead.

One data directory has one server. :mod:`workflows.runtime.supervisor` keeps it alive and
:mod:`workflows.runtime.embedded_server` is the server process itself, the only place where the GPL-2.0 SecantusDB is
imported.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflows.runtime.settings import NucleateSettings, StoreError, load_settings, read_secret
from workflows.runtime.supervisor import acquire, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

USERNAME = "nucleate"
HOST = "127.0.0.1"
PORTS = range(20000, 32000)
"""Below what Linux hands out to outgoing connections (32768 and up), so that nobody takes it by chance."""
FREE_BYTES = 64 * 2**20
"""Room for the database's journal and a campaign's first steps; less than this and the server is not started."""
START_PATIENCE_SECONDS = 90.0
STOP_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class ConnectionInfo:
    """How to reach a running embedded server.

    Parameters
    ----------
    host : str
    port : int
    username : str
    password : pydantic.SecretStr
    auth_source : str
        Database that knows the user.
    """

    host: str
    port: int
    username: str
    password: SecretStr
    auth_source: str = "admin"


@dataclass(frozen=True)
class ServerStatus:
    """What is known of a data directory's server without starting it.

    Parameters
    ----------
    running : bool
    directory : pathlib.Path
    label : str
        Name, version, maturity and licence of the server.
    port, server, supervisor : int or None
        Port on 127.0.0.1 and process ids.
    since : float or None
        Epoch s of the last change of state.
    error : str or None
        Why it isn't running, if it failed.
    log : pathlib.Path
    """

    running: bool
    directory: Path
    label: str
    port: int | None
    server: int | None
    supervisor: int | None
    since: float | None
    error: str | None
    log: Path


def label() -> str:
    """Name the server with version, maturity and licence.

    Raises
    ------
    StoreError
        If it isn't installed.
    """
    try:
        return f"SecantusDB {version('secantusdb')} (beta, GPL-2.0-only, in a process of its own)"
    except PackageNotFoundError:
        raise StoreError(
            'the embedded store needs SecantusDB, which is not installed: pip install "nucleate[embedded]", '
            "or name another store"
        ) from None


def _explain(error: OSError, what: Path) -> StoreError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreError(f"the disk that holds {what} is full")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StoreError(f"no permission to write {what}; choose another place with NUCLEATE_DATA_DIR")
    return StoreError(f"{what} can't be used: {error.strerror}")


def _home(data_dir: Path) -> Path:
    return data_dir.expanduser().absolute() / "embedded"


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _explain(error, path) from None
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1.0):
            return True
    except OSError:
        return False


def _lock_is_held(home: Path) -> bool:
    """Tell whether supervisor or server live (they hold the lock, and a lock can't outlive its holder)."""
    try:
        descriptor = os.open(home / "server.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _connection(home: Path) -> ConnectionInfo | None:
    """Read port and password; ``None`` before the first start."""
    facts = _load(home / "server.json")
    if "port" not in facts:
        return None
    if not (home / "password").exists():
        raise StoreError(f"{home / 'password'} is missing, and its database can't be opened without; put it back")
    return ConnectionInfo(HOST, int(facts["port"]), USERNAME, read_secret(home / "password"))


def _prepare(home: Path, settings: NucleateSettings) -> ConnectionInfo:
    """Choose port and password once; the caller holds the start lock."""
    password = home / "password"
    if not password.exists():
        if (home / "db").exists():
            raise StoreError(f"{password} is missing, and its database can't be opened without; put it back")
        write_private(password, secrets.token_urlsafe(32) + "\n")
    known = _connection(home)
    if known is None or settings.embedded_port not in {None, known.port}:
        port = settings.embedded_port
        if port is None:
            free = (p for p in random.sample(PORTS, 200) if _port_is_free(p))
            port = next(free, None)
        if port is None:
            raise StoreError(f"no free port between {PORTS.start} and {PORTS.stop}; set NUCLEATE_EMBEDDED_PORT")
        write_private(home / "server.json", json.dumps({"port": port}))
        known = _connection(home)
    assert known is not None  # noqa: S101 - for the type checker: just written
    return known


def _make_home(home: Path) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = home.stat()
    if info.st_uid != os.geteuid():
        raise StoreError(f"{home} belongs to another user; choose another place with NUCLEATE_DATA_DIR")
    if stat.S_IMODE(info.st_mode) & 0o077:
        home.chmod(0o700)


def _launch(home: Path, known: ConnectionInfo, settings: NucleateSettings) -> None:
    """Start a supervisor and wait until its server listens; the caller holds the start lock."""
    token = secrets.token_hex(8)
    command = [sys.executable, "-m", "workflows.runtime.supervisor", str(home), "--token", token]
    command += ["--port", str(known.port), "--username", known.username]
    command += ["--idle-seconds", str(settings.embedded_idle_seconds), "--cache", settings.embedded_cache]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUCLEATE_")}
    # The server must find this very package, installed or not.
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    started = subprocess.run(  # noqa: S603 - our own module
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=home,
        env=environment,
        check=False,
    )
    if started.returncode != 0:
        raise StoreError(f"the embedded server's supervisor can't be started (exit code {started.returncode})")
    deadline = time.monotonic() + START_PATIENCE_SECONDS
    locked = False
    while time.monotonic() < deadline:
        died = locked and not _lock_is_held(home)
        locked = locked or _lock_is_held(home)
        state = _load(home / "state.json")
        if state.get("token") == token:
            if state["state"] == "running":
                return
            if state["state"] == "failed":
                raise StoreError(_why(str(state.get("error")), home, known.port))
        if died:
            raise StoreError(_why("it died and could not say why", home, known.port))
        time.sleep(0.02)
    raise StoreError(f"the embedded server did not start within {START_PATIENCE_SECONDS:.0f} s; see {home}/server.log")


def _why(error: str, home: Path, port: int) -> str:
    hint = f"see {home / 'server.log'}"
    if f"port {port}" in error:
        hint = "stop the program that uses it, or choose another with NUCLEATE_EMBEDDED_PORT"
    elif "No space left" in error:
        return f"the embedded server can't start: the disk that holds {home} is full"
    return f"the embedded server can't start: {error}; {hint}"


def revive(data_dir: Path) -> None:
    """Start a server again that has died; leave one alone that was stopped on purpose, or whose directory is gone.

    Parameters
    ----------
    data_dir : pathlib.Path

    Raises
    ------
    StoreError
        As :func:`ensure_running`.
    """
    home = _home(data_dir)
    if home.exists() and _load(home / "state.json").get("state") != "stopped":
        _ensure(home, load_settings(), only_revive=True)


def ensure_running(data_dir: Path | None = None) -> ConnectionInfo:
    """Give the connection to a data directory's server, starting it if it isn't running.

    Safe to call from any number of processes at once: one of them starts the server, the others wait for it.

    Parameters
    ----------
    data_dir : pathlib.Path, optional
        Default: the ``data_dir`` of the settings.

    Returns
    -------
    ConnectionInfo

    Raises
    ------
    StoreError
        If SecantusDB is not installed, the directory can't be used (permission, full disk, another user's), its
        password file is missing, corrupt or open to others, the port is taken, or the server doesn't come up.
    """
    settings = load_settings()
    known = _ensure(_home(data_dir or settings.data_dir), settings)
    assert known is not None  # noqa: S101 - for the type checker: only a revival may decline
    return known


def _ensure(home: Path, settings: NucleateSettings, *, only_revive: bool = False) -> ConnectionInfo | None:
    try:
        known = _connection(home)
        if known and _answers(known.port) and _lock_is_held(home):
            return known
        label()
        _make_home(home)
    except OSError as error:
        raise _explain(error, home) from None
    with _gate(home):
        # Somebody may have stopped it, and removed all of it, while we waited at the gate.
        if only_revive and _load(home / "state.json").get("state") in {None, "stopped"}:
            return None
        deadline = time.monotonic() + STOP_PATIENCE_SECONDS
        # While its supervisor lives, the server may be coming back by itself.
        while _lock_is_held(home) and time.monotonic() < deadline:
            known = _connection(home)
            if known and _answers(known.port):
                return known
            time.sleep(0.05)
        try:
            free = shutil.disk_usage(home).free
            if free < FREE_BYTES:
                raise StoreError(
                    f"the disk that holds {home} is full: {free // 2**20} MiB are free and {FREE_BYTES // 2**20} needed"
                )
            known = _prepare(home, settings)
            _launch(home, known, settings)
        except OSError as error:
            raise _explain(error, home) from None
        return known


@contextlib.contextmanager
def _gate(home: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server."""
    try:
        gate = acquire(home / "start.lock", START_PATIENCE_SECONDS)
    except OSError as error:
        raise _explain(error, home) from None
    if gate is None:
        raise StoreError(f"another process has been starting the embedded server for too long; see {home}/server.log")
    try:
        yield
    finally:
        os.close(gate)


def status(data_dir: Path | None = None) -> ServerStatus:
    """Tell how a data directory's server is, without starting it."""
    home = _home(data_dir or load_settings().data_dir)
    state = _load(home / "state.json")
    running = _lock_is_held(home)
    return ServerStatus(
        running=running,
        directory=home,
        label=label(),
        port=state.get("port"),
        server=state.get("server") if running else None,
        supervisor=state.get("supervisor") if running else None,
        since=state.get("at"),
        error=None if running else state.get("error"),
        log=home / "server.log",
    )


def stop(data_dir: Path | None = None) -> bool:
    """Stop a data directory's server.

    Returns
    -------
    bool
        Whether one was running.

    Raises
    ------
    StoreError
        If it doesn't stop.
    """
    home = _home(data_dir or load_settings().data_dir)
    if not home.exists():
        return False
    with _gate(home):  # whoever is just starting it must finish first
        return _stop(home)


def _stop(home: Path) -> bool:
    if not _lock_is_held(home):
        return False
    deadline = time.monotonic() + STOP_PATIENCE_SECONDS
    asked: set[int] = set()
    while time.monotonic() < deadline:
        # The lock shows that the pid is meant: its holder is alive.
        supervisor = _load(home / "state.json").get("supervisor")
        if isinstance(supervisor, int) and supervisor not in asked and _lock_is_held(home):
            asked.add(supervisor)
            # If it is gone, its orphaned server is closing down by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGTERM)
        if not _lock_is_held(home):
            return True
        time.sleep(0.05)
    raise StoreError(f"the embedded server does not stop; see {home}/server.log")
