"""Ten connections, a hundred calls a minute: a server counts, and no limit is exceeded."""

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import oddjob

CONNECTIONS, CALLS, MINUTE = 10, 100, 1.0  # scaled down to a second
MARGIN = 0.5  # seconds that one call may be on its way longer than another
arrivals: list[float] = []
lock, inside = threading.Lock(), {"now": 0, "most": 0}


class Visit(BaseHTTPRequestHandler):
    """One call."""

    def do_GET(self) -> None:
        """Count it, and take some time."""
        with lock:
            arrivals.append(time.monotonic())
            inside["now"] += 1
            inside["most"] = max(inside["most"], inside["now"])
        time.sleep(0.02)
        with lock:
            inside["now"] -= 1
        self.send_response_only(200)
        self.end_headers()


def call(_: int) -> None:
    """Call the server and wait for its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request("GET", "/")
    connection.getresponse().close()


ThreadingHTTPServer.request_queue_size = 100
server = ThreadingHTTPServer(("127.0.0.1", 0), Visit)
threading.Thread(target=server.serve_forever, daemon=True).start()

with oddjob.Pool("api", CONNECTIONS, rate=oddjob.Rate(CALLS, per=MINUTE + MARGIN)) as api:
    list(api.map(call, range(250)))
server.shutdown()
server.server_close()

busiest = max(sum(0 <= each - first < MINUTE for each in arrivals) for first in arrivals)
print(f"{inside['most']} connections at most, {busiest} calls in the busiest minute")
assert inside["most"] <= CONNECTIONS, "there was an eleventh connection"
assert busiest <= CALLS, "there was a call too many"
