"""Decorate a function: call it, and it runs here; submit it, and it runs in the pool."""

import threading

import oddjob

thumbnails = oddjob.Pool("thumbnails", 2)


@thumbnails.job
def resize(width: int, height: int, *, limit: int = 100) -> tuple[int, int]:
    """Fit a picture into a square."""
    print(f"resizing {width} x {height} in {threading.current_thread().name}")
    scale = min(1.0, limit / max(width, height))
    return round(width * scale), round(height * scale)


class Album:
    """Methods can be jobs too."""

    def __init__(self, title: str) -> None:
        self.title = title

    @thumbnails.job(name="cover")
    def cover(self, page: int) -> str:
        """Name a picture of this album."""
        return f"{self.title}, page {page}"


def main() -> None:
    """Run the function here, in the pool, and in the pool for several items."""
    here = resize(400, 300)
    job = resize.submit(400, 300, limit=50)  # a type checker knows these arguments
    there: tuple[int, int] = job.result()  # and this result
    sizes = list(resize.map([800, 600, 300], [600, 800, 50]))
    cover = Album("Summer").cover.submit(1)

    print(here, there, sizes, cover.result())
    thumbnails.shutdown()

    assert here == (100, 75)
    assert there == (50, 38)
    assert sizes == [(100, 75), (75, 100), (100, 17)]
    assert cover.name == "cover"
    assert cover.result() == "Summer, page 1"


if __name__ == "__main__":
    main()
