"""The embedded server's own process: SecantusDB, which is beta and GPL-2.0-only and therefore runs alone.

Started by :mod:`workflows.runtime.supervisor` and by nobody else; never imported by Nucleate, which speaks to it over
TCP like to any MongoDB. What it adds to SecantusDB at run time, by wrapping the command handlers, is told in
:func:`serialise_find_and_modify`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from secantus import auth, commands
from secantus.server import SecantusDBServer

IDLE_EXIT = 64
"""Exit code that tells the supervisor that nobody was connected for long enough."""

CANNOT_START_EXIT = 65
"""Exit code for what trying again won't mend; the reason went up the pipe."""

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

log = logging.getLogger("nucleate.embedded")


def serialise_find_and_modify() -> None:
    """Put one lock around findAndModify.

    Two concurrent calls could both return the document as it was before either (8 x 100 increments gave 539 distinct
    numbers), and FireWorks draws its ids that way.
    """
    lock = threading.Lock()

    def locked(handler: Handler) -> Handler:
        def run(doc: dict[str, Any], ctx: Any) -> dict[str, Any]:
            with lock:
                return handler(doc, ctx)

        return run

    for name in ("findAndModify", "findandmodify"):
        if name in commands._HANDLERS:  # noqa: SLF001 - SecantusDB offers no other seam; the version is pinned
            commands._HANDLERS[name] = locked(commands._HANDLERS[name])  # noqa: SLF001


def seed_user(server: SecantusDBServer, username: str, password: str) -> None:
    """Write the one user before the port opens, so that there is no moment without authentication."""
    mechanism = "SCRAM-SHA-256"
    server.storage.add_user(
        "admin",
        username,
        {
            "_id": f"admin.{username}",
            "user": username,
            "db": "admin",
            "credentials": auth.derive_credentials(password, mechanism=mechanism, username=username).to_doc(),
            "roles": [{"role": "root", "db": "admin"}],
            "mechanisms": [mechanism],
        },
        replace=True,
    )


def report(descriptor: int, **facts: Any) -> None:
    """Tell the supervisor, in one line of JSON, how the start went."""
    os.write(descriptor, (json.dumps(facts) + "\n").encode())


def watch(server: SecantusDBServer, lifeline: int, idle_seconds: float, stop: threading.Event) -> int:
    """Serve until told to stop, left alone by all clients, or orphaned.

    Returns
    -------
    int
        Exit code.
    """
    orphaned = threading.Event()

    def hold_lifeline() -> None:
        # The supervisor never writes: a read returns only when it is gone, however it died.
        os.read(lifeline, 1)
        orphaned.set()
        stop.set()

    threading.Thread(target=hold_lifeline, name="lifeline", daemon=True).start()
    last_seen = time.monotonic()
    step = min(1.0, idle_seconds / 4)
    while not stop.wait(step):
        if server._active_conns > 0:  # noqa: SLF001 - the only count of open connections there is
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > idle_seconds:
            log.info("no client for %.0f s: stopping", idle_seconds)
            return IDLE_EXIT
    log.info("stopping: %s", "the supervisor is gone" if orphaned.is_set() else "asked to")
    return 0


def main() -> int:
    """Run the server; the supervisor passes the pipes and the database directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--username", required=True)
    parser.add_argument("--idle-seconds", type=float, required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--report-fd", type=int, required=True)
    parser.add_argument("--lifeline-fd", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    log.info("SecantusDB %s (beta, GPL-2.0-only), pid %d", version("secantusdb"), os.getpid())

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    password = (options.directory / "password").read_text(encoding="utf-8").strip()
    serialise_find_and_modify()
    try:
        server = SecantusDBServer(
            host="127.0.0.1",
            port=options.port,
            storage_path=str(options.directory / "db"),
            require_auth=True,
            enable_test_commands=False,
            sync_on_commit=True,
            cache_size=options.cache,
        )
        seed_user(server, options.username, password)
    except Exception as error:
        log.exception("the database can't be opened")
        report(options.report_fd, error=f"its database can't be opened: {error}")
        return CANNOT_START_EXIT
    try:
        server.start()
    except OSError as error:
        server.stop()
        report(options.report_fd, error=f"port {options.port} on 127.0.0.1 can't be used: {error.strerror}")
        return CANNOT_START_EXIT
    report(options.report_fd, ready=True)
    code = watch(server, options.lifeline_fd, options.idle_seconds, stop)
    # Closing a listening socket does not wake the thread in accept(); shutting it down does, which saves 2 s.
    with contextlib.suppress(OSError):
        server._socket.shutdown(socket.SHUT_RDWR)  # noqa: SLF001
    server.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
