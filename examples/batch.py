"""A batch: many jobs that belong together, and a call when the last of them has ended."""

import logging
import threading

import oddjob

CITIES = ["Oslo", "Rome", "Lima", "Bern"]
weather: dict[str, str] = {}
is_sent = threading.Event()


def ask(city: str) -> None:
    """Ask for the weather of a city, which has districts."""
    if city == "Lima" and not weather.get("Lima"):
        weather["Lima"] = "unknown"
        raise ConnectionError("no answer")
    weather[city] = "sunny"
    batch = oddjob.current_batch()
    if city == "Rome" and batch is not None:
        batch.submit(ask, "Trastevere")  # a job adds jobs to its own batch


def send(reader: str) -> None:
    """Send the report, once all is known."""
    print(f"to {reader}: {len(weather)} cities, {', '.join(sorted(set(weather.values())))}")
    is_sent.set()


def main() -> None:
    """Ask for all cities; then once more for those that have failed."""
    logging.getLogger("oddjob").setLevel(logging.CRITICAL)  # nothing about failures
    with oddjob.Pool("weather", 2) as pool:
        with pool.batch(on_success=pool.s(send, "Ada"), name="report") as batch:
            batch.submit_many(ask, CITIES)
        try:
            batch.result()
        except oddjob.BatchFailed as error:
            print(error, batch.progress)
        assert not is_sent.is_set()
        batch.retry()
        batch.result()
    assert is_sent.is_set()
    assert len(weather) == len(CITIES) + 1


if __name__ == "__main__":
    main()
