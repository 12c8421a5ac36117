"""Show-1's second super-resolution stage, calibrated.

    python $NC/integrations/show1/refine.py --config $NC/configs/show1.yaml

Reads `{prompt}_sr1.gif` from `output_dir`, as `run_inference.py` leaves them, and writes `{prompt}.mp4` to
`refined_dir`. Show-1's own last stage is a diffusers `VideoToVideoSDPipeline` at strength 0.8, plain SDEdit; whoever
runs it in the same process wraps it instead (`pipe_sr_2 = nc_refiner.wrap(pipe_sr_2, iterations=3)`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from nc_refiner.cascade.folders import Job, main, need
from nc_refiner.config.document import ConfigError, Document

__all__ = ["KEYS", "plan"]

KEYS = ("negative_prompt", "output_dir", "refined_dir", "refiner", "seed")
SUFFIX = "_sr1.gif"


def plan(document: Document) -> tuple[list[Job], Path]:
    """One job for each `{prompt}_sr1.gif`; the prompt is the file's name.

    Raises:
        ConfigError: keys that are missing or of another kind, or no such file.
    """
    source = Path(need(document, "output_dir", str, "./outputs/example"))
    target = Path(need(document, "refined_dir", str, f"{source}_refined"))
    seed = need(document, "seed", int, 345)
    found = sorted(source.glob(f"*{SUFFIX}")) if source.is_dir() else []
    if not found:
        raise ConfigError(
            f"{document.where(('output_dir',))}: {source} holds no *{SUFFIX}; run Show-1's run_inference.py first"
        )
    prompts = [(path, path.name.removesuffix(SUFFIX)) for path in found]
    jobs = [Job(path, target / f"{prompt}.mp4", prompt, seed) for path, prompt in prompts]
    return jobs, target.parent / f"{target.name}_receipts"


if __name__ == "__main__":
    sys.exit(main("show1/refine.py", "--config", plan, KEYS))
