"""A relay on a login node, for compute nodes that can't reach the database: bytes go through, nothing else.

It knows no password and ends no TLS: a job on a node authenticates with the database itself, through it. It follows
the primary of a replica set, so that jobs need to know one address only. A connection whose other side is gone is
closed at once and never mended: a driver that sees it closed dials again and repeats what is safe to repeat, exactly
as if it had talked to the database directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient, monitoring
from pymongo.errors import PyMongoError

from workflows.runtime.settings import EMBEDDED, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workflows.runtime.address import Address

LOGGER = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CHUNK_BYTES = 256 * 1024
_DIAL_S = 5.0
_FLUSH_S = 2.0
_DISCOVERY_MS = 2000
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 25_000}
"""A peer whose network is gone says nothing: after about 25 s (the last one in ms) its connections are closed."""
_SILENT_AFTER = 1000
"""Refused hosts that are named in the log; more of them must not fill the disk."""


class Upstream(monitoring.TopologyListener):
    """Where the database is at present.

    Parameters
    ----------
    address : Address
        Its credentials are not used.
    """

    def __init__(self, address: Address) -> None:
        hosts = address.hosts()
        self._alone = hosts[0] if len(hosts) == 1 else None
        self._writable: tuple[str, int] | None = None
        self._client: MongoClient[dict[str, Any]] | None = None
        self._on_change: Callable[[], None] = lambda: None
        self._uri = address.host if "://" in address.host else f"mongodb://{address.host}:{address.port}/"

    def watch(self, on_change: Callable[[], None]) -> None:
        """Begin to follow the primary.

        Raises
        ------
        StoreError
            If the address makes no sense.
        """
        self._on_change = on_change
        try:
            # Discovery needs no authentication: the client is made without a user.
            self._client = MongoClient(
                self._uri,
                appname="nucleate relay",
                event_listeners=[self],
                heartbeatFrequencyMS=_DISCOVERY_MS,
                connectTimeoutMS=_DISCOVERY_MS,
            )
        except (PyMongoError, ValueError) as error:
            raise StoreError(f"the store is configured wrongly: {error}") from None

    def close(self) -> None:
        """Stop following it."""
        if self._client is not None:
            self._client.close()

    @property
    def where(self) -> tuple[str, int] | None:
        """Host and port to dial; ``None`` while no member of several is the primary."""
        return self._writable or self._alone

    def opened(self, event: monitoring.TopologyOpenedEvent) -> None:
        """Nothing to do."""

    def closed(self, event: monitoring.TopologyClosedEvent) -> None:
        """Nothing to do."""

    def description_changed(self, event: monitoring.TopologyDescriptionChangedEvent) -> None:
        """Note who takes writes; one who only went away is still dialled, for it may come back."""
        servers = event.new_description.server_descriptions().values()
        writable = next((s.address for s in servers if s.is_writable), None)
        if writable is None or writable[1] is None or writable == self._writable:
            return
        self._writable = (writable[0], writable[1])
        self._on_change()


@dataclass
class Tally:
    """What went through a relay."""

    opened: int = 0
    refused: int = 0
    unanswered: int = 0
    carried_bytes: int = 0


@dataclass(eq=False)
class _Pair:
    """One connection of a job and its other half."""

    target: tuple[str, int]
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]

    async def flush(self) -> None:
        """Let a last answer out before both ends are closed."""
        for writer in self.writers:
            writer.close()
        closing = asyncio.gather(*(writer.wait_closed() for writer in self.writers), return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing, _FLUSH_S)

    def abort(self) -> None:
        for writer in self.writers:
            with contextlib.suppress(Exception):
                writer.transport.abort()


@dataclass
class Relay:
    """Carries connections to the database; see :func:`relay`."""

    upstream: Upstream
    allow: Sequence[Network] = ()
    tally: Tally = field(default_factory=Tally)
    _pairs: set[_Pair] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)
    _away: bool = False

    async def serve(self, host: str, port: int, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Relay until ``stop`` is set.

        Raises
        ------
        OSError
            If the address can't be listened on.
        """
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._accept, host, port, limit=_CHUNK_BYTES, backlog=512)
        try:
            self.upstream.watch(lambda: _call_soon(loop, self._follow))
            ready()
            await stop.wait()
        finally:
            server.close()
            self.upstream.close()
            for pair in list(self._pairs):
                pair.abort()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _follow(self) -> None:
        """Close what leads to a member that is the primary no more."""
        where = self.upstream.where
        stale = [pair for pair in self._pairs if pair.target != where]
        if where is not None:
            LOGGER.info("the database is at %s:%s", *where)
        for pair in stale:
            pair.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a stream's callback runs in a task
        self._tasks.add(task)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            LOGGER.debug("a connection was given up: the relay stops")
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._may(writer.get_extra_info("peername")):
            self.tally.refused += 1
            return
        where = self.upstream.where
        dialled = None if where is None else await self._dial(where)
        if where is None or dialled is None:
            # Closed at once: the driver tries again by itself, and knows better how long it may.
            self.tally.unanswered += 1
            return
        there, thither = dialled
        pair = _Pair(where, (writer, thither))
        self._pairs.add(pair)
        self.tally.opened += 1
        try:
            for end in pair.writers:
                _keep_alive(end)
            ways = [asyncio.create_task(self._pump(*way)) for way in ((reader, thither), (there, writer))]
            # Drivers never close one direction only: with one end gone, so is the connection.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await pair.flush()
        finally:
            self._pairs.discard(pair)
            pair.abort()

    async def _dial(self, where: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            async with asyncio.timeout(_DIAL_S):
                dialled = await asyncio.open_connection(*where, limit=_CHUNK_BYTES)
        except (OSError, TimeoutError) as error:
            if not self._away:
                LOGGER.warning("the database at %s:%s does not answer: %s", *where, str(error) or "no reply in time")
            self._away = True
            return None
        if self._away:
            LOGGER.info("the database answers again")
        self._away = False
        return dialled

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
                self.tally.carried_bytes += len(chunk)

    def _may(self, peer: tuple[Any, ...] | None) -> bool:
        if not self.allow:
            return True
        try:
            address = ipaddress.ip_address(str(peer[0]).partition("%")[0]) if peer else None
        except ValueError:
            address = None
        mapped = getattr(address, "ipv4_mapped", None)
        if address is not None and any((mapped or address) in network for network in self.allow):
            return True
        name = str(peer[0]) if peer else "somebody who was gone at once"
        if name not in self._refused and len(self._refused) < _SILENT_AFTER:
            self._refused.add(name)
            LOGGER.warning("refused %s: not in what --allow says", name)
        return False


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: the relay has stopped meanwhile
        loop.call_soon_threadsafe(function)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_loopback(host: str, port: int) -> bool:
    """Tell whether listening there is for this host alone.

    Raises
    ------
    StoreError
        If the name is unknown.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StoreError(f"{host} is no address of this host: {error.strerror}") from None
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def networks(texts: Sequence[str]) -> list[Network]:
    """Read networks such as ``10.1.0.0/16``.

    Raises
    ------
    StoreError
        If one of them is none.
    """
    try:
        return [ipaddress.ip_network(text) for text in texts]
    except ValueError as error:
        raise StoreError(f"--allow wants networks such as 10.1.0.0/16: {error}") from None


def warnings_of(address: Address, host: str, port: int, allow: Sequence[Network]) -> list[str]:
    """Say who can reach a relay that listens beyond this host, and what they could do; nothing for loopback.

    Raises
    ------
    StoreError
        If it is the embedded server's, which is for one host; or it asks for no password and others could reach it.
    """
    if address.profile == EMBEDDED:
        raise StoreError("the embedded server is for this host alone; relays serve a MongoDB, see docs/clusters.md")
    if is_loopback(host, port):
        return []
    options = address.host.partition("?")[2].lower()
    if not address.username and "mongodb-x509" not in options:
        raise StoreError(
            f"store {address.profile!r} has no user: a relay on {host} would give it to everybody who reaches this host"
        )
    who = ", ".join(str(network) for network in allow) if allow else "every host that reaches this one"
    told = [f"{host}:{port} is not loopback: {who} can try to log in to the database through it"]
    if not allow:
        told.append("narrow it with --allow, e.g. the compute nodes' network: --allow 10.1.0.0/16")
    if address.host.startswith("mongodb://") and not {"tls=true", "ssl=true"} & set(options.split("&")):
        told.append("the store's uri asks for no TLS: passwords are never sent in clear, but all else is")
    return told


def relay(
    address: Address, host: str, port: int, *, allow: Sequence[Network] = (), ready: Callable[[], None] = lambda: None
) -> Tally:
    """Relay connections to a database until SIGTERM or Ctrl-C.

    Parameters
    ----------
    address : Address
        Of the database.
    host : str
    port : int
        Where to listen.
    allow : sequence of networks
        Who may connect; empty allows everybody who reaches it.
    ready : callable
        Called when it listens.

    Raises
    ------
    StoreError
        If it can't listen there, or the database's address makes no sense.
    """
    running = Relay(Upstream(address), allow)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Two files a connection, some five connections a worker: the usual 1024 would be 100 workers.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await running.serve(host, port, stop, ready)

    try:
        asyncio.run(run())
    except OSError as error:
        raise StoreError(f"can't listen on {host}:{port}: {error.strerror or error}") from None
    return running.tally
