"""The table that `nc-refiner refine` prints."""

from __future__ import annotations

from typing import Any

__all__ = ["print_report"]

COLUMNS = (
    ("mse", "MSE ×10⁻³", 1e3, "{:.3f}"),
    ("mse_low", "MSE_low ×10⁻³", 1e3, "{:.3f}"),
    ("ssim", "SSIM", 1, "{:.4f}"),
    ("psnr", "PSNR dB", 1, "{:.2f}"),
    ("spatial_frequency", "spatial freq.", 1, "{:.4f}"),
    ("psnr_to_original", "PSNR to original dB", 1, "{:.2f}"),
)


def _cell(row: dict[str, Any], key: str, factor: float, form: str) -> str:
    value = row.get(key)
    return "–" if value is None else form.format(value * factor)


def print_report(report: dict[str, Any]) -> None:
    """Write the report of a `RefineJob` for people to standard output."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    clip = report["clip"]
    console.print(
        f"{clip['frames']} frames of {clip['width']}×{clip['height']}, strength {report['strength']:g}, "
        f"seed {report['seed']}",
        highlight=False,
    )
    columns = [column for column in COLUMNS if any(column[0] in row for row in report.values() if isinstance(row, dict))]
    table = Table("", *(title for _, title, _, _ in columns))
    names = {"reference": "reference (input)", "sdedit": "SDEdit", "calibrated": f"calibrated, N = {report['iterations']}"}
    for key, name in names.items():
        if key in report:
            table.add_row(name, *(_cell(report[key], field, factor, form) for field, _, factor, form in columns))
    console.print(table)
    loss = "  →  ".join(f"{value:.4f}" for value in report["calibrated"]["content_loss"])
    if loss:
        console.print(f"content loss per iteration: {loss}", highlight=False)
    original = report["reference"].get("original_spatial_frequency")
    if original is not None:
        console.print(f"spatial frequency of the undegraded original: {original:.4f}", highlight=False)
    for note in report["degradations"]:
        console.print(f"note: {note}", highlight=False)
    for kind, path in report["files"].items():
        console.print(f"{kind.replace('_', ' '):<14} {path}", highlight=False, soft_wrap=True)
