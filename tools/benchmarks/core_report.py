"""What `core` measured, against its bars and as tables."""

from __future__ import annotations

from typing import Any

from .tables import table

__all__ = ["bars", "render"]

FILTER_BAR, FILTER_BAR_CUTOFF = 5.0, 0.5
SHARE_BAR = 0.01
MIB = 2**20


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every promise: `name`, `bar`, what was `found`, and whether it is `met`."""
    filtered = next(row for row in result["filter"] if row["cutoff"] == FILTER_BAR_CUTOFF)
    quality, memory = result["quality"], result["memory"]
    off = [v["name"] for v in quality["variants"] for row in v["per_clip"] if row["evaluations"] != row["expected"]]
    rows = [
        _bar(
            f"filter against published, cutoff {FILTER_BAR_CUTOFF:g}",
            f">= {FILTER_BAR:g} x",
            f"{filtered['ratio']:.1f} x",
            filtered["ratio"] >= FILTER_BAR,
        )
    ]
    for row in result["overhead"]["rows"]:
        name = f"calibration, N = {row['iterations']}, cutoff {row['cutoff']:g}"
        rows.append(_bar(name, f"< {SHARE_BAR:.0%}", f"{row['share']:.2%}", row["share"] < SHARE_BAR))
    rows.append(_bar("evaluations S, S+N, reuse S+N-1", "exact", ", ".join(off) or "exact", not off))
    over = memory["allowed"] / MIB
    peak = memory["calibrated"]
    rows.append(
        _bar("peak memory, MiB", f"<= {over:.0f} (2% + latent)", f"{peak / MIB:.0f}", peak <= memory["allowed"])
    )
    return rows


def _bar(name: str, bar: str, found: str, met: bool) -> dict[str, Any]:
    return {"name": name, "bar": bar, "found": found, "met": met}


def render(result: dict[str, Any]) -> str:
    """The whole report as text."""
    parts = (_environment, _filter, _overhead, _quality, _memory, _bars)
    return "".join(part(result) for part in parts).rstrip("\n") + "\n"


def _environment(result: dict[str, Any]) -> str:
    env, settings = result["environment"], result["settings"]
    return (
        f"nc_refiner {env['nc_refiner']}, torch {env['torch']}, Python {env['python']}, {env['platform']} "
        f"{env['cpu']}\n{env['threads']} of {env['cores']} cores used; load average {env['load_before']} before, "
        f"{env['load_after']} after; {result['seconds']:.0f} s\n"
        f"{settings['repeats']} timed rounds, candidates interleaved; medians{'; --quick' * settings['quick']}\n\n"
    )


def _filter(result: dict[str, Any]) -> str:
    shape = "x".join(map(str, result["settings"]["filter_shape"]))
    rows = [
        [
            f"{row['cutoff']:g}" + (" (identity)" if row["cutoff"] == 1 else ""),
            f"{row['published_ms']:.1f}",
            f"{row['ours_ms']:.2f}",
            f"{row['ratio']:.1f}",
            f"{row['cpu_ratio']:.1f}",
            f"{row['max_difference']:.1e}",
        ]
        for row in result["filter"]
    ]
    header = ["cutoff", "published ms", "ours ms", "ratio", "CPU ratio", "max diff."]
    return table(f"Filter step on {shape} float32: two complex FFT pairs against ours", header, rows)


def _overhead(result: dict[str, Any]) -> str:
    found = result["overhead"]
    clip = "x".join(map(str, found["clip"]))
    rows = [
        [f"N = {r['iterations']}, cutoff {r['cutoff']:g}", f"{r['calibrate_ms']:.2f}", f"{r['share']:.2%}"]
        for r in found["rows"]
    ]
    title = f"Calibration outside the model, {clip}; one evaluation: {found['evaluation_ms']:.0f} ms"
    return table(title, ["calibration", "ms", "of an evaluation"], rows)


def _quality(result: dict[str, Any]) -> str:
    found = result["quality"]
    count = len(found["clips"])
    rows = [["input, unrefined", "0", *_measures(found["input"])]]
    rows += [[v["name"], f"{v['evaluations']:g}", *_measures(v)] for v in found["variants"]]
    title = (
        f"Model evaluations (S = {found['steps']} steps) and fidelity, mean of {count} clip{'s' * (count != 1)}\n"
        "  MSE and SSIM to the input, PSNR to the undegraded original"
    )
    return table(title, ["", "evaluations", "MSE x1e-3", "SSIM", "PSNR dB"], rows)


def _measures(row: dict[str, Any]) -> list[str]:
    shown = (("mse", 1000, ".3f"), ("ssim", 1, ".4f"), ("psnr", 1, ".2f"))
    return ["-" if row[name] is None else format(row[name] * scale, form) for name, scale, form in shown]


def _memory(result: dict[str, Any]) -> str:
    found = result["memory"]
    rows = [
        [name, f"{found[key] / MIB:.1f}", f"{found[key] / found['sdedit']:.4f}"]
        for name, key in (("model and clip loaded", "ready"), ("SDEdit", "sdedit"), ("N = 3", "calibrated"))
    ]
    clip = "x".join(map(str, found["clip"]))
    title = f"Peak memory of a fresh process, {clip}; one latent: {found['latent'] / MIB:.1f} MiB"
    return table(title, ["", "MiB", "of SDEdit"], rows)


def _bars(result: dict[str, Any]) -> str:
    rows = [[bar["name"], bar["bar"], bar["found"], "met" if bar["met"] else "MISSED"] for bar in result["bars"]]
    return table("Bars", ["", "bar", "found", ""], rows)
