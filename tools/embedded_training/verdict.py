"""What an evaluation comes to: averages, shares of clips, and the lines that the model is held to."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from nc_refiner.sweeps import mean_interval

NAMES = ("input", "N=0", "N=1", "N=2", "N=3", "matched")
LABELS = {"N=0": "SDEdit", "matched": "SDEdit matched to N = 3"}
FIGURES = (
    "psnr_to_original",
    "ssim_to_original",
    "lpips",
    "sf",
    "flicker",
    "warping",
    "mse",
    "ssim",
)
HEADS = (
    "PSNR",
    "SSIM",
    "LPIPS",
    "SF / original's",
    "flicker",
    "warping ×10⁻³",
    "MSE to input ×10⁻³",
    "SSIM to input",
)
Row = dict[str, Any]


def label(name: str) -> str:
    """What a table calls an output."""
    return LABELS.get(name, name.replace("=", " = "))


def means(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Averages over clips, of the figures every clip has; spatial frequency as a ratio to the original's own."""
    found: dict[str, dict[str, float]] = {}
    for name in ("original", *NAMES):
        for figure in FIGURES:
            if figure in rows[0].get(name, {}):
                values = [row[name][figure] / (row["original"]["sf"] if figure == "sf" else 1) for row in rows]
                found.setdefault(name, {})[figure] = statistics.fmean(values)
    return found


def counts(rows: list[Row]) -> dict[str, int]:
    """On how many clips each line of the target holds; a line whose figure was not measured is absent."""
    last = "N=3"

    def count(condition: Callable[[Row], bool]) -> int:
        return sum(bool(condition(row)) for row in rows)

    def better(row: Row, name: str, other: str, figure: str) -> bool:
        sign = -1 if figure in ("mse", "lpips", "flicker", "warping") else 1
        return sign * (row[name][figure] - row[other][figure]) > 0

    found = {
        "clips": len(rows),
        "N=3 PSNR above the input's": count(lambda r: better(r, last, "input", "psnr_to_original")),
        "N=3 spatial frequency above the input's": count(lambda r: better(r, last, "input", "sf")),
        "content loss falls with each iteration": count(lambda r: all(a > b for a, b in pairwise(r["content_loss"]))),
    }
    for figure in ("mse", "ssim", "psnr_to_original", "ssim_to_original", "lpips"):
        if figure in rows[0][last]:
            found[f"N=3 {figure} better than SDEdit's"] = sum(better(row, last, "N=0", figure) for row in rows)
    if "lpips" in rows[0][last]:
        found["N=3 LPIPS below the input's"] = count(lambda r: better(r, last, "input", "lpips"))
        found["SDEdit LPIPS at most 1.05 × the input's"] = count(
            lambda r: r["N=0"]["lpips"] <= 1.05 * r["input"]["lpips"]
        )
    return found


def rivals(rows: list[Row]) -> dict[str, list[float | None]]:
    """N = 3 minus SDEdit at the same content loss: mean and 95 % interval over clips (BCa bootstrap), per figure."""
    if "matched" not in rows[0]:
        return {}
    found = {}
    for figure in FIGURES:
        if figure in rows[0]["matched"]:
            estimate = mean_interval([row["N=3"][figure] - row["matched"][figure] for row in rows])
            found[figure] = [estimate.mean, estimate.low, estimate.high]
    return found


def table(rows: list[Row]) -> list[str]:
    """The averages as a Markdown table."""
    averages = means(rows)
    lines = ["| | " + " | ".join(HEADS) + " |", "|" + "---|" * (len(HEADS) + 1)]
    for name, figures in averages.items():
        cells = []
        for figure in FIGURES:
            scale = 1e3 if figure in ("warping", "mse") else 1
            digits = 2 if figure in ("psnr_to_original", "sf") else 3 if scale == 1e3 else 4
            blank = figure not in figures or (name == "original" and figure not in ("flicker", "warping"))
            blank = blank or (name == "input" and figure in ("mse", "ssim"))
            cells.append("–" if blank else f"{figures[figure] * scale:.{digits}f}")
        lines.append(f"| {label(name)} | " + " | ".join(cells) + " |")
    return lines


def targets(mild: list[Row], heavy: list[Row], steps: dict[str, dict[str, dict[str, float]]] | None) -> list[str]:
    """The lines the model is held to as a Markdown table: what is wanted, what was found, whether it is met."""
    lines = ["| wanted | found | |", "|---|---|---|"]

    def add(wanted: str, found: str, met: bool) -> None:
        lines.append(f"| {wanted} | {found} | {'met' if met else '**short**'} |")

    if steps is not None and len(steps) == 3:
        _, own, outside = steps.values()
        gains = {s: statistics.fmean(own[c][s] - outside[c][s] for c in own) for s in next(iter(own.values()))}
        words = ", ".join(f"{sigma}: {gain:+.2f}" for sigma, gain in gains.items())
        met = all(gain >= (0 if sigma == "10" else 0.5) for sigma, gain in gains.items())
        add("one-step PSNR at least 0.5 dB above FFDNet's at σ = 25, 50, 75 and not below it at 10", f"{words} dB", met)
    for name, rows, floor in (("heavy", heavy, 0.0), ("mild", mild, -0.2)):
        average = means(rows)
        gain = average["N=3"]["psnr_to_original"] - average["input"]["psnr_to_original"]
        add(f"{name}: PSNR of N = 3 less the input's above {floor:g} dB", f"{gain:+.2f} dB", gain > floor)
    for name, rows, least in (("heavy", heavy, 13 / 15), ("mild", mild, 10 / 15)):
        found, total = counts(rows), len(rows)
        if "N=3 LPIPS below the input's" in found:
            below = found["N=3 LPIPS below the input's"]
            add(
                f"{name}: LPIPS of N = 3 below the input's on {least:.0%}",
                f"{below} of {total}",
                below >= least * total,
            )
    average = means(heavy)
    if "lpips" in average["N=3"]:
        ratio = average["N=3"]["lpips"] / average["input"]["lpips"]
        add("heavy: LPIPS of N = 3 on average at most 0.85 × the input's", f"{ratio:.2f}", ratio <= 0.85)
        calm = counts(heavy)["SDEdit LPIPS at most 1.05 × the input's"]
        add(
            "heavy: SDEdit's LPIPS at most 1.05 × the input's on 80%",
            f"{calm} of {len(heavy)}",
            calm >= 0.8 * len(heavy),
        )
    for line in (
        "N=3 spatial frequency above the input's",
        "content loss falls with each iteration",
        "N=3 mse better than SDEdit's",
        "N=3 ssim better than SDEdit's",
        "N=3 psnr_to_original better than SDEdit's",
        "N=3 ssim_to_original better than SDEdit's",
        "N=3 lpips better than SDEdit's",
    ):
        both = [counts(rows) for rows in (mild, heavy)]
        if line in both[0]:
            words = ", ".join(
                f"{name} {found[line]} of {found['clips']}" for name, found in zip(("mild", "heavy"), both, strict=True)
            )
            add(f"{line}, on every clip", words, all(found[line] == found["clips"] for found in both))
    for name, rows in (("mild", mild), ("heavy", heavy)):
        for figure, (mean, low, high) in rivals(rows).items():
            if figure not in ("psnr_to_original", "lpips", "sf", "flicker", "warping") or low is None or high is None:
                continue
            falls, clear = figure in ("lpips", "flicker", "warping"), figure in ("psnr_to_original", "lpips", "sf")
            met = (high < 0 if falls else low > 0) if clear else low <= 0
            wanted = "better, interval clear of 0" if clear else "no worse"
            add(
                f"{name}: N = 3 against SDEdit at the same content loss, {figure}: {wanted}",
                f"{mean:+.5f} [{low:+.5f}, {high:+.5f}]",
                met,
            )
    return lines


def one_step_table(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Average one-step PSNR per σ and network, and on how many clips the first network is the best."""
    sigmas = list(next(iter(found["noisy"].values())))
    lines = ["| σ (of 255) | " + " | ".join(found) + " |", "|" + "---|" * (len(found) + 1)]
    for sigma in sigmas:
        cells = [f"{statistics.fmean(clip[sigma] for clip in clips.values()):.2f}" for clips in found.values()]
        lines.append(f"| {sigma} | " + " | ".join(cells) + " |")
    return lines
