"""Many clips, nine of them bad, workers killed all the while, the driver once: nothing is lost or doubled.

`NC_REFINER_BATCH_CLIPS=200` is the size that was promised; fewer show the same sooner.
"""

from __future__ import annotations

import os
import random
import threading

import pytest

from nc_refiner.cascade import CascadeRunner, load_config
from nc_refiner.cascade.cluster import read_results
from nc_refiner.cascade.prompts import plan_items

from .conftest import actors, kill, program, videos, wait_for

CLIPS, TIMEOUT = int(os.environ.get("NC_REFINER_BATCH_CLIPS", "60")), 4
BAD = {3: "raise a", 11: "raise b", 23: "raise c", 37: "raise d", CLIPS - 5: "raise e"}
WICKED = {8: ("hang a", "timeout"), 41: ("hang b", "timeout"), 16: ("die a", "killed"), 50: ("die b", "killed")}
GOOD = CLIPS - len(BAD) - len(WICKED)
EVERY = (5.0, 9.0)
"""Seconds between two workers that are killed."""


def prompts() -> list[str]:
    found = [f"clip {index}" for index in range(CLIPS)]
    for index, prompt in BAD.items():
        found[index] = prompt
    for index, (prompt, _) in WICKED.items():
        found[index] = prompt
    return found


@pytest.mark.slow
@pytest.mark.long
def test_chaos(cheap, tmp_path):
    path = cheap(prompts(), "{type: cheap, pause: 0.05}", "darker")
    out = tmp_path / "out"
    arguments = ["cascade", path, "--workers", 2, "--output", out, "--timeout", TIMEOUT]
    chance, over, killed = random.Random(5), threading.Event(), []

    def chaos() -> None:
        while not over.wait(chance.uniform(*EVERY)):
            # One that is killed while it starts disturbs no clip; a slow machine would see nothing else.
            alive = actors(at_work=True)
            if alive:
                killed.append(chance.choice(alive))
                kill(killed[-1])

    killer = threading.Thread(target=chaos)
    killer.start()
    try:
        first = program(*arguments)
        wait_for(lambda: first.poll() is not None or len(list(out.glob("*/final.mp4"))) >= CLIPS // 4, 600)
        assert first.poll() is None, first.communicate()[1]
        first.kill()
        first.communicate()
        halfway = len(list(out.glob("*/final.mp4")))
        # What a driver leaves that is killed goes with it, before another begins.
        wait_for(lambda: not actors(), 60)
        second = program(*arguments, "--resume")
        said, told = second.communicate(timeout=1200)
    finally:
        over.set()
        killer.join()
    assert CLIPS // 4 <= halfway < GOOD and len(killed) >= 3
    assert second.returncode == 1, told

    table = read_results(str(out)).to_pylist()
    found = {row["prompt"]: row for row in table}
    assert len(table) == len(found) == CLIPS
    failed = {prompt: row["cause"] for prompt, row in found.items() if row["status"] == "failed"}
    assert failed == {**dict.fromkeys(BAD.values(), "failed"), **dict(WICKED.values())}, told
    assert f"{GOOD} of {CLIPS} done" in said and "2 failed (timeout)" in said
    assert "Traceback" not in told

    # The very bytes of a run in one process; its seeds follow from the place in the list, which the failed ones keep.
    config = load_config(path)
    items = [item for item in plan_items(config.prompts, config.seed, None) if (item.prompt or "").startswith("clip")]
    CascadeRunner(config, items=items, output=tmp_path / "serial").run()
    wanted, made = videos(tmp_path / "serial"), videos(out)
    assert {name: made.get(name) for name in wanted} == wanted
    assert sum(name.endswith("final.mp4") for name in made) == GOOD
    assert not [left for left in out.rglob("*") if left.name.startswith(".scratch-") or left.suffix == ".part"]
