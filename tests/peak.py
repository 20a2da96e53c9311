"""Peak: how many threads were somewhere at once, at most."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Peak:
    """Counts those inside, and remembers the most there were.

    Locking: ``_lock`` guards both numbers.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Be inside for the length of the block."""
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1
