"""The demo shows what it promises: OddJob loses nothing, whatever its neighbor loses."""

import re

import pytest

from examples.demo.__main__ import main


def test_the_demo_loses_no_call_no_worker_and_no_order(capsys: pytest.CaptureFixture[str]) -> None:
    """In small; the first figure of a row is the executor's, the second one OddJob's."""
    main(calls=40, rounds=1, orders=24)
    shown = capsys.readouterr().out
    for row in (
        r"calls lost +\d+ +0",
        r"small customers' calls answered +\d of 4 +4 of 4",
        r"before +4 of 4 +4 of 4",
        r"after round 1 +\d of 4 +4 of 4",
        r"shipped in the end +\d+ of 24 +24 of 24",
        r"orders lost +\d+ +0",
    ):
        assert re.search(rf"^ +{row}$", shown, re.MULTILINE), (row, shown)
    assert "24 succeeded: every job has ended once" in shown
    assert "README.md" in shown
