"""docs/reproduction.md from the numbers; nothing in it is typed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from nc_refiner.experiment.reports.markdown import metric_label, shown, table
from nc_refiner.experiment.statistics.fixed_horizon import SMALL, per_clip
from nc_refiner.sweeps import mean_interval

from .claims import Claim, Tables, calibrated, sdedit
from .plans import DEFAULT_STRENGTH, GRID_CUTOFFS, PAPER_STRENGTH, PAPER_STRENGTHS
from .published import SERIES
from .restoring import TOLD

__all__ = ["document", "with_beyond"]

Row = dict[str, Any]
Picks = Callable[[Row], bool]
FIDELITY = (
    "mse",
    "mse_low",
    "ssim",
    "psnr_to_original",
    "spatial_frequency",
    "delta_e",
    "saturation_shift",
    "clipped_shift",
)
BEYOND, PUBLISHED = "## Beyond the paper", "## The metrics on the published clips"
RIVALS = ("mse", "ssim", "psnr_to_original", "spatial_frequency", "output_loss", "flicker", "warping_error")


def _cells(rows: Sequence[Row], metrics: Sequence[str], picks: Picks) -> list[str]:
    values = [list(per_clip(rows, metric, picks).values()) for metric in metrics]
    return [
        shown(metric, mean_interval(found) if found else None) for metric, found in zip(metrics, values, strict=True)
    ]


def _header(metrics: Sequence[str]) -> list[str]:
    return ["", *(metric_label(metric) for metric in metrics)]


def _table_1(tables: Tables, plan: str, strength: float) -> list[str]:
    rows = tables[plan]
    body = [
        ["SDEdit" if count == 0 else f"N = {count}", *_cells(rows, FIDELITY, calibrated(count, 1.0, strength))]
        for count in (0, 1, 2, 3, 10)
    ]
    steps = next(row["steps"] for row in rows if sdedit(strength)(row))
    whole = rows[0]["num_inference_steps"]
    return [f"### Strength {strength:g} ({steps} of {whole} steps)", "", *table(_header(FIDELITY), body)]


def _table_3(tables: Tables) -> list[str]:
    rows = tables["grid"]
    body = [
        [
            f"{1000 * strength:.0f}",
            *(
                " / ".join(_cells(rows, ("mse", "spatial_frequency"), calibrated(3, cutoff, strength)))
                for cutoff in GRID_CUTOFFS
            ),
        ]
        for strength in PAPER_STRENGTHS
    ]
    return table(["t", *(f"ν = {cutoff:g}" for cutoff in GRID_CUTOFFS)], body)


def _over(rows: Sequence[Row]) -> str:
    """On which clips, and in how many steps."""
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    steps = {row["strength"]: row["steps"] for row in rows if row["strength"] is not None}
    told = ", ".join(f"{count} at strength {strength:g}" for strength, count in sorted(steps.items()))
    return f"Over {len(clips)} clips ({', '.join(clips)}); denoising steps: {told}."


def _strengths(tables: Tables, details: dict[str, float]) -> list[str]:
    """How good a refiner the model is at both strengths: distance to the original and share of its detail."""
    body = []
    for plan, strength in (("default", DEFAULT_STRENGTH), ("paper", PAPER_STRENGTH)):
        for label, picks in (("SDEdit", sdedit(strength)), ("N = 3", calibrated(3, 1.0, strength))):
            own = per_clip(tables[plan], "spatial_frequency", picks)
            shares = mean_interval([own[clip] / details[clip] for clip in own])
            body.append([f"{label}, strength {strength:g}", *_cells(tables[plan], ("psnr_to_original",), picks),
                         shown("spatial_frequency", shares)])  # fmt: skip
    inputs = [row for row in tables["default"] if row["method"] == "input"]
    shares = mean_interval([row["spatial_frequency"] / details[row["clip"]] for row in inputs])
    first = ["input", *_cells(inputs, ("psnr_to_original",), lambda row: True), shown("spatial_frequency", shares)]
    return table(["", metric_label("psnr_to_original"), "detail / the original's"], [first, *body])


def _rivals(tables: Tables) -> list[str]:
    rows = tables["default"]
    order = ("input", "sdedit", "nc", "matched_sdedit", "ilvr", "inversion", "renoise")
    labels = sorted({(order.index(row["method"]), row["iterations"] or 0, row["label"]) for row in rows})
    body = []
    for _, iterations, label in labels:
        if iterations == 10:
            continue
        some = [row for row in rows if row["label"] == label]
        body.append(
            [label, f"{fmean(row['evaluations'] for row in some):.3g}", *_cells(some, RIVALS, lambda row: True)]
        )
    matched = [row for row in rows if row["method"] == "matched_sdedit"]
    strengths = mean_interval([row["matched_strength"] for row in matched])
    ours, theirs = (fmean(row[name] for row in matched) for name in ("target_loss", "matched_loss"))
    widest = max(abs(row["matched_loss"] / row["target_loss"] - 1) for row in matched)
    told = (
        f"Matched: strength {shown('output_loss', strengths)} instead of {DEFAULT_STRENGTH:g}; content loss of the output "
        f"{theirs:.4f} against calibration's {ours:.4f} on average, and at most {widest:.0%} apart on one clip. A match runs "
        "as many denoising steps as SDEdit, from the same noise; the evaluations of finding the strength are not counted."
    )
    each = [[row["clip"], f"{row['matched_strength']:.3f}", f"{row['matched_loss']:.4f}", f"{row['target_loss']:.4f}"]
            for row in matched]  # fmt: skip
    head = ["", "evaluations", *_header(RIVALS)[1:]]
    per = ["<details><summary>Clip by clip</summary>", "", *table(["clip", "matched strength", "its content loss", "that of N = 3"], each), "</details>", ""]  # fmt: skip
    return [*table(head, body), told, "", *per]


def _restoring(tables: Tables, skipped: dict[str, str]) -> list[str]:
    """Restorers and upscalers beside SDEdit and calibration, and why some are missing."""
    rows = tables.get("restoring", [])
    metrics = [name for name in RIVALS if name != "output_loss"]
    labels = [*dict.fromkeys(row["label"] for row in rows)]
    body = [
        [TOLD.get(label, label), *_cells([row for row in rows if row["label"] == label], metrics, lambda row: True)]
        for label in labels
    ]
    lines = [_over(rows), "", *table(_header(metrics), body)] if body else []
    lines += [f"Not run: {TOLD[name]}. {reason}." for name, reason in skipped.items()]
    return [*lines, ""]


def _published(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["Not measured: pass the folder with the published clips as `--published`.", ""]
    names = ("mse", "mse_low", "ssim", "spatial_frequency", "clipped_shift")
    factors = {"mse": 1e3, "mse_low": 1e3}
    body = [
        [row["pair"], row["output"], *(f"{row[name] * factors.get(name, 1):.4g}".replace("-", "−") for name in names)]
        for row in rows
    ]
    wins = []
    for pair in dict.fromkeys(row["pair"] for row in rows):
        some = {row["output"]: row for row in rows if row["pair"] == pair}
        for ours in [name for name in ("nc", "nc_1", "nc_2", "nc_3") if name in some]:
            better = [some[ours][name] < some["sdedit"][name] for name in ("mse", "mse_low")]
            wins.append((f"{pair}, {ours}", [*better, some[ours]["ssim"] > some["sdedit"]["ssim"]]))
    lost = [name for name, won in wins if not all(won)]
    verdict = (
        f"NC is closer than SDEdit on MSE, MSE_low and SSIM in {len(wins) - len(lost)} of {len(wins)} published outputs"
    )
    verdict += f"; not in: {', '.join(lost)}." if lost else "."
    series = {row["output"]: row["mse"] for row in rows if row["pair"] == "iter"}
    if all(name in series for name in SERIES):
        order = " → ".join(f"{1e3 * series[name]:.1f}" for name in SERIES)
        shape = series["nc_3"] < series["nc_2"] < series["nc_1"] < series["sdedit"] and series["nc_10"] > series["nc_3"]
        verdict += f" Over the published N = 0, 1, 2, 3, 10, MSE ×10⁻³ is {order}: "
        verdict += "the paper's shape." if shape else "not the paper's shape."
    verdict += f" First {rows[0]['frames']} frames of each; references resized to the outputs (antialiased bicubic)."
    return [verdict, "", *table(["pair", "output", *(metric_label(name) for name in names)], body)]


def _beyond(rows: Sequence[Row]) -> list[str]:
    """What `tools/beyond_paper.py` decided, on the same clips."""
    if not rows:
        return []
    body = [[row["model"], row["question"], row["compared"], f"**{row['verdict']}**", row["found"]] for row in rows]
    told = "What the paper does not have, asked by `tools/beyond_paper.py` of the embedded model that ships; its tables are in [beyond.md](beyond.md)."
    return [BEYOND, "", told, "", *table(["model", "question", "compared", "verdict", "found"], body)]


def with_beyond(page: str, rows: Sequence[Row]) -> str:
    """`page`, a document of this module, with the verdicts in `rows` in the place of those it has."""
    before, found, rest = page.partition(BEYOND)
    if not found:
        before, found, rest = page.partition(PUBLISHED)
    rest = rest.partition(PUBLISHED)[2] if PUBLISHED in rest else rest
    return "\n".join([before.rstrip("\n"), "", *_beyond(rows), PUBLISHED + rest])


def document(
    command: str,
    facts: dict[str, Any],
    tables: Tables,
    claims: Sequence[Claim],
    published: Sequence[Row],
    figures: str,
    beyond: Sequence[Row] = (),
) -> str:
    """The page.

    Args:
        command: that made it.
        facts: `versions`, `adapter`, `clips` (name → shape), `details` (name → the original's spatial frequency),
            `skipped` (restorer → why it did not run).
        tables: plan's name → rows.
        claims: with their verdicts.
        published: rows of `measure_published`.
        figures: folder of the figures, relative to the page.
        beyond: verdicts of tools/beyond_paper.py.
    """
    counts = {name: sum(claim.verdict == name for claim in claims) for name in dict.fromkeys(c.verdict for c in claims)}
    clips = facts["clips"]
    shapes = "; ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in clips.items())
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    verdicts = [[claim.claim, claim.where, claim.setting, f"**{claim.verdict}**", claim.found] for claim in claims]
    lines = [
        "# The paper's tables on the embedded model",
        "",
        "Written by `tools/reproduce_paper.py`; every number and every verdict comes out of the run.",
        "",
        "```bash",
        command,
        "```",
        "",
        f"Noise Calibration, Yang et al., ECCV 2024 (arXiv 2407.10285). {versions}. The model is the embedded one "
        f"({facts['adapter']['parameters'] / 1e6:.1f} M parameters), not one of the paper's: absolute values cannot be "
        "compared, directions can. Calibrated as published: the last prediction is not used again "
        "(`reuse_prediction: false`), so that N costs N evaluations. The input of every clip is its original shrunk to 5/8, blurred and compressed "
        "(`tools/embedded_training/degrade.py`); the clips were never trained on.",
        "",
        f"Clips ({len(clips)}; frames × height × width): {shapes}.",
        "",
        "Fidelity (MSE, MSE_low, SSIM, ΔE2000, shifts) is measured against the input, as the paper does; `PSNR to the "
        "original` against what the input was made from, which the paper has not. In brackets: 95 % intervals over clips, "
        f"Student's t below {SMALL} clips and BCa bootstrap from there on. One seed.",
        "",
        "A claim is *reproduced* if every comparison it makes has an interval on the paper's side, *not reproduced* if one "
        "has not: then that one is named, as opposite or as undecided (includes 0). What the paper does not say is "
        "*asked here*: it *holds* or *does not hold* by the same rule.",
        "",
        f"## Verdicts: {', '.join(f'{count} {name}' for name, count in counts.items())}",
        "",
        *table(["claim", "in the paper", "tested at", "verdict", "found"], verdicts),
        "## Table 1: SDEdit and N = 1, 2, 3, 10 (ν = 1)",
        "",
        "Published (VideoCrafter): SSIM 0.646 for SDEdit, 0.697 at N = 3, 0.621 at N = 10.",
        "",
        *_table_1(tables, "default", DEFAULT_STRENGTH),
        *_table_1(tables, "paper", PAPER_STRENGTH),
        f"![N]({figures}/iterations.png)",
        "",
        f"### The embedded model at its default strength {DEFAULT_STRENGTH:g} and at the paper's {PAPER_STRENGTH:g} (t = 600)",
        "",
        *_strengths(tables, facts["details"]),
        "## Table 3: t × ν, N = 3, MSE ×10⁻³ to the input / spatial frequency",
        "",
        _over(tables["grid"]),
        "",
        *_table_3(tables),
        f"![t and ν]({figures}/grid.png)",
        "",
        "## Figure 7: content loss of the estimate, iteration by iteration",
        "",
        _over(tables["trace"]),
        "",
        f"![content loss]({figures}/content_loss.png)",
        "",
        f"## Rivals at strength {DEFAULT_STRENGTH:g}",
        "",
        "*Matched*: SDEdit at the strength at which its output has the content loss of N = 3 (ν = 1), found per clip by "
        "bisection. *ILVR*: the reference's low band (ν = 0.5) put in after every step. *Inversion*: DDIM inversion of the "
        "input, then denoising. *Re-noised*: the first prediction noised anew at the same level, three times (the idea of "
        "arXiv 2601.18577), at the cost of N = 3. Flicker and warping error are best near the input's own.",
        "",
        *_rivals(tables),
        f"![rivals]({figures}/rivals.png)",
        "",
        "## Figure 4: restorers and upscalers",
        "",
        "Fed the clip as it is, at its own size, frame by frame or as a whole; what they give, four times as large, is "
        "averaged by area to the clip's size. BasicVSR has the weights for blurred video; compression it does not know. "
        "They have no strength, no prompt that fits and, but for the upscaler, no noise.",
        "",
        *_restoring(tables, facts.get("skipped", {})),
        *_beyond(beyond),
        PUBLISHED,
        "",
        *_published(published),
    ]
    return "\n".join(lines)
