"""Operations: to look at stored jobs and act on them, by hand or by a program.

`Pool` has methods for what concerns its own jobs. A program that has no pools, but the URL of a
store, begins with `StoreOperations`.
"""

from oddjob.operations.access import RunnerInfo
from oddjob.operations.copying import CopyReport
from oddjob.operations.pool_operations import PoolOperations
from oddjob.operations.record import FailedAttempt, Record
from oddjob.operations.recurring import RecurringEntry
from oddjob.operations.stores import StoreOperations

__all__ = [
    "CopyReport", "FailedAttempt", "PoolOperations", "Record", "RecurringEntry", "RunnerInfo",
    "StoreOperations",
]  # fmt: skip
