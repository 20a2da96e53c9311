"""Which thread is which."""

import threading

from oddjob.marks import Mark, mark_here


def test_a_thread_keeps_its_mark_and_no_other_has_it() -> None:
    """Not even one that comes to the identifier of a thread that is over."""
    marks: list[Mark] = []
    idents: list[int] = []

    def look() -> None:
        assert mark_here() is mark_here()
        marks.append(mark_here())
        idents.append(threading.get_ident())

    while len(set(idents)) == len(idents):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert len(set(marks)) == len(marks)
    assert mark_here() not in marks
