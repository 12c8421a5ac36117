"""How colours are converted: swscale's flags by value, since PyAV before 18 takes them and cannot name all of them."""

__all__ = ["EXACT_READING", "EXACT_WRITING"]

_BICUBIC, _FULL_CHR_H_INT, _FULL_CHR_H_INP = 0x4, 0x2000, 0x4000
_ACCURATE_RND, _BITEXACT = 0x40000, 0x80000

EXACT_READING = _BICUBIC | _ACCURATE_RND | _FULL_CHR_H_INT
EXACT_WRITING = _BICUBIC | _ACCURATE_RND | _FULL_CHR_H_INP | _BITEXACT
