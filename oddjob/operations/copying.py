"""copy_store: moves the waiting jobs of a store, and its recurring entries, to another store.

Guarantees
  * No job is lost, and none runs twice, whatever is killed on the way: a copy that was interrupted
    is finished by the next one.
  * What has begun ends where it is: running jobs, those that wait for another attempt or for other
    jobs, and all jobs behind them in their key.

Assumptions: both stores keep what they have acknowledged; no two stores have a commit in common.

How a job moves, with its pool paused in the source, so that no process begins it there:
  (1) It is stored in the target, due in a hundred years, with a note of where it comes from.
  (2) It is deleted from the source.
  (3) It is made due in the target when it was due in the source.
Of a copy that has died between these steps, the next one finds the note: if the source has the job,
(1) is undone; else (3) is done. There is one copy at a time, or one could take the steps of another
one for those of a dead one.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from oddjob.durable.codec import Meta
from oddjob.durable.record import Entry, Record, State, Submit
from oddjob.durable.recurring import encode_submits, submits_of
from oddjob.durable.store import Filter
from oddjob.durable.stores import codec_of, let_go, runner_of
from oddjob.errors import PayloadError, StoreUnusable
from oddjob.operations.access import StoreAccess
from oddjob.operations.stores import file_of
from oddjob.schedule.clock import clock
from oddjob.signing import as_signing_keys

Keys = str | bytes | Iterable[str | bytes]

_AT_ONCE: Final = 200  # jobs
_PAGE: Final = 5000  # records; of Redis, each page takes a look at the ids of all jobs
_HELD: Final = 100 * 365.25 * 86400.0  # seconds
_MOVED: Final = 1e13  # the tick of an entry that has been moved; seconds since the epoch
_NOTE: Final = "oddjob.copied_from"  # in what middleware passes on
_PUT_OFF: Final = 60.0  # seconds, for a paused entry, so that it does not fire before it is paused
_TRIES: Final = 100  # of moving an entry that processes fire meanwhile

_LINKED: Final = "has to do with other jobs, or has taken steps"
_BEGUN: Final = "was begun, and waits for its next attempt"
_BEHIND: Final = "is of a key with a job that stays"


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What `copy_store` has done.

    Attributes:
        moved: jobs that wait in the target now.
        twins: unique jobs that were deleted, as the target had the same ones.
        entries: recurring entries that fire in the target now.
        running: jobs that run in the source, and end there.
        left: waiting jobs that were left in the source: how many for each reason.
    """

    moved: int
    twins: int
    entries: int
    running: int
    left: dict[str, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left in the source; else run it again when something has ended."""
        return not self.running and not self.left


class _Place(NamedTuple):
    """Where a job comes from."""

    copy: str
    job: str
    due: float | None


class _Waiting(NamedTuple):
    """A job that waits in the source."""

    job: Any
    key: str | None
    due: float | None
    has_begun: bool


class _Moving(NamedTuple):
    """A job on its way."""

    job: Any
    submit: Submit
    due: float | None


def copy_store(
    source: str,
    target: str,
    *,
    source_keys: Keys | None = None,
    target_keys: Keys | None = None,
) -> CopyReport:
    """Move what waits in a store to another one; see `oddjob.copy_store`."""
    files = [each for each in map(file_of, (source, target)) if each is not None]
    if not files:
        raise ValueError(
            "one of the two stores must be a SQLite file: beside it, notes are kept of what to do "
            "if the copy is interrupted. Copy to a file first, and from that on"
        )
    if len({each.resolve() for each in files}) < len(files):
        raise ValueError(f"both stores are {files[0]}")
    source_access = _open(source, source_keys, must_exist=True)
    try:
        target_access = _open(target, target_keys, must_exist=False)
        try:
            with _notes_at(Path(f"{files[0].absolute()}-oddjob")) as notes:
                return _Copy(source_access, target_access, notes).run()
        finally:
            let_go(target)
    finally:
        let_go(source)


def _open(url: str, keys: Keys | None, *, must_exist: bool) -> StoreAccess:
    signing = None if keys is None else as_signing_keys("signing keys", keys)
    access = StoreAccess(partial(runner_of, url, must_exist=must_exist), codec_of(url, signing))
    access.reader  # noqa: B018  (it raises if the store cannot be opened)
    return access


class _Notes:
    """What the next copy has to know if this one dies: a file that is there until it is done."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self.was_interrupted: Final = path.exists()
        known = json.loads(path.read_text()) if self.was_interrupted else {}
        self.copy: Final[str] = known.get("copy") or uuid4().hex
        self.paused: Final[list[str]] = known.get("paused", [])  # pools, by a copy

    def write(self) -> None:
        """Put them on the disk."""
        new = self._path.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"copy": self.copy, "paused": self.paused}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

    def delete(self) -> None:
        """Note that there is nothing to do."""
        self._path.unlink()


@contextmanager
def _notes_at(folder: Path) -> Iterator[_Notes]:
    """Return the notes of a file's copies, while no other copy uses them.

    Raises:
        StoreUnusable: another copy is under way.
    """
    import fcntl  # there is none on Windows

    with (folder / "copy.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreUnusable(
                f"another process copies {folder.name.removesuffix('-oddjob')} at present"
            ) from None
        yield _Notes(folder / "copy.json")


class _Copy:
    """One copy."""

    def __init__(self, source: StoreAccess, target: StoreAccess, notes: _Notes) -> None:
        self._source: Final = source
        self._target: Final = target
        self._notes: Final = notes
        self._moved = self._twins = self._entries = 0
        self._left: dict[str, Counter[str]] = {}  # by pool
        self._entries_left: Counter[str] = Counter()

    def run(self) -> CopyReport:
        """Finish what another one has begun; then move what can be moved."""
        pools = self._source.reader.pools()
        if self._notes.was_interrupted:
            self._settle_held()
        self._notes.write()
        for pool, is_paused in pools.items():
            self._move_pool(pool, is_paused=is_paused and pool not in self._notes.paused)
        self._notes.delete()
        running = sum(self._source.reader.counts(pool)[State.RUNNING] for pool in pools)
        left = sum(self._left.values(), self._entries_left)
        return CopyReport(self._moved, self._twins, self._entries, running, dict(left))

    def _settle_held(self) -> None:
        """Finish what a copy has left that was interrupted: see the head of this file."""
        for pool in self._target.reader.pools():
            found = [
                (record, place)
                for record in _records(self._target, pool, State.SCHEDULED)
                if (place := self._place_of(record)) is not None
            ]
            for record, place in reversed(found):  # the oldest one first
                if self._source.reader.record(place.job) is not None:
                    self._target.change("delete", [record.id])
                else:
                    self._release({record.id: place.due})
                    self._moved += 1

    def _place_of(self, record: Record) -> _Place | None:
        """Return where a job of the target comes from, if it is held there."""
        if record.run_at is None or record.run_at < clock.wall() + _HELD / 2:
            return None
        with suppress(PayloadError):
            meta = self._target.codec.decode_meta(record.meta, record.pool, record.function)
            if _NOTE in meta.carrier:
                place = _Place(*json.loads(meta.carrier[_NOTE]))
                return place if place.copy == self._notes.copy else None
        return None

    def _move_pool(self, pool: str, *, is_paused: bool) -> None:
        if is_paused:  # so it is to stay
            self._target.change(
                "pause", pool, is_paused=True, reason=self._source.reader.pause_reason(pool)
            )
        else:
            self._notes.paused.append(pool)
            self._notes.write()
            self._source.change(
                "pause", pool, is_paused=True, reason="it is moved to another store"
            )
        try:
            self._move_entries(pool)
            while self._move_jobs(pool):
                pass
        finally:
            if not is_paused:
                self._source.change("pause", pool, is_paused=False)
                while pool in self._notes.paused:
                    self._notes.paused.remove(pool)
                self._notes.write()

    # Jobs.

    def _move_jobs(self, pool: str) -> int:
        """Move the jobs that wait at present and can be moved; return how many."""
        before = self._moved + self._twins
        left = self._left[pool] = Counter()
        kept = {each.key for each in _records(self._source, pool, State.RUNNING)}
        waiting = [
            _Waiting(each.id, each.key, each.run_at, bool(each.attempt or each.crashes))
            for state in (State.QUEUED, State.SCHEDULED)
            for each in _records(self._source, pool, state)
        ]
        waiting.sort(key=lambda each: (len(str(each.job)), each.job))
        keyed = [each for each in waiting if each.key is not None]
        kept |= {job.key for job, found in self._look_at(keyed) if isinstance(found, str)}
        kept.discard(None)
        for at in range(0, len(waiting), _AT_ONCE):
            moving: list[_Moving] = []
            for job, found in self._look_at(waiting[at : at + _AT_ONCE]):
                if isinstance(found, _Moving) and job.key not in kept:
                    moving.append(found)
                else:
                    left[_BEHIND if isinstance(found, _Moving) else found] += 1
            if moving:
                self._move(moving)
        return self._moved + self._twins - before

    def _look_at(self, jobs: list[_Waiting]) -> Iterator[tuple[_Waiting, _Moving | str]]:
        """Yield jobs as the target is to have them, or why it cannot."""
        for at in range(0, len(jobs), _AT_ONCE):
            some = jobs[at : at + _AT_ONCE]
            submits = self._source.reader.submits_of([each.job for each in some])
            for each in some:
                yield each, self._moving(each, submits.get(each.job))

    def _moving(self, waiting: _Waiting, submit: Submit | None) -> _Moving | str:
        if waiting.has_begun:
            return _BEGUN
        if submit is None:
            return _LINKED
        place = _Place(self._notes.copy, str(waiting.job), waiting.due)
        try:
            return _Moving(
                waiting.job, self._encoded(submit, {_NOTE: json.dumps(place)}), waiting.due
            )
        except (PayloadError, TypeError, ValueError) as error:
            return str(error)

    def _encoded(self, submit: Submit, note: dict[str, str]) -> Submit:
        """Return a submit in the codec of the target."""
        partition, old, new = submit.partition, self._source.codec, self._target.codec
        call = old.decode_call(submit.payload, partition.pool, partition.function)
        if call.takes_value:
            raise ValueError(_LINKED)
        meta = old.decode_meta(submit.meta, partition.pool, partition.function)
        meta = Meta({**meta.carrier, **note}, meta.options)
        return replace(
            submit,
            payload=new.encode_call(partition, call.args, call.kwargs),
            meta=new.encode_meta(meta, partition),
        )

    def _move(self, jobs: list[_Moving]) -> None:
        held = self._target.submit([replace(each.submit, delay=_HELD) for each in jobs])
        deleted = self._source.change("delete", [each.job for each in jobs])
        dues, unwanted = {}, []
        for each, answer in zip(jobs, held, strict=True):
            is_gone = deleted == len(jobs) or self._source.reader.record(each.job) is None
            if not answer.is_new:
                self._twins += is_gone
            elif is_gone:
                dues[answer.id] = each.due
            else:  # the pool was resumed by hand, and it has begun
                unwanted.append(answer.id)
        if unwanted:
            self._target.change("delete", unwanted)
        self._release(dues)
        self._moved += len(dues)

    def _release(self, dues: dict[Any, float | None]) -> None:
        now = clock.wall()
        delays = {job: due - now for job, due in dues.items() if due is not None and due > now}
        due = [job for job in dues if job not in delays]
        self._target.change("retry", due)  # which queues scheduled jobs at once
        self._target.change("reschedule", delays)

    # Recurring entries.

    def _move_entries(self, pool: str) -> None:
        known = {each.name for each in self._target.reader.entries(pool)}
        for entry in self._source.reader.entries(pool):
            try:
                moved = self._encoded_entry(entry)
            except (PayloadError, TypeError, ValueError) as error:
                self._entries_left[f"recurring entry {entry.name}: {error}"] += 1
                continue
            if entry.is_paused:
                moved.tick = max(moved.tick, clock.wall() + _PUT_OFF)
            else:
                tick = self._stop_entry(entry)
                if tick is None:
                    continue
                moved.tick = tick
            is_new = entry.name not in known
            if is_new:
                self._target.change("put_entry", moved)
                self._entries += 1
            if entry.is_paused and (is_new or self._notes.was_interrupted):
                self._target.change("pause_entry", pool, entry.name, is_paused=True)

    def _encoded_entry(self, entry: Entry) -> Entry:
        payload = encode_submits([self._encoded(each, {}) for each in submits_of(entry)])
        return Entry(entry.name, entry.partition, entry.rule, entry.tick, payload, entry.is_paused)

    def _stop_entry(self, entry: Entry) -> float | None:
        """Let an entry fire no more in the source; return its tick, or None if it is gone.

        It stays there, so that programs which declare it again do not bring it to life.
        """
        pool, found = entry.partition.pool, entry
        for _ in range(_TRIES):
            if found.tick == _MOVED:  # by a copy; perhaps it was interrupted just then
                return found.last_tick
            if self._source.change("fire_entry", found, _MOVED, []) is not None:
                return found.tick
            entries = self._source.reader.entries(pool)
            now = next((each for each in entries if each.name == entry.name), None)
            if now is None or now.is_paused:
                return None
            found = now
        raise StoreUnusable(f"the recurring entry {entry.name} fires too often to be moved")


def _records(access: StoreAccess, pool: str, state: State) -> Iterator[Record]:
    last = None
    while page := access.reader.records(pool, Filter(state), last, _PAGE):
        last = page[-1].id
        yield from page
