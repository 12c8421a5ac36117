"""What a report on outputs says before its numbers, and which output wins a row."""

from __future__ import annotations

from collections.abc import Sequence

from ..naming import counted
from .catalogue import METRICS, Metric
from .measure import Measurement

__all__ = ["summary", "way_of", "winners"]

CLEAR = 0.02
"""A change of detail by less than this share is called none."""


def way_of(metric: Metric) -> str:
    """Which way `metric` is better, in words."""
    near = "nearer to the reference is better" if metric.own else "nearer to 0 is better"
    ways = {"lower": "less is better", "higher": "more is better", "reference": near}
    return ways.get(metric.better, "neither more nor less is better")


def winners(metric: Metric, values: Sequence[float | None], own: float | None) -> frozenset[int]:
    """Which of several outputs win by `metric`; empty where none can, or all would.

    Those whose shown value equals the best one's share the win.

    Args:
        metric: of the catalogue.
        values: of the outputs, None where not measured.
        own: the reference's value, where the metric looks at one clip; a shift is compared with 0.
    """
    known = {i: value for i, value in enumerate(values) if value is not None}
    if metric.better == "neither" or len(known) < 2 or (metric.better == "reference" and metric.own and own is None):
        return frozenset()
    target = own if metric.own and own is not None else 0.0
    score = {i: metric.sign * value if metric.sign else -abs(value - target) for i, value in known.items()}
    best = max(score, key=lambda i: score[i])
    won = frozenset(i for i in score if metric.shown(known[i]) == metric.shown(known[best]))
    return frozenset() if len(won) == len(known) else won


def summary(reference: str, labels: Sequence[str], measurements: Sequence[Measurement]) -> list[str]:
    """Sentences on the outputs of one reference: the first says the most."""
    if len(labels) == 1:
        return [_single(reference, labels[0], measurements[0]), *_seen(labels, measurements)]
    won = {
        name: winners(
            METRICS[name], [m.metrics[name] for m in measurements], measurements[0].reference_metrics.get(name)
        )
        for name in measurements[0].metrics
    }
    rows = sum(bool(some) for some in won.values())
    if not rows:
        return [f"No measure tells the {len(labels)} outputs apart.", *_seen(labels, measurements)]
    counts = {label: sum(i in some for some in won.values()) for i, label in enumerate(labels)}
    order = sorted(counts, key=lambda label: -counts[label])
    first = [label for label in order if counts[label] == counts[order[0]]]
    of = f"{counts[order[0]]} of {counted(rows, 'measure')}"
    if len(first) == 1:
        rest = ", ".join(f"{label} on {counts[label]}" for label in order[1:])
        head = f"{first[0]} is best on {of}; {rest}."
    else:
        head = f"{' and '.join(first)} are each best on {of}."
    near = "Most measures say how near an output stays to the input, not how good it looks: watch the clips too."
    return [head, near, *_seen(labels, measurements)]


def _single(reference: str, label: str, measurement: Measurement) -> str:
    found = measurement.metrics
    parts = []
    for name, words in (("psnr", "PSNR {} dB"), ("ssim", "SSIM {}")):
        if found.get(name) is not None:
            parts.append(words.format(METRICS[name].shown(found[name])))
    if "psnr" in found and found["psnr"] is None and found.get("mse") == 0:
        parts.append("not one pixel differs")
    if not parts:
        parts = [
            f"{METRICS[name].label} {METRICS[name].shown(value)}" for name, value in found.items() if value is not None
        ]
    compared = counted(measurement.alignment.frames, "frame")
    return f"{label} against {reference} over {compared}: {', '.join(parts[:2])}."


def _seen(labels: Sequence[str], measurements: Sequence[Measurement]) -> list[str]:
    """Detail and colour of each output in words."""
    said = []
    for label, m in zip(labels, measurements, strict=True):
        parts = []
        detail, own = m.metrics.get("spatial_frequency"), m.reference_metrics.get("spatial_frequency")
        if detail is not None and own:
            change = detail / own - 1
            if abs(change) < CLEAR:
                parts.append("as much detail as the input")
            else:
                way = "more" if change > 0 else "less"
                parts.append(f"{abs(100 * change):.0f} % {way} detail than the input (noise counts as detail)")
        delta = m.metrics.get("delta_e")
        if delta is not None:
            seen = "not visible" if delta < 0.5 else "hardly visible" if delta < 1.5 else "visible"
            parts.append(f"a colour difference of ΔE {METRICS['delta_e'].shown(delta)}, {seen}")
        if parts:
            said.append(f"{label}: {' and '.join(parts)}.")
    return said
