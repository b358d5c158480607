"""How a job on a node that can't reach the database reaches it: through a relay, or a tunnel that the job starts.

The job gets store files of its own, with the database's address replaced; the campaign's stay as they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workflows.runtime.address import (
    JOBFLOW_FILE,
    LAUNCHPAD_FILE,
    Address,
    address_in,
    split_host_port,
    write_files,
)
from workflows.runtime.settings import EMBEDDED, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workflows.runtime.cluster import Through

LOGGER = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_START_PATIENCE_S = 60.0
_STARTS = 5
"""A port that was free may be taken before the tunnel has it."""
_AGAIN_S = 1.0
_LONGEST_PAUSE_S = 15.0
_STEADY_S = 30.0
_END_S = 5.0


class Tunnel:
    """A command that carries a local port to the database, started again whenever it ends.

    Parameters
    ----------
    command : sequence of str
        With ``{port}``, and ``{host}`` and ``{host_port}`` of the database, to be filled in.
    address : Address
    place : pathlib.Path
        Its log goes there.
    """

    def __init__(self, command: tuple[str, ...], address: Address, place: Path) -> None:
        self.command = command
        self.address = address
        self.log = place / "tunnel.log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="tunnel", daemon=True)

    def start(self) -> None:
        """Start it and wait until its port answers.

        Raises
        ------
        StoreError
            If it can't be started, or ends or stays silent.
        """
        for _ in range(_STARTS):
            self.port = _free_port()
            self._launch()
            if self._answers():
                self._watcher.start()
                return
            ended = self._process is not None and self._process.poll() is not None
            self._kill()
            if not ended:
                break
        said = self.log.read_text(encoding="utf-8", errors="replace").strip()[-300:]
        raise StoreError(
            f"the tunnel {self.command[0]!r} does not come up; {self.log} ends with: {said or '(nothing)'}"
        )

    def end(self) -> None:
        """End it, and do not start it again."""
        self._stop.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._kill()

    def _words(self) -> list[str]:
        hosts = self.address.hosts()
        values = {"port": str(self.port)}
        if len(hosts) == 1:
            values |= {"host": hosts[0][0], "host_port": str(hosts[0][1])}
        try:
            return [word.format(**values) for word in self.command]
        except KeyError as error:
            if error.args[0] in {"host", "host_port"}:
                raise StoreError(
                    "the store names several hosts and a tunnel leads to one: run `nucleate relay` on the login node, "
                    "which follows the primary, and let the tunnel lead there, e.g. '{port}:localhost:27117'"
                ) from None
            raise StoreError(f"tunnel: {{{error.args[0]}}} is none of {{port}}, {{host}}, {{host_port}}") from None
        except (ValueError, IndexError) as error:
            raise StoreError(f"tunnel: {error}") from None

    def _launch(self) -> None:
        words = self._words()
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # A session of its own: Ctrl-C and a signal to the job's group reach the workers first, who still write.
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command, without a shell
                words, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True
            )
        except OSError as error:
            raise StoreError(f"the tunnel {words[0]!r} can't be started: {error.strerror}") from None
        finally:
            os.close(descriptor)

    def _answers(self) -> bool:
        assert self._process is not None  # noqa: S101 - for the type checker: just launched
        deadline = time.monotonic() + _START_PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=1.0):
                return self._process.poll() is None
            time.sleep(0.05)
        return False

    def _watch(self) -> None:
        pause, since = _AGAIN_S, time.monotonic()
        while not self._stop.wait(0.2):
            if self._process is not None and self._process.poll() is None:
                continue
            code = self._process.returncode if self._process is not None else None
            LOGGER.warning("the tunnel ended (%s); starting it again", code)
            pause = _AGAIN_S if time.monotonic() - since > _STEADY_S else min(2 * pause, _LONGEST_PAUSE_S)
            if self._stop.wait(pause):
                return
            since = time.monotonic()
            try:
                self._launch()
            except StoreError as error:
                self._process = None
                LOGGER.warning("%s", error)

    def _kill(self) -> None:
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def reached(directory: Path, through: Through | None, place: Path) -> Iterator[Path]:
    """Make a campaign's store reachable from here, for the duration of a block.

    Parameters
    ----------
    directory : pathlib.Path
        Of the campaign, with its ``my_launchpad.yaml``.
    through : Through or None
        As the cluster file says; ``None`` where nodes reach the database themselves.
    place : pathlib.Path
        The job's own directory; store files (0600), removed at the end, and the tunnel's log go there.

    Yields
    ------
    pathlib.Path
        The directory to open the store from.

    Raises
    ------
    StoreError
        If the campaign's files can't be read, its store is the embedded one, or the tunnel does not come up.
    """
    if through is None:
        yield directory
        return
    address = address_in(directory)
    if address.profile == EMBEDDED:
        raise StoreError("the embedded store is for one host: a cluster needs a MongoDB that its nodes can reach")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    any_name = through.certificate_name == "any"
    with contextlib.ExitStack() as stack:
        if through.relay is not None:
            host, port = split_host_port(through.relay)
        else:
            tunnel = Tunnel(through.tunnel, address, place)
            stack.callback(tunnel.end)
            tunnel.start()
            host, port = LOOPBACK, tunnel.port
        stack.callback(_forget, place)
        write_files(address.by_way_of(host, port, any_certificate_name=any_name), place)
        yield place


def _forget(place: Path) -> None:
    """Remove the job's store files: hundreds of jobs would leave as many copies of a password."""
    for name in (LAUNCHPAD_FILE, JOBFLOW_FILE):
        with contextlib.suppress(OSError):
            (place / name).unlink(missing_ok=True)
