"""The ASGI adapter: the dashboard is synchronous, so it runs in a pool of its own."""

from collections.abc import Awaitable, Callable
from typing import Any

from oddjob.dashboard.request import MOST_BYTES, OWN_POOL, Request, Response, parse_query
from oddjob.registry import start_pool

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def application(
    handle: Callable[[Request], Response],
) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
    """Return an ASGI application; what it is mounted under is the scope's ``root_path``."""

    async def dashboard(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        body = b""
        message: dict[str, Any] = {"more_body": True}
        while message.get("more_body") and len(body) <= MOST_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
        base, path = scope.get("root_path", ""), scope["path"]
        if path == base or path.startswith(f"{base}/"):
            path = path.removeprefix(base)
        query = parse_query(scope["query_string"].decode("latin-1"))
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        request = Request(scope["method"], path, base, query, headers, body, scope)
        pool = start_pool(OWN_POOL, pool_size=4, store=False, exist_ok=True)
        response = await pool.submit(handle, request)
        pairs = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": pairs})
        await send({"type": "http.response.body", "body": response.body})

    return dashboard
