"""Flask: pools from the configuration, whose jobs have an application context."""

import flask

import oddjob
from oddjob.contrib.flask import OddJob

sent: list[str] = []
app = flask.Flask("shop")
app.config["ODDJOB"] = {"default_pool": "mail", "pool_size": 4}
app.config["SENDER"] = "shop@example.org"
OddJob(app)


def send(to: str) -> None:
    """Send a mail; the configuration is at hand, as in a request."""
    sent.append(f"{flask.current_app.config['SENDER']} to {to}")


@app.post("/signup")
def signup() -> tuple[dict[str, str], int]:
    """Answer at once; the mail is sent after that."""
    job = oddjob.pool("mail").submit(send, flask.request.args["to"])
    return {"job": job.id}, 202


answer = app.test_client().post("/signup?to=ada@example.org")
oddjob.shutdown_all()

print(answer.status_code, answer.json, sent)
assert (answer.status_code, sent) == (202, ["shop@example.org to ada@example.org"])
