"""The tables and indexes of a store, and the statements of the hot path.

Each state has a partial index, so a claim never looks at jobs that cannot run, however many there
are. The numbers of states are those of `State`: 0 scheduled, 1 queued, 2 running, 3 parked,
4 succeeded, 5 failed, 6 cancelled. Hot statements have literal states and say INDEXED BY: without
its index such a statement cannot be prepared, which is an error and not a slow day. The constant
``state`` at the end of two indexes costs a byte of each entry; with it SQLite counts jobs in the
index alone.

``key_slot`` is not null while a job holds a place of its key: the unique index ``job_holder`` makes
it impossible that two jobs hold the same one.

The table ``oddjob_schema`` says that a file has a store, and which version of these tables. The
numbers in its header, ``application_id`` and ``user_version``, are another program's to use.
"""

import re
import sqlite3
from collections.abc import Callable
from typing import Final, NamedTuple

from oddjob.durable.record import State

VERSION: Final = 4
_APPLICATION_ID: Final = 0x6F646A62  # "odjb"; before version 4, of files that were a store alone

# What jobs have to do with others. One that waits is SCHEDULED, and due at no time. A dependency is
# deleted when it is met; one that cannot be met stays, for when the other job is retried.
_LINKS: Final = """
ALTER TABLE job ADD COLUMN batch INT;
CREATE TABLE dependency (
  job INT, waiter INT, condition INT NOT NULL, PRIMARY KEY (job, waiter)) WITHOUT ROWID;
CREATE INDEX dependency_waiter ON dependency (waiter);
CREATE TABLE batch (
  job INTEGER PRIMARY KEY, total INT NOT NULL, pending INT NOT NULL, failed INT NOT NULL,
  cancelled INT NOT NULL);
CREATE INDEX job_batch ON job (batch) WHERE batch IS NOT NULL;
CREATE TRIGGER waiter_deleted AFTER DELETE ON job WHEN old.state != 2 BEGIN
  DELETE FROM dependency WHERE job = old.id;
  DELETE FROM dependency WHERE waiter = old.id;
  DELETE FROM batch WHERE job = old.id;
END;
"""

# Keys that take turns, see `turns`; jobs that were there before come first. A job that has a turn,
# but no key of its own, has the key "" and no step.
_TURNS: Final = """
ALTER TABLE job ADD COLUMN fair TEXT;
ALTER TABLE job ADD COLUMN step REAL;
ALTER TABLE job ADD COLUMN turn REAL;
CREATE TABLE fair_level (
  pool TEXT, priority INT, latest REAL NOT NULL, PRIMARY KEY (pool, priority)) WITHOUT ROWID;
DROP INDEX job_queued;
CREATE INDEX job_queued ON job (partition, priority DESC, turn, id, state) WHERE state = 1;
CREATE INDEX job_fair ON job (pool, priority, fair, turn)
  WHERE turn IS NOT NULL AND state IN (1, 3);
"""

_MARK: Final = "CREATE TABLE oddjob_schema (version INT NOT NULL);"

CREATE: Final = f"""
CREATE TABLE process (
  id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused
  host TEXT NOT NULL, pid INT NOT NULL, place TEXT NOT NULL, joined REAL NOT NULL,
  version TEXT NOT NULL);
CREATE TABLE consumer (
  pool TEXT, process INT, hungry INT NOT NULL DEFAULT 0, ahead INT NOT NULL DEFAULT 0,
  PRIMARY KEY (pool, process)) WITHOUT ROWID;
CREATE TABLE known (pool TEXT, function TEXT, process INT, PRIMARY KEY (pool, function, process))
  WITHOUT ROWID;
CREATE TABLE pool (
  name TEXT PRIMARY KEY,
  waiting INT,  -- jobs that have not started; NULL until max_queue asks: to count costs a page
  paused INT NOT NULL DEFAULT 0)  -- 0, 1, or why, as a BLOB of text
  WITHOUT ROWID;
CREATE TABLE partition (
  id INTEGER PRIMARY KEY, pool TEXT NOT NULL, function TEXT NOT NULL, limiters TEXT NOT NULL,
  stranded REAL,  -- since when no process knows the function, though one consumes the pool
  UNIQUE (pool, function, limiters));
CREATE TABLE limiter (
  pool TEXT, name TEXT, max_running INT, running INT NOT NULL DEFAULT 0,
  starts INT, period REAL, burst INT, tokens REAL, filled REAL, PRIMARY KEY (pool, name))
  WITHOUT ROWID;
CREATE TABLE start (pool TEXT, limiter TEXT, at REAL, number INT,
  PRIMARY KEY (pool, limiter, at)) WITHOUT ROWID;
CREATE TABLE job (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  partition INT NOT NULL, pool TEXT NOT NULL, state INT NOT NULL, priority INT NOT NULL,
  due REAL, attempt INT NOT NULL DEFAULT 0, crashes INT NOT NULL DEFAULT 0,
  owner INT, token INT NOT NULL DEFAULT 0, origin INT,
  stop INT NOT NULL DEFAULT 0,  -- it was to be canceled while it ran: it is not tried again
  key TEXT, key_limit INT, key_slot INT, serial INT NOT NULL DEFAULT 0, uniq BLOB, entry TEXT,
  created REAL NOT NULL, started REAL, finished REAL,
  name TEXT NOT NULL, error TEXT, progress BLOB, meta BLOB, payload BLOB, outcome BLOB);
CREATE TABLE attempt (
  job INT, number INT, started REAL, finished REAL NOT NULL, process TEXT NOT NULL,
  traceback TEXT NOT NULL, PRIMARY KEY (job, number)) WITHOUT ROWID;
CREATE TABLE step (job INT, name TEXT, value BLOB, PRIMARY KEY (job, name)) WITHOUT ROWID;
CREATE TABLE watch (job INT, process INT, PRIMARY KEY (job, process)) WITHOUT ROWID;
CREATE TABLE news (
  process INT, id INTEGER PRIMARY KEY, job INT NOT NULL, state INT NOT NULL, outcome BLOB,
  error TEXT);
CREATE TABLE room (pool TEXT, process INT, PRIMARY KEY (pool, process)) WITHOUT ROWID;
CREATE TABLE entry (
  pool TEXT, name TEXT, partition INT NOT NULL, rule BLOB NOT NULL, tick REAL NOT NULL,
  payload BLOB NOT NULL, paused INT NOT NULL DEFAULT 0,
  fired INT NOT NULL DEFAULT 0, missed INT NOT NULL DEFAULT 0,
  last_tick REAL, last_job INT, PRIMARY KEY (pool, name)) WITHOUT ROWID;

CREATE TRIGGER job_deleted AFTER DELETE ON job BEGIN
  DELETE FROM attempt WHERE job = old.id;
  DELETE FROM step WHERE job = old.id;
END;

CREATE INDEX job_queued  ON job (partition, priority DESC, id, state) WHERE state = 1;
CREATE INDEX job_due     ON job (due, id, partition, state) WHERE state = 0;
CREATE INDEX job_running ON job (owner) WHERE state = 2;
CREATE INDEX job_parked  ON job (pool, key, priority DESC, id) WHERE state = 3;
CREATE UNIQUE INDEX job_holder ON job (pool, key, key_slot) WHERE key_slot IS NOT NULL;
CREATE UNIQUE INDEX job_unique ON job (pool, uniq) WHERE uniq IS NOT NULL AND state < 4;
CREATE INDEX job_stopped ON job (stop) WHERE stop = 1 AND state < 4;
CREATE INDEX job_ended   ON job (pool, state, finished) WHERE finished IS NOT NULL;
CREATE INDEX news_reader ON news (process);
CREATE INDEX entry_due   ON entry (tick) WHERE paused = 0;
CREATE INDEX job_entry   ON job (pool, entry) WHERE entry IS NOT NULL AND state < 4;
{_LINKS}{_TURNS}{_MARK}"""  # noqa: S608  (a constant)

# One script for each step from a version to the next one; run in one transaction.
MIGRATIONS: Final[dict[int, str]] = {
    1: _LINKS,
    2: _TURNS,
    3: f"{_MARK} PRAGMA application_id = 0; PRAGMA user_version = 0;",
}
SET_VERSION: Final = "DELETE FROM oddjob_schema; INSERT INTO oddjob_schema VALUES ({})"


def names() -> set[str]:
    """Return the names of the tables, indexes and triggers, which others may not have in a file."""
    return set(re.findall(r"CREATE (?:UNIQUE )?(?:TABLE|INDEX|TRIGGER) (\w+)", CREATE))


def version_in(connection: sqlite3.Connection) -> int | None:
    """Return the version of the tables in a database; None if it has no store."""

    def ask(query: str) -> int:
        return connection.execute(query).fetchone()[0]  # type: ignore[no-any-return]

    if ask("SELECT count(*) FROM sqlite_schema WHERE name = 'oddjob_schema'"):
        return ask("SELECT version FROM oddjob_schema")
    is_older_store = ask("PRAGMA application_id") == _APPLICATION_ID
    return ask("PRAGMA user_version") if is_older_store else None


class Brief(NamedTuple):
    """What is done to a stored job depends on this."""

    state: State
    partition: int
    pool: str
    key: str | None
    owner: int
    origin: int | None
    unique: bytes | None
    key_limit: int
    key_slot: int | None
    batch: int | None
    is_waiting: bool  # for other jobs


def brief_of(execute: Callable[..., sqlite3.Cursor], job: int) -> Brief | None:
    """Return what there is to know of a job; None if it is gone."""
    row = execute(_BRIEF, (job,)).fetchone()
    return None if row is None else Brief(State(row[0]), *row[1:])


INSERT: Final = """
INSERT INTO job (id, partition, pool, state, priority, due, origin, key, key_limit, key_slot,
                 serial, uniq, entry, created, name, meta, payload, batch,
                 fair, step, turn)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
LAST_ID: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'job'"
FIND_UNIQUE: Final = """
SELECT id, origin, state FROM job INDEXED BY job_unique
WHERE pool = ? AND uniq = ? AND uniq IS NOT NULL AND state < 4"""

# A newer job takes the place of one that waits, unless it is another function's or key's; one that
# runs lets go of its unique value.
REPLACE: Final = """
UPDATE job SET name = ?, meta = ?, payload = ?,
  due = CASE WHEN state = 0 AND due IS NOT NULL THEN coalesce(?, due) END
WHERE id = ? AND partition = ? AND key IS ? AND state != 2"""
LET_UNIQUE_GO: Final = "UPDATE job SET uniq = NULL WHERE id = ? AND state = 2"

CLAIM: Final = """
UPDATE job SET state = 2, owner = ?, started = ?, token = token + 1
WHERE id IN (SELECT id FROM job INDEXED BY job_queued WHERE partition = ? AND state = 1
             ORDER BY priority DESC, turn, id LIMIT ?)
RETURNING priority, id, token, partition, payload, meta, name, attempt, crashes, key, serial,
  origin, batch, turn"""
CLAIM_THESE: Final = """
UPDATE job SET state = 2, owner = ?, started = ?, token = token + 1
WHERE id IN (SELECT value FROM json_each(?)) AND state = 1
RETURNING priority, id, token, partition, payload, meta, name, attempt, crashes, key, serial,
  origin, batch, turn"""
HEADS: Final = """
SELECT priority, id, turn FROM job INDEXED BY job_queued WHERE partition = ? AND state = 1
ORDER BY priority DESC, turn, id LIMIT ?"""
ANY_QUEUED: Final = """
SELECT 1 FROM job INDEXED BY job_queued WHERE partition = ? AND state = 1 LIMIT 1"""

# An attempt is charged unless the job is handed back. A job that waits for its next attempt lets go
# of its key, but for a serial one.
UPDATE: Final = """
UPDATE job SET state = ?, due = ?, outcome = ?, error = ?, started = coalesce(?, started),
  finished = ?, attempt = attempt + ?, owner = NULL,
  key_slot = CASE ? WHEN 0 THEN key_slot END
WHERE id = ? AND token = ? AND state = 2"""
IS_CLAIMED: Final = "SELECT 1 FROM job WHERE id = ? AND token = ? AND state = 2"
FORGET: Final = "DELETE FROM job WHERE id = ? AND token = ? AND state = 2"
PROGRESS: Final = "UPDATE job SET progress = ? WHERE id = ? AND token = ? AND state = 2"

# Keys: who holds which slots, and who is next.
HELD_SLOTS: Final = """
SELECT key_slot FROM job INDEXED BY job_holder
WHERE pool = ? AND key = ? AND key_slot IS NOT NULL"""
NEXT_PARKED: Final = """
SELECT id, partition, key_limit FROM job INDEXED BY job_parked
WHERE pool = ? AND key = ? AND state = 3
ORDER BY priority DESC, id LIMIT 1"""
UNPARK: Final = "UPDATE job SET state = 1, key_slot = ? WHERE id = ? AND state = 3"
NAME: Final = "SELECT name FROM job WHERE id = ?"
FAIL_SERIAL: Final = """
UPDATE job SET state = 5, finished = ?, error = ?
WHERE id IN (SELECT id FROM job INDEXED BY job_parked
             WHERE pool = ? AND key = ? AND state = 3 AND serial = 1)
  AND EXISTS (SELECT 1 FROM job AS failed WHERE failed.id = ? AND failed.serial = 1)
RETURNING id, origin, batch"""

# Jobs whose function no process knows: the oldest among the first ones, and the end of those.
STRANDED: Final = """
SELECT id, stranded FROM partition WHERE id IN (SELECT value FROM json_each(?)) AND NOT EXISTS
  (SELECT 1 FROM known WHERE known.pool = partition.pool AND known.function = partition.function)"""
_FIRST_500: Final = """
(SELECT id, created FROM job INDEXED BY job_queued WHERE partition = ? AND state = 1 LIMIT 500)"""
OLDEST: Final = f"SELECT min(created) FROM {_FIRST_500}"  # noqa: S608  (a constant)
FAIL_UNKNOWN: Final = f"""
UPDATE job SET state = 5, finished = ?, error = ?, key_slot = NULL
WHERE id IN (SELECT id FROM {_FIRST_500} WHERE created <= ?) RETURNING id, key, origin, batch"""  # noqa: S608

DUE: Final = """
SELECT id, partition, pool, key, key_limit, key_slot FROM job INDEXED BY job_due
WHERE state = 0 AND due <= ? ORDER BY due, id LIMIT 500"""
NEXT_DUE: Final = """
SELECT due FROM job INDEXED BY job_due WHERE state = 0 AND due NOT NULL ORDER BY due LIMIT 1"""
OPEN: Final = """
UPDATE job SET state = ?, key_slot = ?, due = NULL WHERE id = ? AND state = 0"""

RUNNING: Final = """
SELECT id, token, partition, pool, key, serial, crashes, origin, batch FROM job
INDEXED BY job_running
WHERE state = 2 AND owner = ?"""
TAKE_OVER: Final = """
UPDATE job SET state = ?, crashes = ?, finished = ?, error = ?, owner = NULL,
  key_slot = CASE ? WHEN 0 THEN key_slot END
WHERE id = ? AND token = ? AND state = 2"""

_BRIEF: Final = """
SELECT state, partition, pool, key, owner, origin, uniq, key_limit, key_slot, batch,
  state = 0 AND due IS NULL FROM job WHERE id = ?"""
STOP: Final = "UPDATE job SET stop = 1 WHERE id = ? AND state = 2"
STOPPED: Final = """
SELECT id FROM job INDEXED BY job_stopped WHERE stop = 1 AND state < 4 AND state != 2"""
RESCHEDULE: Final = """
UPDATE job SET due = ? WHERE id = ? AND state = 0 AND due NOT NULL RETURNING partition"""
RETRY: Final = """
UPDATE job SET state = ?, key_slot = ?, due = NULL, attempt = 0, crashes = 0, finished = NULL,
  outcome = NULL, error = NULL, stop = 0, origin = CASE WHEN state = 0 THEN origin END
WHERE id = ?"""

SAVE_STEP: Final = """
INSERT OR REPLACE INTO step (job, name, value)
SELECT id, ?, ? FROM job WHERE id = ? AND token = ? AND state = 2"""

NO_JOB: Final = 0  # as the job of a piece of news: the process is to end
RECEIPT: Final = -1  # as the state of a piece of news; see `transactions`
READ_NEWS: Final = "DELETE FROM news WHERE process = ? RETURNING job, state, outcome, error"
ADD_NEWS: Final = """
INSERT INTO news (process, job, state, outcome, error)
SELECT id, ?, ?, ?, ? FROM process WHERE id = ?"""
CONSUMERS: Final = """
SELECT consumer.process, hungry, known.process IS NOT NULL FROM consumer LEFT JOIN known
  ON known.pool = consumer.pool AND known.function = ? AND known.process = consumer.process
WHERE consumer.pool = ?"""

ERASE: Final = "DELETE FROM job WHERE id IN (SELECT value FROM json_each(?))"
PURGE_SUCCEEDED: Final = """
SELECT id FROM job INDEXED BY job_ended
WHERE pool = ? AND state = 4 AND finished IS NOT NULL ORDER BY finished DESC, id DESC
LIMIT ? OFFSET ?"""
PURGE_OTHERS: Final = """
SELECT id FROM job INDEXED BY job_ended
WHERE pool = ? AND state = ? AND finished IS NOT NULL AND finished < ? LIMIT ?"""
COUNT_ENDED: Final = """
SELECT count(*) FROM job INDEXED BY job_ended
WHERE pool = ? AND state = ? AND finished IS NOT NULL"""
SIZE_OF_SOME: Final = """
SELECT avg(length(payload) + coalesce(length(outcome), 0) + coalesce(length(error), 0))
FROM job INDEXED BY job_ended
WHERE pool = ? AND state = ? AND finished IS NOT NULL AND id % ? = ?"""
OLDEST_ENDED: Final = """
SELECT id FROM job INDEXED BY job_ended
WHERE pool = ? AND state = ? AND finished IS NOT NULL ORDER BY finished, id LIMIT ?"""

RECORD: Final = """
SELECT job.id, job.pool, partition.function, job.name, state, priority, attempt, crashes, due, key,
  uniq, entry, owner, created, started, finished, error,
  coalesce(progress, (SELECT CAST('[' || (total - pending) || ',' || total || ']' AS BLOB)
                      FROM batch WHERE batch.job = job.id)), meta, payload, outcome, batch
FROM job JOIN partition ON partition.id = job.partition"""
# The jobs of a pool in one state, from the index of that state.
_WAITING: Final = """
SELECT id FROM job INDEXED BY {} WHERE state = {} AND partition IN
  (SELECT id FROM partition WHERE partition.pool = :pool)"""
_ENDED: Final = """
SELECT id FROM job INDEXED BY job_ended
WHERE pool = :pool AND state = {} AND finished IS NOT NULL"""
JOBS_IN_STATE: Final = (
    _WAITING.format("job_due", 0),
    _WAITING.format("job_queued", 1),
    "SELECT id FROM job INDEXED BY job_running WHERE state = 2 AND pool = :pool",
    "SELECT id FROM job INDEXED BY job_parked WHERE state = 3 AND pool = :pool",
    *map(_ENDED.format, (4, 5, 6)),
)
_ENTRY: Final = """
SELECT entry.name, partition.pool, partition.function, limiters,
  (SELECT json_group_array(json_array(name, max_running, starts, period, burst))
   FROM limiter WHERE limiter.pool = partition.pool),
  rule, tick, payload, paused, fired, missed, last_tick, last_job FROM entry"""
ENTRIES: Final = f"""{_ENTRY} JOIN partition ON partition.id = entry.partition
WHERE entry.pool = ? ORDER BY entry.name"""

NEWEST: Final = """
SELECT (SELECT max(id) FROM process), (SELECT coalesce(max(id), 0) FROM partition),
  EXISTS (SELECT 1 FROM process WHERE id = ?),
  EXISTS (SELECT 1 FROM news INDEXED BY news_reader WHERE process = ?),
  EXISTS (SELECT 1 FROM room WHERE process = ?),
  EXISTS (SELECT 1 FROM fair_level)"""
MY_PARTITIONS: Final = """
SELECT partition.id, partition.function, known.process IS NOT NULL FROM partition LEFT JOIN known
  ON known.pool = partition.pool AND known.function = partition.function
  AND known.process = ?
WHERE partition.pool = ?"""

# Only a process that knows the function fires an entry.
DUE_ENTRIES: Final = f"""{_ENTRY} INDEXED BY entry_due
CROSS JOIN partition ON partition.id = entry.partition
CROSS JOIN known ON known.pool = partition.pool AND known.function = partition.function
  AND known.process = ?
WHERE paused = 0 AND tick <= ?"""
NEXT_ENTRY: Final = """
SELECT tick FROM entry INDEXED BY entry_due
CROSS JOIN partition ON partition.id = entry.partition
CROSS JOIN known ON known.pool = partition.pool AND known.function = partition.function
  AND known.process = ?
WHERE paused = 0 AND tick > ? ORDER BY tick LIMIT 1"""
PUT_ENTRY: Final = """
INSERT INTO entry (pool, name, partition, rule, tick, payload) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET partition = excluded.partition, payload = excluded.payload,
  tick = CASE WHEN rule = excluded.rule THEN tick
         ELSE max(excluded.tick, coalesce(last_tick + 0.001, 0)) END, rule = excluded.rule"""
MOVE_ENTRY: Final = """
UPDATE entry SET tick = ?, last_tick = tick, missed = missed + ?
WHERE pool = ? AND name = ? AND tick = ? AND paused = 0"""
NOTE_FIRED: Final = """
UPDATE entry SET fired = fired + 1, last_job = ? WHERE pool = ? AND name = ?"""
ANY_OF_ENTRY: Final = """
SELECT 1 FROM job INDEXED BY job_entry
WHERE pool = ? AND entry = ? AND entry IS NOT NULL AND state < 4 LIMIT 1"""
