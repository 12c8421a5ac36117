"""The three questions of the paper's user study."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QUESTIONS", "Question"]


@dataclass(frozen=True)
class Question:
    """One question: `name` in the database, `short` in results, `text` on the page with a `hint` on what to look at."""

    name: str
    short: str
    text: str
    hint: str


QUESTIONS = (
    Question(
        "consistency",
        "consistency with the input",
        "Which one keeps more of the input?",
        "the same objects, shapes, places, colours and motion",
    ),
    Question("quality", "quality", "Which one has the better quality?", "clean, sharp, steady, without artefacts"),
    Question("texture", "texture", "Which one has the better texture?", "rich and natural fine detail"),
)
"""Consistency, quality, texture, in this order (Noise Calibration, arXiv 2407.10285, user study)."""
