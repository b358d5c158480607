"""The embedded server's own process: SecantusDB, which is beta and GPL-2.0-only and therefore runs alone.

Started by :mod:`workflows.runtime.supervisor` and by nobody else; never imported by Nucleate, which speaks to it over
TCP like to any MongoDB. What it adds to SecantusDB at run time, by wrapping the command handlers, is told in
:class:`RetryRecord`.
"""

# ruff: noqa: SLF001 - SecantusDB offers no other seams than its private ones; its version is pinned

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bson
from secantus import auth, commands, storage, transactions
from secantus.server import SecantusDBServer

IDLE_EXIT = 64
"""Exit code that tells the supervisor that nobody was connected for long enough."""

CANNOT_START_EXIT = 65
"""Exit code for what trying again won't mend; the reason went up the pipe."""

BROKEN_EXIT = 70
"""Exit code after the storage engine gave up; a new process recovers from its journal."""

FREE_BYTES = 32 * 2**20
"""With less than this on the disk, writes are refused; more than the largest write needs."""

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

log = logging.getLogger("nucleate.embedded")


class RetryRecord:
    """Makes retryable writes survive the server: what MongoDB keeps on disk, SecantusDB keeps in memory only.

    A driver that loses its connection in the middle of a write sends it again under the same session and number. A
    server that has been killed in between must know whether it had applied it, or a counter is drawn twice, a lock that
    was taken is waited for, a job that was checked out is left behind. So each such write and the reply to it are
    committed in one transaction, and a new server begins with the replies of the old one.

    Writes go one at a time. That also closes the race in findAndModify: two concurrent calls could both return the
    document as it was before either (8 x 100 increments gave 539 distinct numbers), and FireWorks draws its ids so.

    Parameters
    ----------
    server : secantus.server.SecantusDBServer
        Not started yet.
    directory : pathlib.Path
        Where the database lives; when its disk is nearly full, writes are refused as MongoDB does (the storage engine
        doesn't survive a disk that is quite full).
    """

    TABLE = "table:nucleate_retries"
    COMMANDS = ("insert", "update", "delete", "findAndModify", "findandmodify")
    LIFETIME_SECONDS = 1800.0
    """As long as SecantusDB, and MongoDB, keep a session."""

    def __init__(self, server: SecantusDBServer, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self._lock = threading.RLock()

    def restore(self) -> int:
        """Give the server the replies of its predecessor, and forget those that nobody can ask for any more.

        Returns
        -------
        int
            How many are remembered.
        """
        kept = 0
        oldest = time.time() - self.LIFETIME_SECONDS
        with self._lock:
            session = self._server.storage._conn.open_session()
            cursor = session.open_cursor(self.TABLE, None)
            stale = []
            while cursor.next() == 0:
                lsid, record = bytes(cursor.get_key()), bson.decode(bytes(cursor.get_value()))
                if record["at"] < oldest:
                    stale.append(lsid)
                    continue
                reply = bson.decode(record["reply"])
                self._server.transactions.record_retryable(lsid, record["number"], record["identity"], reply)
                kept += 1
            cursor.reset()
            for lsid in stale:
                cursor.set_key(lsid)
                cursor.remove()
            session.close()
        return kept

    def install(self) -> None:
        """Wrap the handlers of the four write commands."""
        # With timeoutMS a driver sends the time that is left along, so a repetition differs from the first in it.
        commands._RETRY_IDENTITY_IGNORED |= {"maxTimeMS"}
        for name in self.COMMANDS:
            if name in commands._HANDLERS:
                commands._HANDLERS[name] = self._recorded(commands._HANDLERS[name])

    def _recorded(self, handler: Handler) -> Handler:
        def run(doc: dict[str, Any], ctx: Any) -> dict[str, Any]:
            if shutil.disk_usage(self._directory).free < FREE_BYTES:
                return {
                    "ok": 0.0,
                    "errmsg": f"the disk that holds {self._directory} is full: writes are refused",
                    "code": 14031,
                    "codeName": "OutOfDiskSpace",
                }
            with self._lock:
                if "txnNumber" not in doc or doc.get("autocommit") is False:
                    return handler(doc, ctx)
                return self._run(handler, doc, ctx)

        return run

    def _run(self, handler: Handler, doc: dict[str, Any], ctx: Any) -> dict[str, Any]:
        lsid, number = commands._txn_envelope(doc)
        engine = self._server.storage
        collection = doc[next(iter(doc))]
        if isinstance(collection, str) and not engine.collection_exists(ctx.db_name, collection):
            return handler(doc, ctx)
        handle = engine.begin_user_transaction()
        try:
            with engine.use_user_transaction(handle):
                reply = handler(doc, ctx)
                if transactions._is_recordable_reply(reply):
                    record = {
                        "number": number,
                        "identity": commands._retry_identity(doc),
                        "reply": bson.encode(reply),
                        "at": time.time(),
                    }
                    engine._cursor(self.TABLE)[lsid] = bson.encode(record)
                    recorded = True
                else:
                    recorded = False
            if recorded:
                engine.commit_user_transaction(handle)
                return reply
        except storage.TransactionTooLargeError:
            log.warning("a write of more than the cache allows in one transaction goes without a record")
        finally:
            engine.abort_user_transaction(handle)  # a no-op after a commit
        # A write that failed in part (a duplicate key among several) keeps what came before: run it as it always was.
        return handler(doc, ctx)


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


def create_database(database: Path) -> None:
    """Make an empty database with all its tables, whole or not at all.

    SecantusDB makes a table when the first collection needs it; killed in the middle of that, the database can't be
    opened any more. So all are made beforehand, in a directory that gets its name when it is finished.

    Parameters
    ----------
    database : pathlib.Path
        Doesn't exist.
    """
    unfinished = database.with_suffix(".unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    new = storage.Storage(str(unfinished), enable_oplog=True, cache_size="64M", sync_on_commit=True)
    session = new._conn.open_session()
    for shard in range(storage._DOC_SHARDS):
        session.create(storage._doc_shard_name(shard), storage._DOC_SHARD_CFG)
    session.create(RetryRecord.TABLE, "key_format=u,value_format=u")
    session.close()
    new.close()
    unfinished.rename(database)
    descriptor = os.open(database.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def report(descriptor: int, **facts: Any) -> None:
    """Tell the supervisor, in one line of JSON, how the start went."""
    os.write(descriptor, (json.dumps(facts) + "\n").encode())


def watch(server: SecantusDBServer, lifeline: int, directory: Path, idle_seconds: float, stop: threading.Event) -> int:
    """Serve until told to stop, left alone by all clients, or orphaned by supervisor or directory.

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
    log.info("serving %s", directory)
    while not stop.wait(step):
        if server._active_conns > 0:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > idle_seconds:
            log.info("no client for %.0f s: stopping", idle_seconds)
            return IDLE_EXIT
        try:
            server.storage.get_user("admin", "")
        except Exception:  # any error of the simplest read: the engine has panicked, and stays so
            log.exception("the storage engine is broken")
            os._exit(BROKEN_EXIT)
        if not directory.exists():
            log.info("the data directory is gone: stopping")
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
    database = options.directory / "db"
    try:
        if not database.exists():
            create_database(database)
        server = SecantusDBServer(
            host="127.0.0.1",
            port=options.port,
            storage_path=str(database),
            require_auth=True,
            enable_test_commands=False,
            sync_on_commit=True,
            cache_size=options.cache,
        )
        # The oplog feeds change streams, which nobody here listens to; without it every document is written once.
        # SecantusDB still calls itself a replica set, which is what makes drivers number their writes.
        server.storage.enable_oplog = False
        server.storage._txn_dirty_limit *= 2  # it allows for the oplog's copy
        seed_user(server, options.username, password)
        record = RetryRecord(server, options.directory)
        record.restore()
        record.install()
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
    code = watch(server, options.lifeline_fd, options.directory, options.idle_seconds, stop)
    # Closing a listening socket does not wake the thread in accept(); shutting it down does, which saves 2 s.
    with contextlib.suppress(OSError):
        server._socket.shutdown(socket.SHUT_RDWR)
    server.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
