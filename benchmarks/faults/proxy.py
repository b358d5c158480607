"""A network cable that can be pulled: TCP between nodes and database goes through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Literal

Cut = Literal["silence", "reset"]


class Proxy:
    """Forwards connections to a port of this host, until they are cut.

    Parameters
    ----------
    target : int
        Port that is served.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(timeout=10)

    def stop(self) -> None:
        """Close everything."""
        self._loop.call_soon_threadsafe(self._drop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def cut(self, how: Cut) -> None:
        """Cut it: nothing arrives any more (``silence``), or connections break and new ones are refused (``reset``)."""
        self._loop.call_soon_threadsafe(self._cut, how)

    def mend(self) -> None:
        """Mend it: what was in a silent cable arrives, as TCP has it."""
        self._loop.call_soon_threadsafe(self._mend)

    def _cut(self, how: Cut) -> None:
        self._whole.clear()
        self._refuses = how == "reset"
        if self._refuses:
            self._drop()

    def _mend(self) -> None:
        self._refuses = False
        self._whole.set()

    def _drop(self) -> None:
        for writer in list(self._writers):
            reset(writer)

    async def _listen(self) -> None:
        self._whole.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            reset(writer)
            return
        await self._whole.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            reset(writer)
            return
        self._writers |= {writer, far_writer}
        for one, other in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pipe(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection: who is at its other end gets a reset, whether or not what it sent has been read.

    A socket that is closed with nothing to read says an orderly goodbye; one that does not linger never does
    (``SO_LINGER`` of zero seconds, socket(7)).
    """
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port of an address of this host that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
