"""Send 200 requests to a server that serves ten at a time: within that limit, and without it."""

import contextlib
import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import perf_counter, sleep
from typing import NamedTuple

import oddjob

SEATS, REQUESTS, SECONDS_PER_ANSWER = 10, 200, 0.05
Ask = Callable[[int], int]


class Server(ThreadingHTTPServer):
    """Answers 503 while ten requests are being served."""

    request_queue_size = REQUESTS  # the kernel refuses none: that is done here

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.seats = threading.Semaphore(SEATS)
        self.lock, self.inside, self.peak = threading.Lock(), 0, 0

    def answer(self) -> int:
        """Take some time, and a seat if one is free; return the status to answer with."""
        with self.lock:
            self.inside += 1
            self.peak = max(self.peak, self.inside)
        is_served = self.seats.acquire(blocking=False)
        sleep(SECONDS_PER_ANSWER)
        if is_served:
            self.seats.release()
        with self.lock:
            self.inside -= 1
        return 200 if is_served else 503


class Visit(BaseHTTPRequestHandler):
    """One connection."""

    server: Server

    def do_GET(self) -> None:
        """Answer when the seat is free again, so that the client may send the next request."""
        self.send_response_only(self.server.answer())
        self.send_header("Content-Length", "0")
        self.end_headers()


def get(port: int, number: int) -> int:
    """Send one request and return the status of the answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as server:
        server.request("GET", f"/{number}")
        return server.getresponse().status


def through_a_pool(name: str, pool_size: int, ask: Ask) -> list[int]:
    """Send all requests through a named pool: that is all it takes to keep a limit."""
    with oddjob.Pool(name, pool_size) as pool:
        return list(pool.map(ask, range(REQUESTS)))


def from_a_thread_each(ask: Ask) -> list[int]:
    """Send all requests at once."""
    answers: list[int] = []
    tasks = [lambda n=number: answers.append(ask(n)) for number in range(REQUESTS)]
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class Row(NamedTuple):
    """The outcome of one way of sending the requests."""

    title: str
    served: int
    refused: int
    peak: int


def measure(title: str, server: Server, send_all: Callable[[Ask], list[int]]) -> Row:
    """Send the requests in one way and print what the server saw."""
    server.peak, start = 0, perf_counter()
    answers = send_all(lambda number: get(server.server_port, number))
    row = Row(title, answers.count(200), answers.count(503), server.peak)
    print(f"{title:20}{row.served:8}{row.refused:10}{row.peak:8}{perf_counter() - start:8.2f} s")
    return row


def main() -> None:
    """Send the requests in three ways and compare."""
    print(f"{REQUESTS} requests; the server serves {SEATS} at a time and refuses the others.")
    print(f"\n{'':20}{'served':>8}{'refused':>10}{'peak':>8}{'time':>10}")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        rows = [
            measure('Pool("api", 10)', server, lambda ask: through_a_pool("api", 10, ask)),
            measure('Pool("crowd", 100)', server, lambda ask: through_a_pool("crowd", 100, ask)),
            measure("200 threads", server, from_a_thread_each),
        ]
        server.shutdown()
    print("\nThe answers, # served and . refused:\n")
    for row in rows:
        print(f"{row.title:20}  {'#' * (row.served // 4):.<50}")
    print(f"\nConnections at the busiest moment, | is {SEATS}:\n")
    for row in rows:
        print(f"{row.title:20}  {'#' * min(row.peak // 5, 2)}|{'#' * (row.peak // 5 - 2)}")
    limited, *unlimited = rows
    assert (limited.served, limited.refused) == (REQUESTS, 0), limited
    assert all(row.refused > 0 and limited.peak <= SEATS < row.peak for row in unlimited), rows


if __name__ == "__main__":
    main()
