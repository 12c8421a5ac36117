"""Make the embedded refiner: fetch the material, train, evaluate, write weights and model card.

    python tools/train_embedded.py fetch --data DATA [--videos DIR] [--photos DIR]
    python tools/train_embedded.py train --data DATA --run RUN [--minutes 100] [--compile] [--device cpu|cuda]
    python tools/train_embedded.py evaluate [--clips DIR ...] [--strengths 0.3 0.4 0.5] --output FILE.json
    python tools/train_embedded.py publish --run RUN [--evaluation FILE.json --strength 0.4]

`train` saves every two minutes and goes on where it stopped; `--minutes` is the budget over all resumes and may be
raised later. `publish` writes the averaged weights and MODEL_CARD.md into the package.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import torch
from embedded_training.card import write_card
from embedded_training.evaluate import clips_in, evaluate
from embedded_training.loop import Trainer, TrainingConfig
from embedded_training.sources import fetch, prepare

from nc_refiner import CalibratedRefiner
from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.adapters.embedded.model import SpaceTimeUNet, UNetConfig
from nc_refiner.adapters.embedded.weights import DEFAULT_WEIGHTS, save_network


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
    training.add_argument("--compile", action="store_true", help="torch.compile the network (faster after minutes)")
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    measuring = commands.add_parser("evaluate", help="the target's figures on unseen clips")
    measuring.add_argument("--clips", type=Path, nargs="*", default=[], help="folders of clips that training never saw")
    measuring.add_argument("--strengths", type=float, nargs="+", default=[0.4])
    measuring.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    measuring.add_argument("--frames", type=int, default=8)
    measuring.add_argument("--height", type=int, default=160)
    measuring.add_argument("--output", type=Path, required=True)
    publishing = commands.add_parser("publish", help="write weights and model card into the package")
    publishing.add_argument("--run", type=Path, required=True)
    publishing.add_argument("--evaluation", type=Path)
    publishing.add_argument("--strength", type=float)
    publishing.add_argument("--notes", default="", help="a sentence on this run for the card")
    return parser


def _publish(run: Path, evaluation: Path | None, strength: float | None, notes: str) -> None:
    history = json.loads((run / "history.json").read_text())
    state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    network = SpaceTimeUNet(UNetConfig.from_dict(history["config"]["network"]))
    network.load_state_dict(state["average"])
    save_network(network, DEFAULT_WEIGHTS)
    measured = json.loads(evaluation.read_text()) if evaluation else {}
    card = DEFAULT_WEIGHTS.with_name("MODEL_CARD.md")
    write_card(card, network, history, state["seconds"], measured, strength, notes)


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
        config = TrainingConfig(minutes=arguments.minutes, batch=arguments.batch, crop=arguments.crop)
        Trainer(config, arguments.data / "cache", arguments.run, arguments.compile, arguments.device).train()
    elif arguments.command == "evaluate":
        refiner = CalibratedRefiner(EmbeddedRefiner(arguments.weights))
        clips = list(clips_in(arguments.clips, arguments.frames, arguments.height))
        arguments.output.write_text(json.dumps(evaluate(refiner, clips, arguments.strengths), indent=1))
    else:
        _publish(arguments.run, arguments.evaluation, arguments.strength, arguments.notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
