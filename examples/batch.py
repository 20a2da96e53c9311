"""A batch is queued in one insertion: no other job comes between its jobs."""

import threading
from itertools import groupby

import oddjob

HOUSES, LETTERS = 5, 1_000

delivered: list[str] = []


def deliver(address: str) -> None:
    """Deliver one letter."""
    delivered.append(address)


def post(house: str, postman: oddjob.Pool) -> None:
    """Queue the letters of a house, fire and forget."""
    postman.perform_many(deliver, [house] * LETTERS)


def main() -> None:
    """Queue a batch in each of five threads at the same time, for one worker."""
    with oddjob.Pool("postman", 1) as postman:
        houses = [f"house {number}" for number in range(HOUSES)]
        neighbours = [threading.Thread(target=post, args=(each, postman)) for each in houses]
        for neighbour in neighbours:
            neighbour.start()
        for neighbour in neighbours:
            neighbour.join()

        lengths = postman.submit_many(len, houses)  # the same with results, in order
        print("lengths:", oddjob.await_many(lengths))

    trips = [(house, len(list(letters))) for house, letters in groupby(delivered)]
    for house, letters in trips:
        print(f"{house}: {letters} letters in one go")
    assert sorted(trips) == [(house, LETTERS) for house in houses]


if __name__ == "__main__":
    main()
