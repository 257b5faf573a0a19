"""Claims beyond the paper: what permuting adds to a random mask, to any other, and to length.

They are tested as the paper's claims are, but p-values are adjusted among themselves.
"""

import pandas as pd

from maskalign.claim import ABOVE, CLOSE, Claim, mean
from maskalign.units import Results


def _difference(first: str, second: str, name: str, text: str, kind: str = ABOVE) -> Claim:
    """Return the claim on the mean of first - second, from rewind epochs above 0."""
    return Claim(
        name,
        text,
        f"{first.replace('_', ' ')} - {second.replace('_', ' ')}, points",
        lambda r: mean(r.difference(first, second, late=True)),
        methods=(first, second),
        kind=kind,
    )


def _longest(r: Results) -> pd.DataFrame:
    return mean(r.longest()["gap"])


CLAIMS = [
    _difference(
        "naive",
        "shuffled",
        "naive_beats_shuffled",
        "The naive mask is better than the same mask shuffled within each layer.",
    ),
    _difference(
        "permuted",
        "shuffled",
        "permuted_beats_shuffled",
        "The permuted mask is better than the same mask shuffled within each layer.",
    ),
    _difference(
        "permuted",
        "permuted_fan",
        "permuted_beats_permuted_fan",
        "The permuted mask is better than a random one with its degrees: single connections count.",
    ),
    _difference(
        "permuted_fan",
        "fan",
        "permuted_fan_beats_fan",
        "Of random masks, one with the permuted mask's degrees is better than one with the naive "
        "mask's: aligned degrees count.",
    ),
    _difference(
        "permuted",
        "activity",
        "activity_closes_less",
        "Matching by mean and spread of activity closes less of the gap than the recipe's way.",
    ),
    _difference(
        "permuted",
        "own",
        "permuted_is_close_to_own",
        "The permuted mask and B's own are close.",
        CLOSE,
    ),
    _difference(
        "random_permutation",
        "naive",
        "random_permutation_equals_naive",
        "A mask under a random permutation and the naive one are close.",
        CLOSE,
    ),
    Claim(
        "permuted_beats_naive_longest",
        "Trained longest, each at its best rate, the permuted mask is better than the naive one.",
        "permuted - naive at the longest length, points",
        _longest,
        methods=("permuted", "naive"),
        longest=True,
    ),
]
