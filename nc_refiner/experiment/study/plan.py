"""Who sees what where: the order of the pairs and their sides, by a hash of the study's seed and the rater."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

__all__ = ["Shown", "plan"]


@dataclass(frozen=True)
class Shown:
    """One comparison as one rater sees it: `left` is labelled A, `right` B."""

    pair: str
    left: str
    right: str

    @property
    def arms(self) -> frozenset[str]:
        """The two arms, whatever their sides."""
        return frozenset((self.left, self.right))


def plan(pairs: Sequence[str], arms: Sequence[str], seed: int, rater: str) -> tuple[Shown, ...]:
    """Every pair of arms on every item, in the order and on the sides of one rater.

    The same arguments always give the same plan, on every machine. Every two arms swap sides so that each is on the
    left in half of their comparisons, one more or less; where their number is odd, the odd ones are handed out in a
    circle, so that over all its comparisons no arm is on the left more than once more or less often than on the right.

    Args:
        pairs: names of the items, all different.
        arms: at least two.
        seed: of the study.
        rater: who it is for.
    """

    def rank(*parts: str) -> bytes:
        return hashlib.sha256("\0".join((str(seed), rater, *parts)).encode()).digest()

    circle = sorted(arms, key=lambda arm: rank("circle", arm))
    found = []
    for i, j in combinations(range(len(circle)), 2):
        two = (circle[i], circle[j])
        names = sorted(two)
        items = sorted(pairs, key=lambda pair: rank("side", pair, *names))
        step = 2 * (j - i)
        # The next half of the circle is beaten to the left side; the arm straight across by a coin.
        ahead = step < len(circle) or (step == len(circle) and rank("across", *names)[0] % 2 == 0)
        first, second = two if ahead else two[::-1]
        found += [
            Shown(pair, first, second) if number % 2 == 0 else Shown(pair, second, first)
            for number, pair in enumerate(items)
        ]
    return tuple(sorted(found, key=lambda shown: rank("order", shown.pair, *sorted(shown.arms))))
