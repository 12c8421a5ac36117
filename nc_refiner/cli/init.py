"""`nc-refiner init`: a commented cascade file for the host one names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import option

__all__ = ["init"]


def init(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file to write; - prints it.")] = Path(
        "cascade.yaml"
    ),
    host: Annotated[str, option("embedded, wan, ltx, sdxl, modelscope or videocrafter.", "--host")] = "embedded",
    overwrite: Annotated[bool, option("Replace a file that is there.", "--overwrite")] = False,
) -> None:
    """Write a commented cascade file to start from, for the host you name."""
    from ..cascade.starts import start_text
    from ..files import write_text

    text = start_text(host)
    if str(output) == "-":
        sys.stdout.write(text)
        return
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already; give another name, or --overwrite")
    write_text(output, text).commit()
    typer.echo(f"{output}: {text.partition(chr(10))[0].removeprefix('# ')}")
    typer.echo(f"Edit it, then run: nc-refiner cascade {output}")
