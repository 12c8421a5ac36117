"""docs/beyond.md from the rows: tables with intervals, and what they decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from nc_refiner.experiment.reports.markdown import metric_label, shown, table
from nc_refiner.experiment.statistics.fixed_horizon import per_clip
from nc_refiner.refining.fidelity import Fidelity
from nc_refiner.refining.keeping.tuning import built_in
from nc_refiner.sweeps import SweepClip, mean_interval, paired_difference

from .arms import QUESTIONS, TARGETS
from .measuring import STEPS

__all__ = ["NAMES", "Verdict", "page", "verdicts"]

Row = dict[str, Any]
COLUMNS = {
    "colour": ("mse", "ssim", "psnr_to_original", "delta_e", "saturation_shift", "clipped_shift"),
    "reuse": ("evaluations", "mse", "ssim", "delta_e", "psnr_to_original"),
    "steady": ("mse", "psnr_to_original", "ssim_to_original", "spatial_frequency", "flicker", "warping_error"),
}
LIMIT = 0.01
NAMES = {"embedded": "The embedded model", "ffdnet": "FFDNet, an outside denoiser"}


@dataclass(frozen=True)
class Verdict:
    """What the rows of a question decide: what was compared, what was found, the verdict in words."""

    compared: str
    found: str
    verdict: str

    def __str__(self) -> str:
        return f"- {self.compared}: {self.found}: **{self.verdict}**."


def _labelled(label: str) -> Callable[[Row], bool]:
    return lambda row: row["label"] == label


def _arms(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    body = [[label, *(_cell(rows, name, label) for name in metrics)] for label in labels]
    return "\n".join(table(["", *map(metric_label, metrics)], body)).rstrip()


def _cell(rows: Sequence[Row], metric: str, label: str) -> str:
    found = mean_interval(list(per_clip(rows, metric, _labelled(label)).values()))
    return f"{found.mean:g}" if metric == "evaluations" else shown(metric, found)


def _difference(rows: Sequence[Row], metric: str, arm: str, base: str) -> str:
    found = paired_difference(rows, metric, _labelled(arm), _labelled(base))
    return f"{metric_label(metric)} {shown(metric, found, signed=True)}"


def _holds(rows: Sequence[Row], metric: str, arm: str, base: str, sign: int) -> bool | None:
    """Whether the interval of arm − base lies on the side of `sign`; None where it includes 0."""
    found = paired_difference(rows, metric, _labelled(arm), _labelled(base))
    if found is None or found.low is None or found.high is None:
        return None
    low, high = sorted((sign * found.low, sign * found.high))
    return True if low > 0 else False if high < 0 else None


def _colour(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for label in ("N = 10", "N = 10, colour_safe"):
        shifts = {
            name: mean_interval(list(per_clip(rows, name, _labelled(label)).values()))
            for name in ("clipped_shift", "saturation_shift")
        }
        within = all(abs(one.mean) <= LIMIT for one in shifts.values())
        ssim = paired_difference(rows, "ssim", _labelled(label), _labelled("N = 3"))
        words = "; ".join(f"{metric_label(name)} {shown(name, one)}" for name, one in shifts.items())
        keeps = ssim is not None and ssim.mean >= 0
        wanted = f"within {LIMIT} each, SSIM at least that of N = 3"
        words += f"; SSIM less that of N = 3 {shown('ssim', ssim, signed=True)}"
        found.append(Verdict(f"{label}, {wanted}", words, "holds" if within and keeps else "does not hold"))
    return [*found, _better(rows, "N = 3, colour_safe", "N = 3")]


def _better(rows: Sequence[Row], arm: str, base: str) -> Verdict:
    signs = {"mse": -1, "ssim": 1, "delta_e": -1, "psnr_to_original": 1}
    sides = {
        metric_label(name).partition(" ×")[0].partition(",")[0]: _holds(rows, name, arm, base, sign)
        for name, sign in signs.items()
    }
    better, worse = ([name for name, side in sides.items() if side is wanted] for wanted in (True, False))
    words = f"better in {', '.join(better) or 'nothing'}, worse in {', '.join(worse) or 'nothing'}"
    return Verdict(f"{arm} − {base}", "; ".join(_difference(rows, name, arm, base) for name in signs), words)


def _reuse(rows: Sequence[Row]) -> list[Verdict]:
    return [_better(rows, f"N = {count}, reuse", f"N = {count}") for count in (1, 2, 3)]


def _steady(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for label in dict.fromkeys(row["label"] for row in rows):
        if label in ("SDEdit", "matched SDEdit"):
            continue
        names = ("flicker", "warping_error", "psnr_to_original", "spatial_frequency")
        parts = [_difference(rows, name, label, "matched SDEdit") for name in names]
        worse = [
            _holds(rows, name, label, "matched SDEdit", sign) is False
            for name, sign in zip(names, (-1, -1, 1), strict=False)
        ]
        verdict = "no less steady, no farther from the original" if not any(worse) else "does not hold"
        found.append(Verdict(f"{label} − matched SDEdit", "; ".join(parts), verdict))
    return found


DECIDE = {"colour": _colour, "reuse": _reuse, "steady": _steady}


def verdicts(rows: Sequence[Row]) -> dict[str, dict[str, list[Verdict]]]:
    """Refiner → question → what its rows decide."""
    found: dict[str, dict[str, list[Verdict]]] = {}
    for refiner in dict.fromkeys(row["refiner"] for row in rows):
        for question, decide in DECIDE.items():
            some = [row for row in rows if (row["refiner"], row["question"]) == (refiner, question)]
            if some:
                found.setdefault(refiner, {})[question] = decide(some)
    return found


def _keep(rows: Sequence[Row]) -> list[str]:
    lines = []
    for tuned in (False, True):
        some = [row for row in rows if (row["record"]["tuning"] != "built in") == tuned]
        if not some:
            continue
        body = []
        for target in TARGETS:
            here = [row for row in some if row["target"] == target]
            if not here:
                continue
            wanted = Fidelity(ssim=target)
            reached = sum(wanted.reached(row["record"]["reached"]) for row in here)
            said = sum(row["said"] and not wanted.reached(row["record"]["reached"]) for row in here)
            runs, cost = fmean(row["record"]["runs"] for row in here), fmean(row["cost"] for row in here)
            body.append([f"{target:.2f}", str(len(here)), str(reached), str(said), f"{runs:.2f}", f"{cost:.2f}"])
        own = (
            "with the tuning that ships" if some[0]["refiner"] == built_in().adapter else "without a tuning of its own"
        )
        title = "with its tuning" if tuned else own
        lines += [f"**{title[0].upper()}{title[1:]}**", ""]
        lines += table(["SSIM", "clips", "reached (±0.01)", "said to be out of reach", "runs", "cost in runs"], body)
        cost = fmean(row["cost"] for row in some)
        fine = sum(row["said"] or Fidelity(ssim=row["target"]).reached(row["record"]["reached"]) for row in some)
        lines.append(f"Reached or said to be out of reach: {fine} of {len(some)}; cost on average {cost:.2f} runs.")
        fair = [row for row in some if abs(row["keep_ssim"] - row["sdedit_ssim"]) <= 0.01]
        for name in ("psnr_to_original", "spatial_frequency"):
            by_clip: dict[str, list[float]] = {}
            for row in fair:
                by_clip.setdefault(row["clip"], []).append(row[f"keep_{name}"] - row[f"sdedit_{name}"])
            found = mean_interval([fmean(values) for values in by_clip.values()])
            lines.append(
                f"- keep − SDEdit at the same SSIM, {metric_label(name)}: {shown(name, found, signed=True)} "
                f"({len(fair)} pairs within 0.01 of each other, of {len(by_clip)} clips)."
            )
        lines.append("")
    return lines


def page(rows: Sequence[Row], clips: Sequence[SweepClip], command: str) -> str:
    """The page; `command` is quoted as what makes it again."""
    frames = clips[0].frames
    parts = [
        "# Beyond the paper, measured",
        "Written by `tools/beyond_paper.py`; every number and every verdict comes out of the run.",
        f"```bash\n{command}\n```",
        f"{len(clips)} clips that training never saw, {len(frames)} frames of at most {frames.shape[2]}×160, shrunk "
        f"to 5/8, blurred and compressed; a schedule of {STEPS} steps, one seed. In brackets: 95 % intervals over "
        "clips. Fidelity is to the input; “to the original” is to what the input was made from. FFDNet is the adapter "
        "of `examples/ffdnet_refiner.py`; it sees one frame at a time.",
    ]
    decided = verdicts(rows)
    for refiner in dict.fromkeys(row["refiner"] for row in rows):
        parts.append(f"## {NAMES.get(refiner, refiner)}")
        for name, found in decided.get(refiner, {}).items():
            some = [row for row in rows if row["refiner"] == refiner and row["question"] == name]
            parts += [f"### {QUESTIONS[name].title}", _arms(some, COLUMNS[name]), "\n".join(map(str, found))]
        kept = [row for row in rows if row["refiner"] == refiner and row["question"] == "keep"]
        if kept:
            parts += ["### A target: keep", "\n".join(_keep(kept)).rstrip()]
    return "\n\n".join(parts) + "\n"
