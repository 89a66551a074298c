"""Which texts are nearly the same, among very many: MinHash signatures, found again through bands.

A text is the set of its character n-grams, lower-cased, runs of white space counted as one space. The share of equal entries of
two signatures estimates the Jaccard similarity of their sets, with standard deviation sqrt(s (1 - s) / permutations); texts
meet as candidates where one of the bands is equal, which texts of similarity s do with probability 1 - (1 - s^rows)^bands.
Source: Broder 1997, On the resemblance and containment of documents; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
chapter 3. The hash functions are multiply-shift (Dietzfelbinger et al. 1997), the same on every machine.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Signature = NDArray[np.uint32]

PERMUTATIONS, BANDS = 128, 32
"""Entries of a signature, and the bands it is cut into: texts of similarity 0.7 meet 99.98 times in 100, of 0.2 five times."""
NGRAM = 5
BASE = 0x100000001B3
MIX = 0x9E3779B97F4A7C15


def normalised(text: str) -> str:
    """Lower case, with single spaces: what counts as the same text."""
    return " ".join(text.lower().split())


def shingles(text: str, n: int = NGRAM) -> NDArray[np.uint64]:
    """Hashes of the different character n-grams of the normalised text; a shorter text is one shingle, an empty one has none."""
    import numpy as np

    codes = np.frombuffer(normalised(text).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(codes) == 0:
        return codes
    windows = np.lib.stride_tricks.sliding_window_view(codes, min(n, len(codes)))
    powers = np.array([pow(BASE, place, 2**64) for place in range(windows.shape[1])], dtype=np.uint64)
    mixed = ((windows * powers).sum(axis=1, dtype=np.uint64) + np.uint64(windows.shape[1])) * np.uint64(MIX)
    # the low bits of a product depend on low bits alone: fold the high ones in
    return np.unique((mixed ^ (mixed >> np.uint64(29))) * np.uint64(MIX))


@cache
def _functions() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Odd factors and offsets of the hash functions."""
    import numpy as np

    draw = np.random.default_rng(1997)
    factors, offsets = draw.integers(0, 2**64, size=(2, PERMUTATIONS), dtype=np.uint64)
    return factors | np.uint64(1), offsets


def signature(text: str) -> Signature | None:
    """[128] the least hash of any shingle under each function; None for a text without a character."""
    import numpy as np

    found = shingles(text)
    if len(found) == 0:
        return None
    factors, offsets = _functions()
    least = np.full(PERMUTATIONS, 2**32 - 1, dtype=np.uint64)
    for start in range(0, len(found), 4096):  # memory: long texts go in parts
        hashed = found[start : start + 4096, None] * factors + offsets
        least = np.minimum(least, (hashed >> np.uint64(32)).min(axis=0))
    return least.astype(np.uint32)


def similarity(first: Signature, second: Signature) -> float:
    """Estimated Jaccard similarity."""
    return float((first == second).mean())


def jaccard(first: str, second: str, n: int = NGRAM) -> float:
    """Exact Jaccard similarity of two texts' shingles; 1 for two empty texts."""
    import numpy as np

    a, b = shingles(first, n), shingles(second, n)
    union = len(np.union1d(a, b))
    return 1.0 if union == 0 else len(np.intersect1d(a, b)) / union


class NearIndex:
    """Texts under names, to be found by texts like them.

    threshold: the least estimated similarity that counts as near. Memory: about 6 kB a text, whatever its length.
    Raises ValueError for a threshold outside [0.5, 1]: below it the bands would miss too many.
    """

    def __init__(self, threshold: float = 0.8) -> None:
        if not 0.5 <= threshold <= 1.0:
            raise ValueError(f"the threshold must lie in [0.5, 1], not {threshold}")
        self.threshold = threshold
        self._names: list[Hashable] = []
        self._signatures: list[Signature] = []
        self._bands: list[dict[int, int | list[int]]] = [{} for _ in range(BANDS)]  # a list only where texts share a band

    def __len__(self) -> int:
        return len(self._names)

    def add(self, text: str, name: Hashable) -> None:
        """Keep a text; one without a character is not kept."""
        found = signature(text)
        if found is None:
            return
        place = len(self._names)
        for band, key in zip(self._bands, _keys(found), strict=True):
            earlier = band.setdefault(key, place)
            if isinstance(earlier, list):
                earlier.append(place)
            elif earlier != place:
                band[key] = [earlier, place]
        self._names.append(name)
        self._signatures.append(found)

    def find(self, text: str) -> tuple[Hashable, float] | None:
        """(name, estimated similarity) of the nearest kept text, the first of equals; None where none is near."""
        return max(self.find_all(text), key=lambda one: one[1], default=None)

    def find_all(self, text: str) -> list[tuple[Hashable, float]]:
        """(name, estimated similarity) of every kept text that is near, in the order of keeping."""
        import numpy as np

        found = signature(text)
        if found is None:
            return []
        met = (band.get(key, ()) for band, key in zip(self._bands, _keys(found), strict=True))
        places = sorted({place for one in met for place in ((one,) if isinstance(one, int) else one)})
        if not places:
            return []
        shares = (np.stack([self._signatures[place] for place in places]) == found).mean(axis=1)
        return [(self._names[place], float(how)) for place, how in zip(places, shares, strict=True) if how >= self.threshold]


def _keys(found: Signature) -> list[int]:
    """One number a band; different bands may meet in 2^-64 of all cases, and the signatures are compared anyway."""
    import numpy as np

    rows = PERMUTATIONS // BANDS
    powers = np.array([pow(MIX, place + 1, 2**64) for place in range(rows)], dtype=np.uint64)
    keys: list[int] = (found.reshape(BANDS, rows).astype(np.uint64) * powers).sum(axis=1, dtype=np.uint64).tolist()
    return keys
