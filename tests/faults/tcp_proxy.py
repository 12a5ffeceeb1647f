"""A TCP proxy between luigi and MySQL that is slow, silent, rude or down, as it is told while it runs."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK_BYTES = 32 * 1024
CHUNKS_ON_THE_WAY = 8
POLL_S = 0.02
ALWAYS = 1_000_000

# What every query for rows has in its text, and no other statement.
ROWS_QUERY = b"; rows */"


@dataclass
class Fault:
    """What happens to a connection, and when.

    Attributes:
        then: "cut" (the orderly end), "reset" (RST), "stall" (open and silent), or a function that is called while the
            bytes wait; they go on when it returns.
        after_bytes: how many bytes the server sends before it happens.
        on: the bytes are counted from when the client has sent this; empty counts from the beginning.
        times: so many connections are hit, and no more.
    """

    then: str | Callable[[], None]
    after_bytes: int = 0
    on: bytes = ROWS_QUERY
    times: int = ALWAYS


@dataclass(eq=False)
class Connection:
    """One connection through the proxy; `answered` counts the server's bytes since the client sent `Fault.on`."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    asked: bytes = b""
    is_marked: bool = False
    answered: int = 0
    was_hit: bool = False


@dataclass
class TcpProxy:
    """Forwards `port` of 127.0.0.1 to `upstream`; every attribute may be changed while it runs."""

    upstream: tuple[str, int]
    latency_s: float = 0
    bytes_per_s: float = 0
    fault: Fault | None = None
    port: int = 0
    received_bytes: int = 0
    connections: list[Connection] = field(default_factory=list)
    hits: int = 0
    failures: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        self._call(self._listen())

    def lift(self) -> None:
        """Take back everything that was switched on."""
        self.latency_s, self.bytes_per_s, self.fault = 0, 0, None
        self.come_up()

    def come_up(self) -> None:
        """Accept connections again."""
        if not self._server.is_serving():
            self._call(self._listen())

    def go_down(self) -> None:
        """Refuse every new connection, and reset those that are open."""
        self._call(self._close())

    def reset_all(self) -> None:
        """Reset the connections that are open."""
        self._loop.call_soon_threadsafe(lambda: [self._end(connection, "reset") for connection in self.connections])

    def answers(self) -> list[int]:
        """Return, for each connection that asked for rows, the bytes that the server sent from then on."""
        return [connection.answered for connection in self.connections if connection.is_marked]

    def stop(self) -> None:
        """End the proxy and its connections."""
        self._call(self._close())
        for task in self._tasks:
            self._loop.call_soon_threadsafe(task.cancel)
        time.sleep(POLL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for connection in self.connections:
            self._end(connection, "reset")

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.to_thread(self._connect)
            server_reader, server = await asyncio.open_connection(sock=upstream, limit=CHUNK_BYTES)
        except OSError:
            client.transport.abort()
            return
        connection = Connection(client, server)
        self.connections.append(connection)
        pumps = (self._pump_questions(client_reader, connection), self._pump_answers(server_reader, connection))
        tasks = [self._loop.create_task(pump) for pump in pumps]
        self._tasks.update(tasks)
        # Who goes away, client or server, takes the other with him: a proxy must not keep a dead query alive.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.difference_update(tasks)
        self._end(connection, "cut")

    def _connect(self) -> socket.socket:
        """Connect to the server with a small window, or it would have sent megabytes before the first is let by."""
        upstream = socket.socket()
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
        upstream.connect(self.upstream)
        upstream.setblocking(False)
        return upstream

    async def _pump_questions(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                self._look_for_mark(connection, chunk)
                await asyncio.sleep(self.latency_s / 2)
                connection.server.write(chunk)
                await connection.server.drain()

    def _look_for_mark(self, connection: Connection, chunk: bytes) -> None:
        mark = self.fault.on if self.fault else ROWS_QUERY
        connection.asked = connection.asked[-len(mark) :] + chunk if mark else b""
        if mark in connection.asked and not connection.is_marked:
            connection.is_marked, connection.answered = True, 0

    async def _pump_answers(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        """Read the server's bytes at once, and hand them on when the line has carried them."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_ON_THE_WAY)
        delivering = self._loop.create_task(self._deliver(on_the_way, connection))
        try:
            with suppress(OSError):
                while chunk := await reader.read(CHUNK_BYTES):
                    await on_the_way.put((time.monotonic() + self.latency_s / 2, chunk))
                await on_the_way.put((0, b""))
                await delivering
        finally:
            delivering.cancel()

    async def _deliver(self, on_the_way: "asyncio.Queue[tuple[float, bytes]]", connection: Connection) -> None:
        with suppress(OSError):
            while True:
                due, chunk = await on_the_way.get()
                if not chunk:
                    return
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                while chunk and not connection.client.is_closing():
                    chunk = await self._hand_on(chunk, connection)

    async def _hand_on(self, chunk: bytes, connection: Connection) -> bytes:
        """Give the client as much as the fault lets by, let it happen, and return what is left."""
        fault, passing = self.fault, len(chunk)
        if fault and not connection.was_hit and (connection.is_marked or not fault.on):
            room = fault.after_bytes - connection.answered
            if room <= 0 and self.hits < fault.times:
                self.hits += 1
                connection.was_hit = True
                await self._happen(fault.then, connection)
                return chunk
            passing = min(passing, room) if room > 0 else passing
        if self.bytes_per_s:
            await asyncio.sleep(passing / self.bytes_per_s)
        connection.client.write(chunk[:passing])
        connection.answered += passing
        self.received_bytes += passing
        await connection.client.drain()
        return chunk[passing:]

    async def _happen(self, then: str | Callable[[], None], connection: Connection) -> None:
        if callable(then):
            try:
                await asyncio.to_thread(then)
            except Exception as error:  # noqa: BLE001  # the test's own: said by the trial
                self.failures.append(error)
                self._end(connection, "reset")
        elif then == "stall":
            while self.fault and not connection.client.is_closing():
                await asyncio.sleep(POLL_S)
        else:
            self._end(connection, then)

    def _end(self, connection: Connection, how: str) -> None:
        for writer in (connection.client, connection.server):
            if writer.is_closing():
                continue
            if how == "reset":
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()
