"""Stop on SIGTERM: finish what can be finished in time, and know what was left undone."""

import os
import signal
import time

import oddjob

SECONDS_GIVEN = 1.0
QUICK = 4

emails = oddjob.Pool("email", 2)


def send(number: int) -> int:
    """Send an e-mail; the first ones are quick, the others take too long."""
    time.sleep(0.01 if number < QUICK else 30)
    return number


def terminate(_signum: int, _frame: object) -> None:
    """Leave the main thread's code through every ``finally``."""
    raise SystemExit


signal.signal(signal.SIGTERM, terminate)
jobs = emails.submit_many(send, range(10))
for job in jobs[:QUICK]:
    job.result()

try:
    os.kill(os.getpid(), signal.SIGTERM)  # what systemd, Docker and Kubernetes do
    time.sleep(60)
finally:
    report = emails.drain(SECONDS_GIVEN)
    print(f"left running: {[job.name for job in report.running]}")
    print(f"cancelled, to be sent another time: {len(report.cancelled)}")
    assert [job.result() for job in jobs[:QUICK]] == [0, 1, 2, 3]
    assert set(report.running) == set(jobs[QUICK : QUICK + 2])
    assert report.cancelled == jobs[QUICK + 2 :]
