"""What if the way to the broker is bad? A proxy on the loopback address that delays, throttles, silences, refuses and cuts connections.

It knows just enough of the protocol to do so on purpose: frames with their length, the kind of a request, and which answer belongs
to it. It lives in a thread with an event loop of its own; its methods are called from the test.
"""

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection, Coroutine
from types import TracebackType
from typing import Any, Final

HOST: Final = "127.0.0.1"
PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, COORDINATOR, JOIN, HEARTBEAT = 0, 1, 2, 3, 8, 9, 10, 11, 12
IN_TRANSIT: Final = 64  # frames under way in one direction of a connection before its sender is held back
PIECE: Final = 4096  # bytes let through at once where the way is throttled


class Proxy:
    """Forwards to the broker named with ``point``; what it does to the frames can be changed at any time.

    Advertise ``address`` as the broker's listener, so that clients stay on this way. Use it as a context manager.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._target = ("", 0)
        self._links: set[_Link] = set()
        self._connections: set[asyncio.Task[None]] = set()
        with socket.socket() as free:
            free.bind((HOST, 0))
            self._port: int = free.getsockname()[1]
        self.flowing = asyncio.Event()
        self.delay_s = 0.0
        self.bytes_per_s = 0.0
        self.throttled: frozenset[int] = frozenset()  # kinds of requests; empty: whatever passes, in either direction
        self.to_cut: Counter[int] = Counter()
        self.cut: Counter[int] = Counter()
        self.asked: Counter[int] = Counter()
        self.passed: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()  # bytes of requests, by kind
        self.held = 0  # frames that wait for ``flow``

    @property
    def address(self) -> str:
        """``host:port`` for clients, and for the broker to advertise."""
        return f"{HOST}:{self._port}"

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.flow()
        self.accept()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._call(self._refuse())
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def point(self, broker: str) -> None:
        """Forward new connections to this ``host:port``."""
        host, _, port = broker.rpartition(":")
        self._target = (host, int(port))

    def accept(self) -> None:
        """Listen, and take connections."""
        self._call(self._accept())

    def refuse(self) -> None:
        """Close every connection and the listener: whoever connects is refused at once."""
        self._call(self._refuse())

    def silence(self) -> None:
        """Keep every connection open and take new ones, and let nothing through, until ``flow``."""
        self._loop.call_soon_threadsafe(self.flowing.clear)

    def flow(self) -> None:
        """Let through again what ``silence`` held back, if its connections still stand."""
        self._loop.call_soon_threadsafe(self.flowing.set)

    def forget(self) -> None:
        """Let nothing more through on the connections there are, and leave them open; new ones are carried as ever."""
        self._call(self._forget())

    def slow(self, delay_s: float) -> None:
        """Have every frame arrive so much later, in either direction; 0 ends it."""
        self.delay_s = delay_s

    def throttle(self, bytes_per_s: float, kinds: Collection[int] = ()) -> None:
        """Let through so many bytes a second on each connection and direction; of requests of some ``kinds`` only, if named; 0 ends it."""
        self.throttled = frozenset(kinds)
        self.bytes_per_s = bytes_per_s

    def cut_answers(self, kind: int, times: int) -> None:
        """Break the connection in the middle of each of the next ``times`` answers to requests of a kind (the protocol's API key)."""
        self.to_cut[kind] += times

    def heal(self) -> None:
        """End all of it."""
        self.to_cut.clear()
        self.slow(0)
        self.throttle(0)
        self.flow()
        self.accept()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, HOST, self._port, reuse_address=True)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.abort()

    async def _forget(self) -> None:
        for link in self._links:
            link.forgotten = True

    async def _end(self) -> None:
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.carry(self._target)
        except asyncio.CancelledError:
            if not self._loop.is_running():
                raise
        finally:
            self._links.discard(link)
            self._connections.discard(task)


class _Link:
    """One connection of a client and the one to the broker that belongs to it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = reader, writer
        self._writers = [writer]
        self.forgotten = False
        self._kinds: dict[int, int] = {}  # of the requests that are not answered: correlation id -> kind

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def carry(self, target: tuple[str, int]) -> None:
        """Forward until either side ends, or the proxy does."""
        ways: list[asyncio.Task[None]] = []
        try:
            await self._proxy.flowing.wait()
            from_broker, to_broker = await asyncio.open_connection(*target)
            self._writers.append(to_broker)
            from_client, to_client = self._client
            for read, write, answers in ((from_client, to_broker, False), (from_broker, to_client, True)):
                frames: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_TRANSIT)
                ways += [asyncio.create_task(self._take(read, frames, answers)), asyncio.create_task(self._give(frames, write, answers))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except OSError:  # the broker is down: the client sees a connection that ends at once
            return
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.abort()

    async def _take(self, reader: asyncio.StreamReader, frames: "asyncio.Queue[tuple[float, bytes]]", answers: bool) -> None:
        while True:
            head = await reader.readexactly(4)
            frame = head + await reader.readexactly(struct.unpack(">i", head)[0])
            if not answers:
                self._proxy.asked[struct.unpack(">h", frame[4:6])[0]] += 1
            await frames.put((self._proxy._loop.time() + self._proxy.delay_s, frame))

    async def _give(self, frames: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter, answers: bool) -> None:
        proxy = self._proxy
        while True:
            due, frame = await frames.get()
            await asyncio.sleep(max(0.0, due - proxy._loop.time()))
            proxy.held += 1
            await proxy.flowing.wait()
            proxy.held -= 1
            if self.forgotten:
                continue
            if answers:
                kind = self._kinds.pop(struct.unpack(">i", frame[4:8])[0], -1)
                if proxy.to_cut[kind] > 0:
                    proxy.to_cut[kind] -= 1
                    proxy.cut[kind] += 1
                    writer.write(frame[: len(frame) // 2])
                    writer.close()
                    await writer.wait_closed()
                    return
                proxy.passed[kind] += 1
            else:
                kind, _, correlation = struct.unpack(">hhi", frame[4:12])
                self._kinds[correlation] = kind
                proxy.sent[kind] += len(frame)
            free = proxy.throttled and (answers or kind not in proxy.throttled)
            await self._write(writer, frame, 0.0 if free else proxy.bytes_per_s)

    async def _write(self, writer: asyncio.StreamWriter, frame: bytes, rate: float) -> None:
        for start in range(0, len(frame), PIECE if rate else len(frame)):
            piece = frame[start : start + PIECE] if rate else frame
            writer.write(piece)
            await writer.drain()
            if rate:
                await asyncio.sleep(len(piece) / rate)
