"""The supervisor: a small detached process that launches, watches and records what one ledger runs below one root.

Started by its path as `python -I -S -X utf8 supervisor.py ROOT LEDGER BOOT SOCKET LINGER_S`; exits 0 when it listens (it has
then detached itself), 3 where another one holds the lock.

1. One per ledger and root: it holds a lock on `<root>/.control/<ledger>.lock` as long as it lives.
2. It outlives the engine.  With no engine and nothing left to watch over it ends by itself.
3. The newest engine wins: the one before it is told and let go.  One that comes back after it lost its connection is not newer.
4. One thread, no waiting but in the selector.  It starts in a few milliseconds and stays small: it imports the standard library
   only, never jobledger, and reaches its neighbours through a bare package of its own.

Messages are JSON objects, one a line.  From the engine: `hello`, `launch`, `adopt`, `stop`, `clear`, `remove`; to it: `hello`,
`started`, `exited`, `not_started`, `lost`, `cleared`, `removed`, `replaced`.
"""

# The working directory is the root, and pathlib costs more than the calls it wraps.
# ruff: noqa: PTH100, PTH108, PTH120

import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":
    __package__ = "jobledger_supervisor"
    sys.modules[__package__] = bare = type(sys)(__package__)
    bare.__path__ = [os.path.dirname(os.path.abspath(__file__))]

from .records import to_line
from .supervised import Table

VERSION = 2
"""Of the messages: an engine and a supervisor of different versions do not talk."""

CONTROL = ".control"
EXIT_ANOTHER = 3

FIRST_ENGINE_S = 10.0
"""How long a new supervisor waits for the engine that started it, however short it lingers later."""
ORDERS_PER_TURN = 4
"""Orders taken before ends are looked at again: a launch takes about half a millisecond, and a freed slot should not wait."""
ORDERS_WAITING_MAX = 4096
"""Orders read ahead; beyond, the engine's own buffer holds them."""
LINE_BYTES_MAX = 16 * 1024 * 1024
"""A longer line than any order can be: whoever writes it is not an engine."""
OUTPUT_BYTES_MAX = 64 * 1024 * 1024
"""Reports an engine may leave unread before it is let go; all of them are on record."""


class Connection:
    """One engine's end of the socket."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self.peer = peer
        self.input = bytearray()
        self.output = bytearray()
        self.writing = False
        self.engine = ""
        """Which engine it is, as it says of itself."""

    def read(self) -> list[dict[str, Any]] | None:
        """The orders that have come; None where the engine is gone or talks nonsense."""
        try:
            part = self.peer.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not part or len(self.input) > LINE_BYTES_MAX:
            return None
        self.input += part
        lines = self.input.split(b"\n")
        self.input = lines.pop()
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            return None  # no engine of ours

    def send(self) -> bool:
        """Write what the socket takes; False where the engine is gone or reads no more."""
        try:
            while self.output:
                del self.output[: self.peer.send(self.output)]
        except BlockingIOError:
            return len(self.output) <= OUTPUT_BYTES_MAX
        except OSError:
            return False
        return True


class Server:
    """The loop: orders in, reports out, ends taken in as they happen."""

    def __init__(self, root: str, ledger: str, boot: str, listener: socket.socket, linger_s: float) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._linger_s = linger_s
        self._patience_s = max(linger_s, FIRST_ENGINE_S)
        self._engine: Connection | None = None
        self._orders: deque[dict[str, Any]] = deque()
        self._idle_since = time.monotonic()
        self._table = Table(root, ledger, boot, self._report)
        self._wake_up, signalled = os.pipe()
        for descriptor in (self._wake_up, signalled):
            os.set_blocking(descriptor, False)
        _take_signals(signalled)
        self._signalled = signalled  # kept open
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_up, selectors.EVENT_READ, self._drain_wake_up)

    def run(self) -> None:
        """Until nobody is connected and nothing lives, and has not for the linger time."""
        while not self._done():
            for key, _ in self._selector.select(self._timeout()):
                handle: Callable[[], None] = key.data
                handle()
            self._table.reap()
            self._take_orders()
            self._table.tick(time.monotonic())
            if self._engine is not None:
                self._flush(self._engine)

    def _done(self) -> bool:
        if self._engine is not None or self._orders or not self._table.empty:
            self._idle_since = time.monotonic()
            return False
        return time.monotonic() - self._idle_since > self._patience_s

    def _timeout(self) -> float | None:
        if self._orders:
            return 0
        tick_at = self._table.next_tick()
        if tick_at is not None:
            return max(0, tick_at - time.monotonic())
        return self._patience_s + 0.01 if self._engine is None and self._table.empty else None

    # engines

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return  # it went away before it was let in
        connection = Connection(peer)
        self._selector.register(peer, selectors.EVENT_READ, lambda: self._serve(connection))

    def _serve(self, connection: Connection) -> None:
        if not self._flush(connection) or len(self._orders) > ORDERS_WAITING_MAX:
            return
        orders = connection.read()
        if orders is None:
            self._disconnect(connection)
            return
        for order in orders:
            if order["op"] == "hello":
                self._welcome(connection, order)
            elif connection is self._engine:
                self._orders.append(order)

    def _welcome(self, connection: Connection, hello: dict[str, Any]) -> None:
        if hello["version"] == VERSION:
            connection.engine = hello["engine"]
            if hello["again"] and self._engine is not None and self._engine.engine != connection.engine:
                connection.output += to_line({"op": "replaced"})
                self._flush(connection)
                return
            # What an older engine asked for and was not begun is dropped, be it gone or not: only the newest knows what is still wanted.
            self._orders.clear()
            if self._engine is not None:
                self._engine.output += to_line({"op": "replaced"})
                self._engine.send()
                self._disconnect(self._engine)
            self._engine = connection
            self._patience_s = self._linger_s
            self._table.attached = True
            self._table.drain_grace_s = hello["drain_grace_s"]
            self._table.environment = {
                name.encode("utf-8", "surrogateescape"): value.encode("utf-8", "surrogateescape") for name, value in hello["environment"].items()
            }
        connection.output += to_line({"op": "hello", "version": VERSION, "pid": os.getpid()})
        self._flush(connection)

    def _disconnect(self, connection: Connection) -> None:
        self._selector.unregister(connection.peer)
        connection.peer.close()
        if connection is self._engine:
            self._engine = None
            self._table.attached = False

    def _flush(self, connection: Connection) -> bool:
        if not connection.send():
            self._disconnect(connection)
            return False
        if bool(connection.output) != connection.writing:
            connection.writing = bool(connection.output)
            events = selectors.EVENT_READ | selectors.EVENT_WRITE if connection.writing else selectors.EVENT_READ
            self._selector.modify(connection.peer, events, lambda: self._serve(connection))
        return True

    # the table

    def _report(self, message: dict[str, Any]) -> None:
        if self._engine is not None:
            self._engine.output += to_line(message)

    def _take_orders(self) -> None:
        for _ in range(min(ORDERS_PER_TURN, len(self._orders))):
            order = self._orders.popleft()
            match order["op"]:
                case "launch":
                    self._table.launch(order)
                case "adopt":
                    self._table.adopt(order)
                case "stop":
                    self._table.stop(order)
                case "clear":
                    self._table.clear(order)
                case "remove":
                    self._table.remove(order)
                case _:
                    pass  # of no version of ours

    def _drain_wake_up(self) -> None:
        os.read(self._wake_up, 4096)


def main() -> int:
    """Take the lock, listen, detach, and run."""
    root, ledger, boot, address, linger_s = sys.argv[1:]
    os.chdir(root)
    lock = os.open(f"{CONTROL}/{ledger}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return EXIT_ANOTHER
    listener = _listen(address)
    bound = os.lstat(address)
    if os.fork():
        os._exit(0)  # it listens: whoever started us can connect
    server = Server(root, ledger, boot, listener, float(linger_s))
    server.run()
    try:
        if os.path.samestat(os.lstat(address), bound):
            os.unlink(address)
    except FileNotFoundError:
        return 0  # the root was removed under our feet
    return 0


def _listen(address: str) -> socket.socket:
    """Bind the socket, private to this user.  The lock is ours, so a socket that is there already is a dead supervisor's."""
    if os.path.lexists(address):
        os.unlink(address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    listener.bind(address)
    os.umask(mask)
    listener.listen()
    listener.setblocking(False)
    return listener


def _take_signals(wake_up: int) -> None:
    """Let SIGCHLD wake the selector, and let nothing else end us but SIGKILL: who dies first cannot tell how the others ended.

    Handlers, and not SIG_IGN: a program that is executed gets the defaults back.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGXFSZ, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)


if __name__ == "__main__":
    sys.exit(main())
