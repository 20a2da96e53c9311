"""A proxy before a Redis server, which cuts connections in the middle of a reply, or freezes."""

import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class RedisProxy:
    """What clients connect to by its `url`.

    ``cuts`` is how many of the next replies are cut off.
    """

    def __init__(self, server: Path, directory: Path) -> None:
        self.url = f"unix://{directory}/proxy.sock"
        self.cuts = 0
        self.was_cut = 0
        self._server = str(server)
        self._random = random.Random(0)
        self._open: list[socket.socket] = []
        self._frozen: set[socket.socket] = set()
        self._is_closed = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"{directory}/proxy.sock")
        self._listening.listen()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., object], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            with suppress(OSError):
                server.connect(self._server)
            self._open += [client, server]
            self._start(self._pump, client, server)
            self._start(self._cut, server, client)

    def _cut(self, server: socket.socket, client: socket.socket) -> None:
        self._pump(server, client, self._is_cut)

    def _is_cut(self, data: bytes, client: socket.socket) -> bool:
        """Cut off a reply, if it is its turn; return whether it was."""
        if self.cuts <= 0:
            return False
        self.cuts -= 1
        self.was_cut += 1
        client.sendall(data[: self._random.randrange(len(data))])
        return True

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        is_cut: Callable[[bytes, socket.socket], bool] = lambda *_: False,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source in self._frozen:
                    self._is_closed.wait()
                if is_cut(data, target):
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Let nothing pass any more on the connections that there are; none is closed."""
        self._frozen.update(self._open)

    def close(self) -> None:
        self._is_closed.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)
        for end in self._open:
            end.close()
