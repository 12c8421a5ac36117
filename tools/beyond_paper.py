"""What goes beyond the paper, measured on clips that training never saw, into docs/beyond.md; its verdicts are also
rows of docs/reproduction.md.

    python tools/beyond_paper.py --clips FOLDER [FOLDER ...] [--ask QUESTION ...] [--refiners NAME ...]

Stopped at any moment, the same command goes on where it was. `ffdnet` is the adapter of examples/ffdnet_refiner.py.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from beyond.arms import QUESTIONS, TARGETS
from beyond.measuring import rows_of_question, rows_of_targets
from beyond.page import NAMES, page, verdicts
from reproduction.document import with_beyond
from reproduction.plans import Size, evaluation_clips

from nc_refiner.adapters.base import RefinerAdapter
from nc_refiner.adapters.registry import create
from nc_refiner.experiment.offline.results import CellStore
from nc_refiner.files import write_text
from nc_refiner.sweeps import SweepClip

log = logging.getLogger(__name__)
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SIZE = Size(frames=3, height=96)
COLUMNS = 160


class NotFinished(Exception):
    """A cell is not there, and nothing is to be run."""


class Finished(CellStore):
    """Cells that were finished before."""

    def get(self, key: str) -> dict[str, Any]:
        """As `CellStore.get`; raises `NotFinished` where there is none."""
        found = super().get(key)
        if found is None:
            raise NotFinished(key)
        return found


def _adapter(name: str) -> RefinerAdapter:
    if name == "ffdnet":
        sys.path.insert(0, str(EXAMPLES))
        import ffdnet_refiner  # type: ignore[import-not-found]  # noqa: F401 - registers itself
    return create(name, device="cpu")


def _clips(folders: list[Path]) -> list[SweepClip]:
    """The evaluation clips, no wider than `COLUMNS`."""
    found = evaluation_clips(folders, SIZE)
    return [
        SweepClip(clip.name, _cut(clip.frames), None if clip.original is None else _cut(clip.original))
        for clip in found
    ]


def _cut(frames: torch.Tensor) -> torch.Tensor:
    return frames[..., : SIZE.height, :COLUMNS].contiguous()


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; 0 when it is done."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="folders of clips that training never saw")
    parser.add_argument("--ask", nargs="+", choices=[*QUESTIONS, "keep"], default=[*QUESTIONS, "keep"])
    parser.add_argument("--refiners", nargs="+", default=["embedded", "ffdnet"])
    parser.add_argument("--tuning", type=Path, nargs="*", default=[], help="files of nc-refiner tune, for keep")
    parser.add_argument("--output", type=Path, default=Path("docs/beyond.md"))
    parser.add_argument(
        "--verdicts", type=Path, default=Path("docs/reproduction/beyond.json"), help="for docs/reproduction.md"
    )
    parser.add_argument("--cells", type=Path, default=Path("out/beyond/cells"), help="finished cells")
    parser.add_argument("--finished", action="store_true", help="run nothing: the page of what is finished")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    clips, cells, rows = _clips(given.clips), (Finished if given.finished else CellStore)(given.cells), []
    for name in given.refiners:
        adapter = _adapter(name)
        tuned = [path for path in given.tuning if f'"adapter": "{name}"' in path.read_text(encoding="utf-8")]
        for ask in given.ask:
            tables = (
                [rows_of_targets(adapter, clips, TARGETS, path, cells) for path in (None, *tuned)]
                if ask == "keep"
                else [rows_of_question(adapter, clips, ask, QUESTIONS[ask], cells)]
            )
            for table in tables:
                try:
                    for row in table:
                        rows.append(row)
                        log.info("%s %s %s %s", name, ask, row["clip"], row.get("label", row.get("target")))
                except NotFinished:
                    # Half a question is no answer.
                    rows = [row for row in rows if (row["refiner"], row["question"]) != (name, ask)]
    command = shlex.join(["python", "tools/beyond_paper.py", *(sys.argv[1:] if arguments is None else arguments)])
    write_text(given.output, page(rows, clips, command)).commit()
    decided = [
        {"model": NAMES.get(refiner, refiner), "question": QUESTIONS[name].title, **asdict(one)}
        for refiner, questions in verdicts(rows).items()
        for name, found in questions.items()
        for one in found
    ]
    given.verdicts.parent.mkdir(parents=True, exist_ok=True)
    write_text(given.verdicts, json.dumps(decided, indent=1, ensure_ascii=False) + "\n").commit()
    reproduction = given.verdicts.parent.with_suffix(".md")
    if reproduction.exists():
        write_text(reproduction, with_beyond(reproduction.read_text(encoding="utf-8"), decided)).commit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
