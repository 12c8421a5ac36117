"""A calibrated refiner over VGen's files.

    python $NC/integrations/vgen/refine.py --cfg configs/sr600_infer.yaml --refiner $NC/configs/vgen_refiner.yaml

`--cfg` is VGen's own file for its SR600 stage, read for the keys that decide file names: `test_list_path`, `log_dir`,
`round`, `seed`, `embedder.positive_prompt` and `embedder.negative_prompt`. Like that stage it reads
`LOG_DIR/LIST/rank_01_00_NNNN_CAPTION.mp4` and writes `…_sr.mp4` beside it, for each caption of the list.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from nc_refiner.cascade.folders import Job, main, need
from nc_refiner.config.document import ConfigError, Document

__all__ = ["file_stem", "plan"]


def file_stem(index: int, caption: str) -> str:
    """The name that VGen gives the clip of a caption on one GPU: punctuation dropped, spaces as underscores."""
    plain = re.sub(r"[^\w\s]", "", caption).replace(" ", "_")
    return f"rank_01_00_{index:04d}_{plain}"


def plan(document: Document) -> tuple[list[Job], Path]:
    """One job for each caption of the list whose clip is there; `caption|seed` carries a seed, as in VGen.

    Raises:
        ConfigError: keys that are missing or of another kind, no such list, or no clip for any caption.
    """
    listed = Path(need(document, "test_list_path", str))
    seed, rounds = need(document, "seed", int, 0), need(document, "round", int, 1)
    embedder = need(document, "embedder", dict, {})
    positive, document.data["negative_prompt"] = _text(embedder, "positive_prompt"), _text(embedder, "negative_prompt")
    try:
        lines = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{document.where(('test_list_path',))}: {listed} cannot be read ({error})") from None
    # VGen's own rule: the folder is the list's name up to its first dot.
    folder = Path(need(document, "log_dir", str, "workspace/experiments")) / listed.name.split(".")[0]
    jobs, missing = [], []
    for index, caption in enumerate(line for line in lines for _ in range(rounds)):
        if not caption or caption.startswith("#"):
            continue
        text, bar, own = caption.partition("|")
        source = folder / f"{file_stem(index, text)}.mp4"
        if not source.is_file():
            missing.append(source.name)
            continue
        number = int(own) if bar and own.strip().isdigit() else seed
        jobs.append(Job(source, source.with_name(f"{source.stem}_sr.mp4"), text + positive, number))
    if not jobs:
        first = missing[0] if missing else "any caption"
        raise ConfigError(f"{folder} holds no clip for {listed} (looked for {first}); run VGen's first stage first")
    return jobs, folder.parent / f"{folder.name}_receipts"


def _text(embedder: dict[str, Any], key: str) -> str:
    value = embedder.get(key, "")
    return value if isinstance(value, str) else ""


if __name__ == "__main__":
    sys.exit(main("vgen/refine.py", "--cfg", plan, None))
