"""FastAPI: mail is sent by a pool with a limit, and a full queue is answered with 503."""

from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

import oddjob
from oddjob.contrib.asgi import lifespan

sent: list[str] = []
app = FastAPI(lifespan=lifespan(oddjob.Pool("mail", 4, max_queue=1000, when_full="raise")))


def pool_of(request: Request) -> oddjob.Pool:
    """Return the pool of this application."""
    pool: oddjob.Pool = request.state.oddjob
    return pool


Mail = Annotated[oddjob.Pool, Depends(pool_of)]


@app.post("/signup", status_code=202)
async def signup(to: str, mail: Mail) -> dict[str, str]:
    """Answer at once; the mail is sent after that."""
    return {"job": (await mail.asubmit(sent.append, to)).id}


@app.exception_handler(oddjob.QueueFull)
async def busy(_request: Request, _error: Exception) -> JSONResponse:
    """Say when to try again."""
    return JSONResponse({"detail": "busy"}, 503, {"Retry-After": "5"})


with TestClient(app) as client:  # when it is left, the pool has been drained
    answer = client.post("/signup", params={"to": "ada@example.org"})

print(answer.status_code, answer.json(), sent)
assert (answer.status_code, sent) == (202, ["ada@example.org"])
