"""The table that `nc-refiner refine` prints."""

from __future__ import annotations

from typing import Any

from ..naming import counted

__all__ = ["print_report"]

COLUMNS = (
    ("mse", "MSE", 1e3, "{:.3f}"),
    ("mse_low", "MSE_low", 1e3, "{:.3f}"),
    ("ssim", "SSIM", 1, "{:.4f}"),
    ("psnr", "PSNR", 1, "{:.2f}"),
    ("spatial_frequency", "detail", 1, "{:.4f}"),
    ("psnr_to_original", "PSNR to original", 1, "{:.2f}"),
)
LEGEND = "against the reference; MSE in thousandths, PSNR in dB, detail: spatial frequency"


def _cell(row: dict[str, Any], key: str, factor: float, form: str) -> str:
    value = row.get(key)
    return "–" if value is None else form.format(value * factor)


def print_report(report: dict[str, Any]) -> None:
    """Write the report of a `RefineJob` for people to standard output, readable from 80 columns on."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Paths and notes are printed as they are: a bracket in a name is not markup.
    console = Console(markup=False, highlight=False)
    clip = report["clip"]
    console.print(
        f"{counted(clip['frames'], 'frame')} of {clip['width']}×{clip['height']}, strength {report['strength']:g}, "
        f"seed {report['seed']}"
    )
    rows = [row for row in report.values() if isinstance(row, dict)]
    columns = [column for column in COLUMNS if any(column[0] in row for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", no_wrap=True)
    for _, title, _, _ in columns:
        table.add_column(title, no_wrap=True, justify="right")
    names = {"reference": "reference", "sdedit": "SDEdit", "calibrated": f"calibrated, N = {report['iterations']}"}
    for key, name in names.items():
        if key in report:
            table.add_row(name, *(_cell(report[key], field, factor, form) for field, _, factor, form in columns))
    # A terminal that is narrower still breaks lines; cells cut short would lose what they say.
    wide = max(console.width, console.measure(table, options=console.options.update(width=200)).maximum)
    Console(markup=False, highlight=False, width=wide).print(table)
    console.print(LEGEND)
    loss = " → ".join(f"{value:.4f}" for value in report["calibrated"]["content_loss"])
    if loss:
        console.print(f"content loss per iteration: {loss}")
    original = report["reference"].get("original_spatial_frequency")
    if original is not None:
        console.print(f"detail of the undegraded original: {original:.4f}")
    for note in report["degradations"]:
        console.print(f"note: {note}")
    for kind, path in report["files"].items():
        console.print(f"{kind.replace('_', ' '):<14} {path}", soft_wrap=True)
