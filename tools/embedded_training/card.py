"""The model card: what the weights are, where they come from, what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nc_refiner.adapters.embedded.model import SpaceTimeUNet

from .degrade import BLUR_SIGMA, CRF, SCALE
from .sources import HELD_OUT_SECONDS, SOURCES

EXTRA_VIDEOS = (
    "Three live-action sample clips (bottle, car and person detection), 640×360 and 768×432 | public sample videos, given "
    "with --videos | CC-BY 4.0 | Intel IoT DevKit sample videos"
)


def write_card(
    path: Path,
    network: SpaceTimeUNet,
    history: dict[str, Any],
    seconds: float,
    evaluation: dict[str, Any],
    strength: float | None,
    notes: str = "",
) -> None:
    """Write MODEL_CARD.md from the run's history, `notes` on it and, where given, the evaluation at `strength`."""
    config, records = history["config"], history["history"]
    parameters = sum(p.numel() for p in network.parameters())
    lines = [
        "# Model card: the embedded refiner",
        "",
        f"A factorised space-time U-Net of {parameters / 1e6:.2f} M parameters over pixels after 4× space-to-depth (48 channels), "
        "v-prediction, cosine schedule of 1000 timesteps, unconditional. It ships so that refining, tests and experiments "
        "run on a trained model with no weights hub. It is no product-quality video model.",
        "",
        "## Data",
        "",
        "| what | from | licence | attribution |",
        "|---|---|---|---|",
    ]
    lines += [f"| {s.name} | {s.origin} | {s.licence} | {s.attribution} |" for s in SOURCES]
    lines += [
        f"| {EXTRA_VIDEOS} |",
        "",
        f"Seconds {HELD_OUT_SECONDS[0]:g} to {HELD_OUT_SECONDS[1]:g} of the film (and its credits) were held out: the demo clip and "
        "the validation crops come from there. Stills get an invented pan, zoom and roll. The weights are offered under "
        "CC-BY-SA 4.0, because some of the photographs ask for it.",
        "",
        "## Training",
        "",
        f"{history['step']} steps, {seconds / 60:.0f} minutes on the processor it was trained on, batch {config['batch']} of "
        f"{config['frames']}×{config['crop']}×{config['crop']} crops, AdamW at {config['learning_rate']:g}, bfloat16 autocast, "
        f"weights averaged over about {config['ema_steps']} steps, stored as float16. `python tools/train_embedded.py --help` "
        "shows the commands that repeat or continue it.",
        "",
        *([notes, ""] if notes else []),
        "v-loss on held-out crops (noise phase 0 is clean, 1 is pure noise):",
        "",
    ]
    phases = list(records[-1]["by_phase"]) if records else []
    lines += ["| step | minutes | mean | " + " | ".join(phases) + " |", "|" + "---|" * (3 + len(phases))]
    for record in _thinned(records):
        values = " | ".join(f"{record['by_phase'][phase]:.3f}" for phase in phases)
        lines.append(f"| {record['step']} | {record['minutes']:g} | {record['mean']:.4f} | {values} |")
    if strength is not None and evaluation:
        lines += _measured(evaluation, strength)
    lines += [
        "",
        "## Limits",
        "",
        "- Small pictures (160 to 320 rows), 8 to 32 frames, mild to moderate degradations; it sharpens and cleans, it does not "
        "invent objects, and it knows no text prompt.",
        "- Half of what it saw is one animated film; skin, text and fine regular patterns come out worse than foliage, fur and sky.",
        "- High strengths leave grain.",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _thinned(records: list[dict[str, Any]], most: int = 8) -> list[dict[str, Any]]:
    if len(records) <= most:
        return records
    step = (len(records) - 1) / (most - 1)
    return [records[round(i * step)] for i in range(most)]


def _measured(evaluation: dict[str, Any], default: float) -> list[str]:
    summary = evaluation[f"{default:g}"]["summary"]
    lines = [
        "",
        "## Measured on clips it never saw",
        "",
        f"{summary['clips']} clips, degraded (size × {SCALE:g}, blur σ = {BLUR_SIGMA:g} small pixels, H.264 at CRF {CRF}, back up), then refined at "
        f"30 steps. SF is the spatial frequency; ratios are to the undegraded original's. The degraded input itself has SF "
        f"× {summary['input_sf_over_original']:.2f} and {summary['input_psnr']:.2f} dB.",
        "",
        "| strength | | SF ratio | PSNR to original | MSE to input ×10⁻³ | SSIM to input | closer than SDEdit: MSE, SSIM, PSNR | SF above input |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for strength, entry in evaluation.items():
        for name in ("N=0", "N=1", "N=2", "N=3"):
            row = entry["summary"][name]
            shares = "–"
            above = "–"
            if name != "N=0":
                shares = ", ".join(f"{row[key]:.0%}" for key in ("mse_better", "ssim_better", "psnr_better"))
                above = f"{row['sf_above_input']:.0%}"
            label = "SDEdit" if name == "N=0" else name.replace("=", " = ")
            lines.append(
                f"| {strength} | {label} | {row['sf_over_original']:.2f} | {row['psnr_to_original']:.2f} | {row['mse'] * 1e3:.3f} | "
                f"{row['ssim']:.4f} | {shares} | {above} |"
            )
    loss = " → ".join(f"{value:.4f}" for value in summary["content_loss"])
    lines += [
        "",
        f"At the default strength {default:g}: SDEdit's SF is within 25 % of the original's on "
        f"{summary['sdedit_sf_within_25_percent']:.0%} of the clips (mean ratio {summary['sdedit_sf_over_original']:.2f}); its PSNR is "
        f"{summary['sdedit_psnr_drop_db']:.2f} dB under the degraded input's on average, within 3 dB on "
        f"{summary['sdedit_psnr_drop_within_3_db']:.0%}; the content loss falls with every iteration on "
        f"{summary['content_loss_falls']:.0%} (mean {loss}).",
    ]
    return lines
