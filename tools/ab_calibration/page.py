"""`docs/ab_calibration.md` from the simulations; nothing in it is typed by hand."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from nc_refiner.experiment.reports.markdown import table
from nc_refiner.experiment.statistics.fixed_horizon import MINIMUM_UNITS, SMALL

from .draws import DIFFERENCES, LEVELS
from .many_looks import LOOKED_AT, peeking, peeking_live
from .one_look import by_clip, coverage, live_look, paired_differences
from .planning import DESIGNS, planned

__all__ = ["CLIPS", "PARTS", "PIECES", "page"]

CLIPS, PIECES = (8, 12, 15, 30), (1, 4, 8)
COVERED = ("normal", "skewed (exponential − 1)", "very skewed (log-normal − mean)")


def equal(runs: int, looks: int) -> Iterator[str]:
    """Equal arms by clip, one look."""
    yield "## Equal arms, one look"
    yield ""
    yield from _prose(
        "Two equal arms on clips that are cut into pieces; pieces of one clip share its level, and the unit "
        "is the clip. Share of experiments in which a difference was shown (to be 3 % to 7 %), and of those "
        "in which the differences were found skewed, so that the rank test decided."
    )
    body = []
    for number, (name, draw) in enumerate(LEVELS.items()):
        for clips in CLIPS:
            found = [by_clip(draw, clips, pieces, runs, 500 + 100 * number + clips + pieces) for pieces in PIECES]
            body.append(
                [name, str(clips), *map(str, found), f"{found[0].ranks.share:.0%} to {found[-1].ranks.share:.0%}"]
            )
    yield from table(["clips' values", "clips", *(f"{n} piece{'s' * (n > 1)}" for n in PIECES), "rank test"], body)
    family = paired_differences(DIFFERENCES["normal"], 32, 0.0, runs, seed=7, metrics=8)
    live = live_look(200, max(100, runs // 4), seed=8)
    yield from _prose(
        f"Eight independent metrics, 32 clips, any of them wrongly shown after Holm's correction: {family}. "
        f"Live traffic, one look, 200 log-normal values per arm: {live}."
    )


def skewed(runs: int, looks: int) -> Iterator[str]:
    """Differences whose mean is 0 and whose median is not."""
    yield "## Skewed differences, one look"
    yield ""
    yield from _prose(
        "No A/A test: equal arms give symmetric differences. Here the mean difference is 0 and the typical "
        "one is not. No test of a mean holds its level on so few clips. Where the report finds skew it says "
        "so, and the rank test decides about the typical clip, on which these arms do differ: shares beyond 5 "
        "% are no errors of that test, but would be errors of a sentence about the mean."
    )
    body = []
    for number, (name, draw) in enumerate(DIFFERENCES.items()):
        for units in (12, 30):
            found = paired_differences(draw, units, 0.0, runs, 100 * number + units)
            body.append([name, str(units), str(found.shown), str(found.ranks)])
    yield from table(["differences", "clips", "difference shown", "skew found and told"], body)


def intervals(runs: int, looks: int) -> Iterator[str]:
    """Coverage of the intervals."""
    yield "## Intervals"
    yield ""
    yield from _prose(
        f"How often a 95 % interval of a mean holds the truth. Below {SMALL} units the analysis, the sweeps and the "
        "reproduction use Student's t. It is exact for normal values. For skewed ones neither holds 95 %, and with up "
        "to 15 values the bootstrap misses more often."
    )
    body = []
    for number, name in enumerate(COVERED):
        for units in (4, 6, 8, 12, 15, 20, 30):
            found = coverage(DIFFERENCES[name], units, runs, seed=700 + 100 * number + units)
            body.append([name, str(units), str(found["t"]), str(found["BCa"])])
    yield from table(["values", "units", "t", "BCa bootstrap"], body)


def many(runs: int, looks: int) -> Iterator[str]:
    """A look after every unit."""
    yield "## A look after every unit"
    yield ""
    yield from _prose(
        f"Share of experiments in which any of the looks from {MINIMUM_UNITS} to {looks} units shows a "
        "difference that is not there (of equal arms to be under 5 %), and beside it what a t test does that "
        "is repeated after every unit. The skewed rows are not held; where the report finds skew it warns. "
        "*Not warned*: wrong without a warning."
    )
    body = []
    for number, (name, draw) in enumerate(LOOKED_AT.items()):
        found = peeking(draw, looks, runs, seed=200 + number)
        body.append([name, str(found.always_valid), str(found.unwarned), str(found.repeated_t)])
    yield from table(["differences", "always valid", "not warned", "repeated t test"], body)
    body = []
    for share in (0.5, 0.1):
        live = peeking_live(2 * looks, runs, seed=300 + int(100 * share), share=share)
        for name, kind in (("seconds", "log-normal seconds"), ("errors", "errors, 2 %")):
            body.append([f"{kind}, {2 * looks} requests", f"{1 - share:.0%} / {share:.0%}", str(live[name])])
    yield from table(["live traffic", "shares", "always valid"], body)


def plans(runs: int, looks: int) -> Iterator[str]:
    """What `ab plan` promises."""
    yield "## What ab plan promises"
    yield ""
    yield from _prose(
        "Units that `ab plan` asks for (per arm where unpaired), the power it promises there, and how often "
        "the whole analysis then shows the effect, on the right side. *Many looks*: the last look, at the "
        "planned number of units."
    )
    body = []
    for number, (effect, power, paired, sequential) in enumerate(DESIGNS):
        found = planned(effect, power, paired, sequential, max(100, runs // 2), seed=1000 + number)
        body.append(
            [
                f"{effect:g}",
                f"{power:.0%}",
                "paired" if paired else "unpaired",
                "many looks" if sequential else "one look",
                str(found.plan.units),
                f"{found.plan.power:.1%}",
                str(found.found),
                f"{100 * found.apart:+.1f}".replace("-", "−"),
            ]
        )
    yield from table(["effect / sd", "asked", "units", "", "planned", "promised", "found", "points apart"], body)


def _prose(text: str) -> Iterator[str]:
    """Lines of a paragraph, and an empty one."""
    yield from textwrap.wrap(text, 118)
    yield ""


PARTS = {"equal": equal, "skewed": skewed, "intervals": intervals, "looks": many, "plans": plans}


def page(runs: int, looks: int) -> str:
    """The page.

    Args:
        runs: simulated experiments per number.
        looks: units of the longest experiment that is looked at after every unit.
    """
    lines = [
        "# Calibration of the A/B analysis",
        "",
        f"Made by `python tools/simulate_ab.py --simulations {runs} --looks {looks}`. Shares with their 95 % Wilson",
        "interval; level 5 % throughout; every number comes from the functions that `nc-refiner ab analyze` calls.",
        "",
    ]
    for part in PARTS.values():
        lines += part(runs, looks)
    return "\n".join(lines)
