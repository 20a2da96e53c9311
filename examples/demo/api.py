"""Api: a server that allows ten connections and a hundred calls a second, and is flaky."""

import contextlib
import http.client
import threading
from collections import deque
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Self

CONNECTIONS, CALLS_PER_SECOND = 10, 100
SECONDS_PER_ANSWER = 0.05
FLAKY = 25  # every so many calls, one fails


class Refused(OSError):
    """The server did not do what it was asked."""


class Api(ThreadingHTTPServer):
    """Refuses what is beyond its limits (429), and now and then what is not (503)."""

    request_queue_size = 200
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Call)
        self.refused = self.served = 0
        self._lock = threading.Lock()
        self._inside = self._calls = 0
        self._arrivals: deque[float] = deque(maxlen=CALLS_PER_SECOND)  # of calls within the limits
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="api")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def answer(self) -> HTTPStatus:
        """Return the status to answer with, after the time that an answer takes."""
        with self._lock:
            now = monotonic()
            is_rate_exceeded = (
                len(self._arrivals) == CALLS_PER_SECOND and now - self._arrivals[0] < 1
            )
            if is_rate_exceeded or self._inside == CONNECTIONS:
                status = HTTPStatus.TOO_MANY_REQUESTS
            else:
                self._arrivals.append(now)
                self._calls += 1
                is_down = self._calls % FLAKY == 0
                status = HTTPStatus.SERVICE_UNAVAILABLE if is_down else HTTPStatus.OK
            is_served = status is HTTPStatus.OK
            self._inside += is_served
        sleep(SECONDS_PER_ANSWER)
        with self._lock:
            self._inside -= is_served
            self.served += is_served
            self.refused += not is_served
        return status

    def call(self) -> None:
        """Call the server, as a client does; raise `Refused` if it refuses."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            status = connection.getresponse().status
        if status != HTTPStatus.OK:
            raise Refused(HTTPStatus(status).phrase)


class _Call(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.send_response_only(self.server.answer())
        self.send_header("Content-Length", "0")
        self.end_headers()
