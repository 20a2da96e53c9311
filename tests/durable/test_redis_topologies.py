"""Redis with sentinels and as a cluster: which server has the store, and how it changes."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from oddjob import JobLost, Pool, StoreUnusable
from oddjob.durable.redis import connection
from oddjob.durable.redis.location import Location
from oddjob.operations.findings import Finding, findings
from oddjob.testing.store_contract import StoreContract
from tests.contract.test_stores import Redis
from tests.durable import jobs
from tests.durable.conftest import WAIT, have_left
from tests.hang import until
from tests.long import IS_LONG
from tests.redis_topologies import Cluster, Replicated, has_replicated


@pytest.fixture(autouse=True)
def meeting_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(connection, "_LONGEST_PAUSE", 0.1)
    jobs.gate.clear()
    jobs.runs.clear()
    yield
    jobs.gate.set()
    until(have_left)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


# Sentinels.


def test_a_pool_goes_on_with_the_replica_that_sentinels_promote(replicated: Replicated) -> None:
    """Jobs that were running end there, and what was acknowledged and replicated runs once."""
    with Pool("durable", 2, store=replicated.url) as pool:
        running = pool.submit_many(jobs.hang_for, [0, 1])
        for _ in running:
            assert jobs.entered.acquire(timeout=WAIT)
        waiting = pool.submit_many(jobs.note, range(20))
        until(lambda: has_replicated(replicated.master))
        replicated.master.kill()
        jobs.gate.set()
        assert [job.result(WAIT) for job in running] == ["late", "late"]
        assert [job.result(WAIT) for job in waiting] == list(range(20))
        assert sorted(jobs.runs) == list(range(20))
        assert replicated.replica.ask("ROLE")[0] == b"master"
        assert pool.submit(jobs.note, "new").result(WAIT) == "new"


def test_a_replica_that_lags_runs_again_what_it_has_not_heard_of(replicated: Replicated) -> None:
    """A claim that is unknown to it settles nothing there; what it lacks is lost (fault 39)."""
    with Pool("durable", 2, store=replicated.url) as pool:
        pool.pause()
        claimed = pool.submit(jobs.hang_first)
        ended = pool.submit(jobs.note, "ended")
        until(lambda: has_replicated(replicated.master))
        replicated.cut()
        pool.resume()
        assert jobs.entered.acquire(timeout=WAIT)
        assert ended.result(WAIT) == "ended"
        lost = pool.after(60).submit(jobs.note, "lost")
        replicated.master.kill()
        until(lambda: replicated.replica.ask("ROLE")[0] == b"master")
        pool.resume()
        assert claimed.result(WAIT) == 2
        assert isinstance(lost.exception(WAIT), JobLost)
        jobs.gate.set()
        until(lambda: jobs.runs.count("ended") == 2)
    until(have_left)  # the late outcome was sent by then
    with Pool("durable", 1, store=replicated.url, consume=False) as pool:
        assert pool.find(claimed.id).result(WAIT) == 2
        assert pool.counts()["succeeded"] == 2


def test_what_replicas_are_to_have_is_acknowledged_when_they_have_it(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they lack it, submits raise, and what has ended goes on waiting (fault 39)."""
    monkeypatch.setattr(connection, "_FOR_REPLICAS", 50)
    monkeypatch.setitem(connection.Connection.__init__.__kwdefaults__, "patience", 1.0)
    url = f"{replicated.url}?min_replicas=1"
    with (
        Pool("durable", 1, store=url) as pool,
        Pool("other", 1, store=f"{url}&prefix=other", consume=False) as other,
    ):
        running = pool.submit(jobs.hang_for, 1)
        assert jobs.entered.acquire(timeout=WAIT)
        assert other.submit(jobs.note, 1).state == "queued"
        assert replicated.replica.ask("HLEN", "{oddjob}:durable:job") == 1
        replicated.pause()
        for submit in (other.submit, other.perform, other.options(unique=True).submit):
            with pytest.raises(
                StoreUnusable, match=r"lacks replicas; .* may have been done.* 0 of"
            ):
                submit(jobs.note, 2)
        jobs.gate.set()
        until(lambda: replicated.master.ask("ZCARD", "{oddjob}:durable:ended") == 1)
        assert not running.done()
        replicated.resume()
        assert running.result(WAIT) == "late"
        until(lambda: _accepts(other))
        assert other.counts()["queued"] >= 3  # those of which it was not known, too
        replicated.master.kill()
        until(lambda: replicated.replica.ask("ROLE")[0] == b"master")
        # (The sentinels may go on naming the former master for a while.)
        until(lambda: "0 of the 1 in min_replicas have it yet" in _refusal(other))


def test_replicas_that_a_url_wants_are_counted(replicated: Replicated) -> None:
    """For ``oddjob doctor``."""

    def found(wanted: int) -> Finding:
        url = f"{replicated.url}?min_replicas={wanted}"
        (finding,) = [each for each in findings(url) if each.what.startswith("it has ")]
        return finding

    assert found(1)[:2] == ("ok", "it has 1 replica, and 1 is to have what is acknowledged")
    missing = found(2)
    assert missing[:2] == ("fail", "it has 1 replica, and 2 are to have what is acknowledged")
    assert "min_replicas" in missing.advice


def _refusal(pool: Pool) -> str:
    """Return why a pool takes no job; "" if it does."""
    try:
        pool.submit(jobs.note, 3)
    except StoreUnusable as error:
        return str(error)
    return ""


def _accepts(pool: Pool) -> bool:
    with suppress(StoreUnusable):
        return bool(pool.submit(jobs.note, 0).id)
    return False


def test_a_master_that_is_cut_off_is_left(replicated: Replicated) -> None:
    """It lives, and refuses writes for want of replicas; its wake-ups mean nothing any more."""
    with Pool("durable", 1, store=replicated.url) as pool:
        assert pool.submit(jobs.note, 1).result(WAIT) == 1
        replicated.master.ask("CONFIG", "SET", "min-replicas-to-write", "5")
        with suppress(redis.ResponseError):
            replicated.master.ask("EVAL", "return redis.call('SET', KEYS[1], '')", 1, "written")
            pytest.skip("this server lets scripts write all the same")
        replicated.replica.ask("REPLICAOF", "NO", "ONE")
        replicated.sentinel.ask("SENTINEL", "REMOVE", "main")
        server = ("127.0.0.1", replicated.replica.port)
        replicated.sentinel.ask("SENTINEL", "MONITOR", "main", *server, 1)
        assert pool.submit(jobs.note, 2).result(WAIT) == 2
        until(lambda: replicated.replica.ask("PUBSUB", "CHANNELS", "*wake*"))
        until(lambda: not replicated.master.ask("PUBSUB", "CHANNELS", "*wake*"))


# Clusters.


def test_all_keys_of_a_store_are_on_one_node_of_a_cluster(cluster: Cluster) -> None:
    """Those of stores with other prefixes on others; every way to use a store works there."""
    for prefix in ("a", "b", "c"):
        url = f"{cluster.url}?prefix={prefix}"
        with Pool("first", 2, store=url) as first, Pool("second", 2, store=url) as second:
            submitted = first.submit_many(jobs.note, range(9))
            assert [job.result(WAIT) for job in submitted] == list(range(9))
            after = second.submit(jobs.note, "before")
            assert second.options(after=after).submit(jobs.note, "after").result(WAIT) == "after"
            assert first.after(0.01).submit(jobs.note, "later").result(WAIT) == "later"
    tags = [{key.partition(b"}")[0] for key in node.ask("KEYS", "*")} for node in cluster.nodes]
    assert sorted(map(sorted, tags)) == [[b"{a"], [b"{b"], [b"{c"]]


@pytest.mark.skipif(not IS_LONG, reason="one hash tag says the same: make stress")
class TestCluster(Redis, StoreContract):
    """The store contract, where a script that touched a key of another slot would be refused."""

    @pytest.fixture
    def redis_url(self, cluster: Cluster) -> str:
        for node in cluster.nodes:
            node.ask("FLUSHALL")
        return cluster.url


def test_a_pool_goes_on_when_its_slot_moves_to_another_node(cluster: Cluster) -> None:
    location = Location(cluster.url)
    (key, *_) = location.store_keys().all
    source = cluster.node_of(key)
    target = next(node for node in cluster.nodes if node is not source)
    with Pool("durable", 2, store=cluster.url) as pool:
        running = pool.submit_many(jobs.hang_for, [0, 1])
        for _ in running:
            assert jobs.entered.acquire(timeout=WAIT)
        waiting = pool.submit_many(jobs.note, range(100))
        cluster.move(key, target)
        jobs.gate.set()
        assert [job.result(WAIT) for job in running] == ["late", "late"]
        assert [job.result(WAIT) for job in waiting] == list(range(100))
        assert sorted(jobs.runs) == list(range(100))
        assert cluster.node_of(key) is target


def test_a_pool_goes_on_with_the_node_that_takes_over_from_a_dead_one(cluster: Cluster) -> None:
    (key, *_) = Location(cluster.url).store_keys().all
    master = cluster.node_of(key)
    replica = cluster.add_replica(master)
    with Pool("durable", 2, store=f"{cluster.url},127.0.0.1:{replica.port}") as pool:
        running = pool.submit_many(jobs.hang_for, [0, 1])
        for _ in running:
            assert jobs.entered.acquire(timeout=WAIT)
        waiting = pool.submit_many(jobs.note, range(20))
        until(lambda: has_replicated(master))
        master.kill()
        jobs.gate.set()
        assert [job.result(WAIT) for job in running] == ["late", "late"]
        assert [job.result(WAIT) for job in waiting] == list(range(20))
        assert sorted(jobs.runs) == list(range(20))


# What has another topology than its URL says.


def test_a_server_of_another_kind_is_named(replicated: Replicated) -> None:
    sentinel, master = replicated.sentinel.port, replicated.master.port
    for url, said in {
        f"redis+sentinel://127.0.0.1:{sentinel}/mian": "its sentinels know no master 'mian'",
        f"redis+sentinel://127.0.0.1:{master}/main": rf"127.0.0.1:{master} is no sentinel: name ",
        f"redis+cluster://127.0.0.1:{master}": f"{master} is no cluster node; or begin with redis:",
        f"redis+cluster://127.0.0.1:{sentinel}": f"{sentinel} is no cluster node; or begin with",
        f"redis://127.0.0.1:{sentinel}": r"is a sentinel: begin with redis\+sentinel://",
    }.items():
        with pytest.raises(StoreUnusable, match=said):
            Pool("durable", 1, store=url)


def test_a_node_of_a_cluster_is_named(cluster: Cluster) -> None:
    node = cluster.nodes[-1]
    with pytest.raises(StoreUnusable, match=r"a node of a cluster: begin with redis\+cluster://"):
        Pool("durable", 1, store=f"redis://127.0.0.1:{node.port}")
    with pytest.raises(StoreUnusable, match="cluster"):
        Pool("durable", 1, store=f"redis+cluster://127.0.0.1:{node.port}/1")
