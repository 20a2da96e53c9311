"""Mistakes that type checkers find: each marked line (for mypy, with these codes), and no other."""

import datetime as dt
from typing import Self, Unpack, assert_type

import oddjob
from oddjob import Job, JobFunction, Pool

pool = Pool("email", 3)


def send(to: str, *, copies: int = 1) -> bool:
    return bool(to) and copies > 0


async def fetch(url: str) -> bytes:
    return url.encode()


@pool.job
def greet(to: str, *, copies: int = 1) -> bool:
    return send(to, copies=copies)


@pool.job(name="download")
async def download(url: str) -> bytes:
    return await fetch(url)


class Mailer:
    @pool.job
    def send(self, to: str) -> bool:
        return send(to)


mailer = Mailer()

# A pool's own verbs check the arguments of the function.
pool.submit(send)  # error: call-overload
pool.submit(send, 3)  # error: call-overload
pool.submit(send, "you", 2)  # error: call-overload
pool.submit(send, "you", copy=2)  # error: arg-type, call-arg
pool.submit(send, "you", copies="2")  # error: arg-type
pool.submit(fetch, 3)  # error: call-overload
pool.submit(3)  # error: call-overload
pool.submit_many(send, [3])  # error: arg-type
pool.submit_many(send, 3)  # error: call-overload
pool.perform(send)  # error: call-arg
pool.perform(send, 3)  # error: arg-type
pool.perform_many(send, [3])  # error: arg-type
pool.options(name="x").submit(send, 3)  # error: call-overload
pool.options(nme="x")  # error: call-arg

# So does a decorated function.
greet()  # error: call-arg
greet(3)  # error: arg-type
greet.submit()  # error: call-arg
greet.submit(3)  # error: arg-type
greet.submit("you", copy=2)  # error: call-arg
greet.perform(3)  # error: arg-type
greet.options(name="x").submit(3)  # error: arg-type
greet.options(nme="x")  # error: call-arg
greet.map(3)  # error: call-overload
greet.map(["you"], chunksize="1")  # error: call-overload
download.submit(3)  # error: call-overload
download.perform()  # error: call-arg

# And a decorated method, bound and not.
mailer.send(3)  # error: arg-type
mailer.send.submit()  # error: call-arg
mailer.send.submit(3)  # error: arg-type
mailer.send.submit(mailer, "you")  # error: arg-type, call-arg
Mailer.send.submit("you")  # error: arg-type, call-arg

# And the module's verbs.
oddjob.perform("email", send)  # error: call-arg
oddjob.perform("email", send, 3)  # error: arg-type
oddjob.perform(3, send, "you")  # error: arg-type
oddjob.perform_many("email", send, [3])  # error: arg-type
oddjob.async_perform("email", send, 3)  # error: call-overload
oddjob.async_perform("email", fetch, 3)  # error: call-overload
oddjob.async_perform_many("email", fetch, [3])  # error: arg-type
oddjob.await_(send)  # error: arg-type
oddjob.await_many([send])  # error: arg-type
oddjob.await_many(pool.submit(send, "you"))  # error: arg-type
oddjob.perform_this(3)  # error: call-overload
oddjob.perform_this("email")(send)  # error: arg-type
oddjob.workers(3)  # error: arg-type

# What comes out has its type.
number: int = pool.submit(send, "you").result()
text: str = pool.submit(send, "you").result()  # error: assignment
job: Job[str] = greet.submit("you")  # error: assignment
jobs: list[Job[str]] = download.submit_many(["url"])  # error: assignment
results: list[str] = oddjob.await_many([greet.submit("you")])  # error: list-item
function: JobFunction[[int], bool] = greet  # error: assignment
nothing = pool.perform(send, "you")  # error: func-returns-value
nothing = oddjob.perform("email", send, "you")  # error: func-returns-value
if pool.submit(send, "you").state == "finished":  # error: comparison-overlap
    raise SystemExit
pool.submit(send, "you").state = "queued"  # error: misc

# Options have names and types.
Pool("report", pool_sise=3)  # error: call-arg
Pool("report", "3", 4)  # error: arg-type
Pool("report", max_seconds="5")  # error: arg-type
Pool("report", on_error=send)  # error: arg-type
pool.job(nme="x")  # error: call-overload
pool.job("report")  # error: call-overload
pool.shutdown(timeout="3")  # error: arg-type
pool.drain("3")  # error: arg-type
pool.options(timeout="3")  # error: arg-type
pool.options(priority="high")  # error: arg-type
Pool("x", when_full="wait")  # error: arg-type
pool.options(prio=3)  # error: call-arg
pool.options(retry_on="OSError")  # error: arg-type
pool.options(retry_on=len)  # error: arg-type
pool.options(timeout=dt.time(1))  # error: arg-type
pool.job(every=5, overlap="yes")  # error: call-overload
pool.wait()  # error: attr-defined
oddjob.start_pool("api", pool_sise=3)  # error: call-arg
oddjob.start_pool("api", exist_ok="yes")  # error: arg-type
later = oddjob.Later  # error: attr-defined
oddjob.submit(send, "ann")  # error: attr-defined
oddjob.perform_this(pool, "async")  # error: call-overload
oddjob.Rate(100, period=60)  # error: call-arg
Pool("report", on_event=send)  # error: arg-type
pool.group().submit(send, 3)  # error: call-overload
oddjob.configure(["email"])  # error: arg-type
oddjob.pool(3)  # error: arg-type
oddjob.shutdown_all("5")  # error: arg-type

# Timers.
pool.after("5").submit(send, "you")  # error: arg-type
pool.after(5).submit(send, 3)  # error: call-overload
pool.at(5).perform(send, "you")  # error: arg-type
pool.cron("* * * * *", dst="twice")  # error: arg-type
greet.after(5).submit(3)  # error: arg-type
seconds: int = pool.after(5).perform(send, "you").cancel()  # error: assignment

# Settings that are declared as such, and options that are passed on.
settings: oddjob.Settings = {"pool_sise": 10}  # error: typeddict-unknown-key
settings = {"when_full": "wait"}  # error: typeddict-item
settings = {"extra_pools": [{"app": {"pool_sise": 2}}]}  # error: dict-item
app: oddjob.PoolSettings = {"default_pool": "job"}  # error: typeddict-unknown-key
app = {"retries": "3"}  # error: typeddict-item


def enqueue(to: str, **options: Unpack[oddjob.JobOptions]) -> Job[bool]:
    return pool.options(**options).submit(send, to)


enqueue("you", prio=3)  # error: call-arg
enqueue("you", priority="high")  # error: arg-type


# What pyright knows and mypy does not: a method that returns nothing but `Self`.
class Builder:
    @pool.job
    def more(self, number: int) -> Self:
        return self if number else self.more(number)

    @pool.job
    def less(self, number: int) -> "Builder":
        return self if number else self.less(number)

    @pool.job
    def maybe(self, number: int) -> Self | None:
        return self if number else None


def pyright_alone_knows_self_when_it_is_called() -> None:
    assert_type(Builder().more(1), Builder)  # error: assert-type


def pyright_alone_knows_self_when_it_is_submitted() -> None:
    assert_type(Builder().more.submit(1), Job[Builder])  # error: assert-type


def both_know_the_class_by_its_name_and_self_in_a_type() -> None:
    assert_type(Builder().less(1), Builder)
    assert_type(Builder().less.submit(1).result(), Builder)
    assert_type(Builder().maybe.submit(1), Job[Builder | None])
