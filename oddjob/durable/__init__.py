"""Durable jobs: kept in a store, and run by any process that consumes their pool.

How a job flows, and which thread does each step:

  1. submit (the caller's): `Submissions` makes a `Submit` of the job; `Runner.submit` leaves it to
     the *store thread*, the one thread of the process that talks to the store, and waits.
  2. commit (the store thread): one `Store.turn` takes all submits and reports that have come. Then
     the caller goes on, and holds a `Job` that a `JobHandle` is to settle.
  3. claim (the store thread of any process that knows the function): the same call returns claims.
     `ClaimedJobs.start` makes another `Job` of each, and queues it for the pool's workers.
  4. run (a worker): `ClaimedJobs.run`, the outermost middleware, marks the claim as begun, reads
     the arguments, and calls the function.
  5. settle (the worker): `ClaimedJobs` leaves the encoded outcome to the store thread as a report,
     and the worker takes the next job.
  6. commit of the outcome (the store thread): with the next turn. If the process that has submitted
     the job is another one, the store leaves it news, and wakes it.
  7. announce (the store thread of the submitter): `JobHandle` settles the caller's `Job`. Whatever
     could run code of users is left to the *callback thread*.

If a process dies between 3 and 6, another one puts its claims back: see `Store.takeover`.

Glossary: these words have one meaning in the whole folder.

  * partition: the jobs of a pool that call one function under the same limits.
  * turn: one call of `Store.turn`, in one commit. The *writer's turn* is the lock of the database.
  * claim: the right of a process to run a job. Its token is a fencing token: it becomes invalid
    when the job is claimed again, or ended by another process.
  * begin: a worker starts to run a claimed job. Its *begun mark* outlives a crash of the process.
  * report: leave an update of a claim to the store thread. A claim *is over* once its end is
    reported, or it is lost to another process.
  * settle: end the `Job` that a caller holds, with the committed outcome of the stored job.
  * hand back: return a claim that has not begun to the queue; the attempt does not count.
  * takeover: a process puts the claims of a dead one back, and charges *crashes* to those begun.
  * eviction: a process that is still alive was taken for dead, so its claims are lost.
  * suspect: a claim of a job that fails at its next crash. It runs alone in its process.
  * news: what the store leaves for a process: an end that it waits for, or a request to stop.
  * hungry: said of a process that got fewer jobs than it has idle workers.

From the bottom up: `record` and `store` are the contract, which ``sqlite/`` and ``redis/`` fulfill;
there is one `Runner` for each store that a process uses, and one `PoolStore` for each pool.
"""
