"""Litestar: the pool lives as long as the application, and handlers get it by dependency."""

from litestar import Litestar, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.testing import TestClient

import oddjob
from oddjob.contrib.asgi import lifespan

sent: list[str] = []


async def pool_of(state: State) -> oddjob.Pool:
    """Return the pool of this application."""
    pool: oddjob.Pool = state.oddjob
    return pool


@post("/signup", status_code=202, dependencies={"mail": Provide(pool_of)})
async def signup(to: str, mail: oddjob.Pool) -> dict[str, str]:
    """Answer at once; the mail is sent after that."""
    return {"job": (await mail.asubmit(sent.append, to)).id}


app = Litestar([signup], lifespan=[lifespan(oddjob.Pool("mail", 4))])

with TestClient(app) as client:  # when it is left, the pool has been drained
    answer = client.post("/signup", params={"to": "ada@example.org"})

print(answer.status_code, answer.json(), sent)
assert (answer.status_code, sent) == (202, ["ada@example.org"])
