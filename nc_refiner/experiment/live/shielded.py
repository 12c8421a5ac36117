"""Telemetry whose own failures reach no request: they are logged, and the request goes on and is recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..store.events import Assignment
from .telemetry import Telemetry

__all__ = ["Shielded", "ShieldedSpan"]

log = logging.getLogger(__name__)


def _quietly(function: Callable[..., Any], *values: Any) -> None:
    try:
        function(*values)
    except Exception:
        log.exception("telemetry failed")


class ShieldedSpan:
    """A span, open or not."""

    def __init__(self, span: Any = None):
        self._span = span

    def set_attribute(self, name: str, value: Any) -> None:
        """Note `value` where there is a span."""
        if self._span is not None:
            _quietly(self._span.set_attribute, name, value)


class Shielded:
    """Passes everything on to `telemetry`; what each method reports is said in `Telemetry`."""

    def __init__(self, telemetry: Telemetry):
        self._to = telemetry

    @contextmanager
    def span(self, name: str, experiment: str, **attributes: Any) -> Iterator[ShieldedSpan]:
        """A span that opens and closes if it can; what the block raises goes through it."""
        try:
            manager = self._to.span(name, experiment=experiment, **attributes)
            span = manager.__enter__()
        except Exception:
            log.exception("a span could not be opened")
            yield ShieldedSpan()
            return
        try:
            yield ShieldedSpan(span)
        except BaseException as error:
            try:
                manager.__exit__(type(error), error, error.__traceback__)
            except BaseException as again:
                if again is not error:
                    log.exception("a span could not be closed")
            raise
        _quietly(manager.__exit__, None, None, None)

    def request(self, experiment: str, given: Assignment, served: str | None, seconds: float) -> None:
        """As `Telemetry.request`."""
        _quietly(self._to.request, experiment, given, served, seconds)

    def failure(self, experiment: str, arm: str, kind: str) -> None:
        """As `Telemetry.failure`."""
        _quietly(self._to.failure, experiment, arm, kind)

    def shadow(self, experiment: str, arm: str, accepted: bool) -> None:
        """As `Telemetry.shadow`."""
        _quietly(self._to.shadow, experiment, arm, accepted)

    def evaluation(self, experiment: str, arm: str, accepted: bool) -> None:
        """As `Telemetry.evaluation`."""
        _quietly(self._to.evaluation, experiment, arm, accepted)

    def switch(self, experiment: str, arm: str, on: bool) -> None:
        """As `Telemetry.switch`."""
        _quietly(self._to.switch, experiment, arm, on)

    def recorder(self, experiment: str, recorder: Any) -> None:
        """As `Telemetry.recorder`."""
        _quietly(self._to.recorder, experiment, recorder)
