"""One progress bar for a calibrated call: the predictions made for the calibration, then the pipeline's steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["CallProgress"]


class CallProgress:
    """Stands in for a pipeline's `progress_bar` method during a call of one or several passes.

    Args:
        progress_bar: the pipeline's own method, which knows what the user set.
        predictions: made for the calibration beside the pipeline's own steps.
        real_steps: from the total a pipeline asks for to the steps it really makes.
    """

    def __init__(
        self, progress_bar: Callable[..., Any], predictions: int, real_steps: Callable[[int], int] = lambda total: total
    ):
        self._progress_bar, self._real_steps = progress_bar, real_steps
        self._left = predictions
        self._bar: Any = None
        self.follows = False
        """Whether what the pipeline reports counts: while it calibrates, and in the in-loop engine, it does not."""

    def __call__(self, iterable: Iterable[Any] | None = None, total: int | None = None) -> _Shown:
        if total is None and iterable is not None:
            total = len(iterable)  # type: ignore[arg-type]
        if self._bar is None and total is not None:
            self._bar = self._progress_bar(total=self._left + self._real_steps(total))
        return _Shown(self, iterable)

    def predicted(self) -> None:
        """A prediction was made for the calibration."""
        self._left -= 1
        self.tick()

    def satisfied(self) -> None:
        """No further prediction will be made (`tolerance`)."""
        if self._bar is not None and self._left > 0:
            self._bar.total -= self._left
            self._bar.refresh()
        self._left = 0

    def tick(self, count: float = 1) -> None:
        """One more of what the bar counts."""
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        """The call is over."""
        if self._bar is not None:
            self._bar.close()


class _Shown:
    """What the pipeline takes for its bar."""

    def __init__(self, progress: CallProgress, iterable: Iterable[Any] | None):
        self._progress, self._iterable = progress, iterable

    def update(self, count: float = 1) -> None:
        if self._progress.follows:
            self._progress.tick(count)

    def __iter__(self) -> Iterator[Any]:
        for value in () if self._iterable is None else self._iterable:
            yield value
            self.update()

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._progress._bar, name)
