"""Fetches the training material with the ordinary package clients and cuts it into small uint8 arrays on disk.

Only material with a stated free licence is used; `SOURCES` names each with its terms and ends up in the model card.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from .ffdnet import fetch_ffdnet

log = logging.getLogger(__name__)

FILM = "moviepy==2.2.1"
FILM_MEMBER = "moviepy_10_minutes/resources/bbb.mp4"
PHOTO_PACKAGES = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
HELD_OUT_SECONDS = (440.0, 490.0)
"""Part of the film that training never sees: the demo clip and the validation crops come from it.
The credits behind it are left out too."""
HELD_OUT_SHARE = 0.2
"""The last part of every other video, held out in the same way."""

SEGMENT_FRAMES = 16
SEGMENT_HEIGHT = 360


@dataclass(frozen=True)
class Source:
    """One body of training material and the terms it comes under."""

    name: str
    origin: str
    licence: str
    attribution: str


SOURCES = (
    Source(
        "Big Buck Bunny (the first 440 seconds)",
        f"sdist {FILM}, nested archive in its documentation media",
        "CC-BY 3.0",
        "(c) 2008, Blender Foundation, www.bigbuckbunny.org",
    ),
    Source(
        "Lomiri wallpapers 16.04 and 20.04 (photographs)",
        "Debian packages " + ", ".join(PHOTO_PACKAGES),
        "CC-BY 4.0, CC-BY-SA 3.0 and 4.0, CC0 1.0, per file",
        "A. Berasategi, P. Nerlich, S. Klootwijk, Bolly, Trevor 'Freespace', C. Engelhardt, A. Mudgal, J. Mede, "
        "J. Roks, Aury88, L. Baubkus, herobrine7gamer",
    ),
)


def fetch(root: Path) -> None:
    """Download film and photographs below `root`; what is already there is kept."""
    film, photos = root / "film.mp4", root / "photos"
    root.mkdir(parents=True, exist_ok=True)
    if not film.exists():
        _fetch_film(root, film)
    if not photos.exists():
        _fetch_photos(root, photos)
    fetch_ffdnet(root)


def _fetch_film(root: Path, film: Path) -> None:
    downloads = root / "downloads"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", FILM, "-d", str(downloads)]
    subprocess.run(command, check=True)
    archive = next(downloads.glob("moviepy-*.tar.gz"))
    shutil.unpack_archive(archive, downloads, filter="data")
    nested = next(downloads.rglob("moviepy_10_minutes.zip"))
    part = film.with_suffix(".part")
    with zipfile.ZipFile(nested) as bundle, bundle.open(FILM_MEMBER) as src, part.open("wb") as dst:
        shutil.copyfileobj(src, dst)
    part.rename(film)


def _fetch_photos(root: Path, photos: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        log.warning("photographs skipped: apt-get and dpkg-deb are needed; pass --photos DIR with your own instead")
        return
    downloads, part = root / "downloads", root / "photos.part"
    downloads.mkdir(exist_ok=True)
    part.mkdir(exist_ok=True)
    for package in PHOTO_PACKAGES:
        subprocess.run(["apt-get", "download", package], cwd=downloads, check=True)
        deb = next(downloads.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(deb), str(downloads / package)], check=True)
        for picture in sorted((downloads / package).rglob("*.jpg")):
            shutil.copy(picture, part / picture.name)
    part.rename(photos)


def _frames(path: Path, height: int) -> Iterator[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        width = round(stream.width * height / stream.height / 4) * 4
        for frame in container.decode(stream):
            rgb = frame.reformat(width, height, "rgb24", interpolation="AREA")
            yield float(frame.time or 0.0), rgb.to_ndarray()


def _duration(path: Path) -> float:
    with av.open(str(path)) as container:
        return float(container.duration or 0) / av.time_base


def cut_video(path: Path, every_seconds: float, span: tuple[float, float] = (0.0, float("inf"))) -> np.ndarray:
    """Runs of consecutive frames, `(S, SEGMENT_FRAMES, H, W, 3)` uint8, one run every `every_seconds`, from `span`
    (start and end in seconds; default: all of the video)."""
    segments: list[np.ndarray] = []
    run: list[np.ndarray] = []
    next_start = 0.0
    for time, rgb in _frames(path, SEGMENT_HEIGHT):
        if time >= span[1]:
            break
        if not run and time < max(next_start, span[0]):
            continue
        if not run:
            next_start = time + every_seconds
        run.append(rgb)
        if len(run) == SEGMENT_FRAMES:
            stack = np.stack(run)
            if stack.std() > 8 and _continuous(stack):
                segments.append(stack)
            run = []
    return np.stack(segments)


def _continuous(stack: np.ndarray) -> bool:
    """False when a cut falls inside the run."""
    small = stack[:, ::8, ::8].astype(np.float32)
    return float(np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3)).max()) < 28.0


def load_photo(path: Path, short_side: int = 900) -> np.ndarray:
    """`(H, W, 3)` uint8, the short side scaled to `short_side` by a box filter."""
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
        scale = short_side / min(rgb.size)
        size = (round(rgb.width * scale), round(rgb.height * scale))
        return np.asarray(rgb.resize(size, Image.Resampling.BOX))


def prepare(root: Path, extra_videos: Path | None, extra_photos: Path | None) -> Path:
    """Cut everything below `root` (and the extra folders) into `root/cache`; returns that folder."""
    cache = root / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    jobs = [
        ("film", root / "film.mp4", 1.0, (0.0, HELD_OUT_SECONDS[0])),
        ("validation", root / "film.mp4", 5.0, HELD_OUT_SECONDS),
    ]
    for path in sorted(extra_videos.glob("*.mp4")) if extra_videos else []:
        end = _duration(path) * (1 - HELD_OUT_SHARE)
        jobs.append((f"video_{path.stem}", path, 1.0, (0.0, end)))
        jobs.append((f"validation_{path.stem}", path, 5.0, (end, float("inf"))))
    for name, path, every, span in jobs:
        target = cache / f"{name}.npy"
        if not target.exists():
            log.info("cutting %s", path.name)
            _save(target, cut_video(path, every, span))
    for folder in filter(None, (root / "photos", extra_photos)):
        for path in sorted(folder.glob("*.jp*g")):
            target = cache / f"photo_{path.stem}.npy"
            if not target.exists():
                _save(target, load_photo(path))
    return cache


def _save(target: Path, array: np.ndarray) -> None:
    part = target.with_suffix(".part")
    with part.open("wb") as stream:
        np.save(stream, array)
    part.rename(target)
