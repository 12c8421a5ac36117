"""One rater's way through the study: the plan with its opaque names, and what is answered."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .clips import Item
from .plan import Shown, plan
from .playable import Playable
from .questions import QUESTIONS
from .votes import Study, Vote, VoteBook

__all__ = ["Comparison", "Gallery", "alias_of", "anonymous", "cookie_of", "rater_of"]

ALIAS_LENGTH = 40


def alias_of(text: str) -> str:
    """`text` as a rater's name: spaces trimmed, lower case, so that a phone's capital makes no other person.

    Raises:
        ValueError: empty, longer than 40, or with other characters than letters, digits, spaces and `.-_@'`.
    """
    alias = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    if not 0 < len(alias) <= ALIAS_LENGTH:
        raise ValueError(f"a name has 1 to {ALIAS_LENGTH} characters")
    if not alias[0].isalnum() or not all(
        c.isalnum() or unicodedata.category(c) in ("Mn", "Mc") or c in " .-_@'" for c in alias
    ):
        raise ValueError("a name has letters, digits, spaces and . - _ @ ', and starts with a letter or digit")
    return alias


def anonymous() -> str:
    """A fresh name for someone who gives none."""
    return f"anonymous-{secrets.token_hex(4)}"


def cookie_of(rater: str) -> str:
    """A rater's name as a cookie can hold it."""
    return base64.urlsafe_b64encode(rater.encode()).decode().rstrip("=")


def rater_of(cookie: str) -> str | None:
    """The rater's name in a cookie; None if it holds none."""
    try:
        return alias_of(base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4)).decode())
    except (ValueError, binascii.Error):
        return None


@dataclass(frozen=True)
class Comparison:
    """One comparison of one rater: its opaque name and those of its clips."""

    id: str
    shown: Shown
    item: Item
    names: dict[str, str]


class Gallery:
    """What the page shows, and to whom.

    Args:
        study: as it was begun.
        items: of its material.
        clips: every file of an item → what is served for it.
    """

    def __init__(self, study: Study, items: tuple[Item, ...], clips: dict[Path, Playable]):
        self.study, self.clips = study, clips
        self.items = {item.pair: item for item in items}
        self._of = lru_cache(maxsize=256)(self._make)

    def _name(self, *parts: str) -> str:
        """An opaque name: without the study's secret it says nothing, and no two raters share one."""
        digest = hmac.new(self.study.secret.encode(), "\0".join(parts).encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:15]).decode()

    def _make(self, rater: str) -> dict[str, Comparison]:
        found = {}
        for shown in plan(list(self.items), self.study.arms, self.study.seed, rater):
            key = (rater, shown.pair, *sorted(shown.arms))
            names = {slot: self._name("clip", *key, slot) for slot in ("input", "a", "b")}
            comparison = Comparison(self._name("pair", *key), shown, self.items[shown.pair], names)
            found[comparison.id] = comparison
        return found

    def comparisons(self, rater: str) -> dict[str, Comparison]:
        """Opaque name → comparison, in the rater's order."""
        return self._of(rater)

    def clip(self, rater: str, name: str) -> Path | None:
        """The file behind an opaque name that this rater was given; None for any other name."""
        for comparison in self.comparisons(rater).values():
            for slot, given in comparison.names.items():
                if hmac.compare_digest(given.encode(), name.encode()):
                    return self.clips[self._file(comparison, slot)].path
        return None

    @staticmethod
    def _file(comparison: Comparison, slot: str) -> Path:
        shown, item = comparison.shown, comparison.item
        return {"input": item.input, "a": item.outputs[shown.left], "b": item.outputs[shown.right]}[slot]

    def state(self, rater: str, book: VoteBook) -> dict[str, Any]:
        """Where the rater is: how many comparisons are done, and the next one with the answers it has."""
        answers: dict[tuple[str, frozenset[str]], dict[str, str]] = {}
        for vote in book.of(rater):
            answers.setdefault((vote.pair, vote.arms), {})[vote.question] = vote.choice
        done, following = 0, None
        comparisons = self.comparisons(rater)
        for comparison in comparisons.values():
            given = answers.get((comparison.shown.pair, comparison.shown.arms), {})
            if all(question.name in given for question in QUESTIONS):
                done += 1
            elif following is None:
                following = self._seen(comparison, given)
        return {"rater": rater, "total": len(comparisons), "done": done, "next": following}

    def _seen(self, comparison: Comparison, given: dict[str, str]) -> dict[str, Any]:
        clips = [self.clips[self._file(comparison, slot)] for slot in ("input", "a", "b")]
        return {
            "id": comparison.id,
            "clips": {slot: f"clip/{name}" for slot, name in comparison.names.items()},
            "fps": max(clip.fps for clip in clips),
            "seconds": min(clip.frames / clip.fps for clip in clips),
            "shape": clips[1].width / clips[1].height,
            "answers": {
                question: "a" if choice == comparison.shown.left else "b" for question, choice in given.items()
            },
        }

    def vote(self, rater: str, comparison: Comparison, question: str, choice: str, seconds: float) -> Vote:
        """The rater's answer, with what A and B stood for."""
        shown = comparison.shown
        chosen = shown.left if choice == "a" else shown.right
        return Vote(
            rater, shown.pair, comparison.item.clip, question, chosen, shown.left, shown.right, round(seconds, 3)
        )
