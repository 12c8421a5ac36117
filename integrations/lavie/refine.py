"""The stage between LaVie's interpolation and its VSR.

    (cd vsr && python $NC/integrations/lavie/refine.py --config $NC/configs/lavie.yaml)

Keys as in LaVie's own stages: `input_folder` (what `interpolation/sample.py` wrote), `output_folder` (what
`vsr/sample.py` gets as `input_path`), `seed_list`, `additional_prompt`, `negative_prompt`; and `refiner`, as in a
cascade. LaVie hands the prompt on in the file's name, and its VSR reads every file of the folder as a clip whose prompt
is its name: names are kept to the letter and nothing but clips is written there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nc_refiner.cascade.folders import Job, clips_in, main, need
from nc_refiner.config.document import ConfigError, Document

__all__ = ["KEYS", "plan"]

KEYS = ("additional_prompt", "input_folder", "negative_prompt", "output_folder", "refiner", "seed_list")


def plan(document: Document) -> tuple[list[Job], Path]:
    """One job for each clip and seed; a second seed gets a folder of its own, as LaVie's would overwrite the first.

    Raises:
        ConfigError: keys that are missing or of another kind, or no clip to read.
    """
    source = Path(need(document, "input_folder", str, "../res/interpolation/"))
    target = Path(need(document, "output_folder", str, "../res/refined/"))
    seeds = need(document, "seed_list", list, [0])
    if not seeds or not all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in seeds):
        raise ConfigError(
            f"{document.where(('seed_list',))}: seed_list is {seeds!r}; needed: whole numbers, at least 0"
        )
    extra = need(document, "additional_prompt", str, "")
    jobs = [
        Job(path, _folder(target, seed, seeds) / path.name, path.stem.replace("_", " ") + extra, seed)
        for seed in seeds
        for path in clips_in(source)
    ]
    return jobs, target.parent / f"{target.name}_receipts"


def _folder(target: Path, seed: int, seeds: list[int]) -> Path:
    return target if seed == seeds[0] else target.with_name(f"{target.name}_seed{seed}")


if __name__ == "__main__":
    sys.exit(main("lavie/refine.py", "--config", plan, KEYS))
