"""What runs the jobs of a pool: queues, workers, their supervisor. Nothing in here knows `Pool`.

An *asynchronous exception* may come between almost any two bytecodes: ``KeyboardInterrupt`` in the
main thread; ``MemoryError`` and ``RecursionError`` in any; and whatever a program throws at a
thread with ``PyThreadState_SetAsyncExc``, as some watchdogs do. (CPython looks for signals and for
those exceptions when a function begins, when a call has returned, and when a loop goes back.) A
worker survives it, and no job is lost: where that takes an unusual order, or a C call in place of a
block, a comment says so.
"""
