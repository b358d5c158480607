"""Skeletons: space group and Wyckoff letters, seen or never seen, with their probability.

Letters come one after the other in alphabetical order, each chosen by a small network from the positions that still fit
(autoregressive; positions without freedom at most once), until it says stop. Space groups come with their share of the
evidence, smoothed.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from generators.symmetric.tables import MAX_ORBITS, SITE_SIZE, SYSTEMS, site_features, system_of
from generators.symmetric.wyckoff import centring, sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

STEP_SIZE = 2 * SITE_SIZE + 6 + len(SYSTEMS)
WIDTH = 64
SMOOTHING = 0.2
"""Added to the evidence of every space group that has any."""


class Skeleton(NamedTuple):
    """A space group and the Wyckoff letters of the orbits, sorted."""

    number: int
    letters: tuple[str, ...]

    @property
    def atoms(self) -> int:
        """Atoms in the primitive cell."""
        return sum(self.counts)

    @property
    def counts(self) -> tuple[int, ...]:
        """Atoms of each orbit in the primitive cell."""
        return _counts(self.number, self.letters)

    @property
    def key(self) -> str:
        """Name, e.g. ``225_a_b``."""
        return f"{self.number}_{'_'.join(self.letters)}"

    @property
    def text(self) -> str:
        """As checkpoints have it, e.g. ``225 a b``."""
        return f"{self.number} {' '.join(self.letters)}"

    @classmethod
    def read(cls, text: str) -> Skeleton:
        """Read what :attr:`text` gave."""
        number, *letters = text.split()
        return cls(int(number), tuple(letters))


@lru_cache(maxsize=100_000)
def _counts(number: int, letters: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(sites(number)[x].multiplicity // centring(number) for x in letters)


def gather_evidence(crystals: Iterable[tuple[Skeleton, float]]) -> dict[Skeleton, float]:
    """Sum the evidence for each skeleton; where no crystal is any (all were made to train forecasts), all count alike.

    Parameters
    ----------
    crystals : iterable of (Skeleton, float)
        See :attr:`generators.data.dataset.Entry.evidence`.
    """
    found = list(crystals)
    whole = not any(evidence for _, evidence in found)
    sums: dict[Skeleton, float] = defaultdict(float)
    for skeleton, evidence in found:
        sums[skeleton] += 1.0 if whole else evidence
    return dict(sums)


class LetterNetwork(nn.Module):
    """Scores of the next letters and of stopping; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.group = nn.Embedding(231, 16)
        self.layers = nn.Sequential(
            nn.Linear(STEP_SIZE + 16, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1)
        )

    def forward(self, group: Tensor, options: Tensor, present: Tensor) -> Tensor:
        """Log probabilities of the options; group (n,), options (n, k, STEP_SIZE), present (n, k)."""
        embedded = self.group(group)[:, None, :].expand(-1, options.shape[1], -1)
        scores = self.layers(torch.cat([options, embedded], dim=-1))[..., 0]
        return torch.log_softmax(scores.masked_fill(~present, -1e9), dim=-1)


def options_after(number: int, letters: Sequence[str], max_atoms: int) -> list[str | None]:
    """List what may follow: letters in order, and None for stop (not at once)."""
    left = max_atoms - Skeleton(number, tuple(letters)).atoms
    found: list[str | None] = [None] if letters else []
    if len(letters) >= MAX_ORBITS:
        return found
    for letter in sorted(sites(number)):
        site = sites(number)[letter]
        if letters and (letter < letters[-1] or (letter == letters[-1] and site.freedom == 0)):
            continue
        if site.multiplicity // centring(number) <= left:
            found.append(letter)
    return found


def step_features(number: int, letters: Sequence[str], option: str | None, max_atoms: int) -> list[float]:
    """Describe one option after some letters."""
    counts = Skeleton(number, tuple(letters)).counts
    so_far = np.mean([site_features(number, x) for x in letters], axis=0) if letters else np.zeros(SITE_SIZE)
    here = site_features(number, option) if option is not None else (0.0,) * SITE_SIZE
    system = [0.0] * len(SYSTEMS)
    system[system_of(number)] = 1.0
    return [
        *here,
        *(float(x) for x in so_far),
        float(option is None),
        len(letters) / MAX_ORBITS,
        sum(counts) / 8,
        (max_atoms - sum(counts)) / 8,
        float(option is not None and option in letters),
        float(len(set(counts)) == 1 and len(counts) > 0),
        *system,
    ]


class Steps(NamedTuple):
    """Training steps: group (n,), options (n, k, STEP_SIZE), present (n, k), chosen (n,), weight (n,)."""

    group: Tensor
    options: Tensor
    present: Tensor
    chosen: Tensor
    weight: Tensor


def steps_of(weights: Mapping[Skeleton, float], max_atoms: int) -> Steps:
    """Turn weighted skeletons into the choices that made them; equal choices once."""
    counted: dict[tuple[int, tuple[str, ...], str | None], float] = defaultdict(float)
    for skeleton, weight in weights.items():
        for i in range(len(skeleton.letters) + 1):
            chosen = skeleton.letters[i] if i < len(skeleton.letters) else None
            counted[skeleton.number, skeleton.letters[:i], chosen] += weight
    rows = [(key, options_after(key[0], key[1], max_atoms), n) for key, n in sorted(counted.items(), key=str)]
    rows = [(key, options, n) for key, options, n in rows if key[2] in options]
    width = max(len(options) for _, options, _ in rows)
    features = np.zeros((len(rows), width, STEP_SIZE), dtype=np.float32)
    present = np.zeros((len(rows), width), dtype=bool)
    for k, ((number, letters, _), options, _) in enumerate(rows):
        for j, option in enumerate(options):
            features[k, j] = step_features(number, letters, option, max_atoms)
            present[k, j] = True
    return Steps(
        torch.tensor([key[0] for key, _, _ in rows]),
        torch.from_numpy(features),
        torch.from_numpy(present),
        torch.tensor([options.index(key[2]) for key, options, _ in rows]),
        torch.tensor([float(n) for _, _, n in rows]),
    )


def log_probability(network: LetterNetwork, skeleton: Skeleton, max_atoms: int) -> float:
    """Log probability of the letters of a skeleton, given its space group."""
    total = 0.0
    for i in range(len(skeleton.letters) + 1):
        chosen = skeleton.letters[i] if i < len(skeleton.letters) else None
        options = options_after(skeleton.number, skeleton.letters[:i], max_atoms)
        if chosen not in options:
            return -np.inf
        total += float(
            _scores(network, skeleton.number, skeleton.letters[:i], options, max_atoms)[options.index(chosen)]
        )
    return total


def draw_letters(network: LetterNetwork, number: int, max_atoms: int, rng: np.random.Generator) -> Skeleton | None:
    """Draw the letters of a space group; None if nothing fits."""
    letters: list[str] = []
    while True:
        options = options_after(number, letters, max_atoms)
        if not options:
            return None
        scores = _scores(network, number, letters, options, max_atoms)
        chosen = options[int((scores + rng.gumbel(size=len(options))).argmax())]
        if chosen is None:
            return Skeleton(number, tuple(letters))
        letters.append(chosen)


def group_shares(weights: Mapping[Skeleton, float]) -> dict[int, float]:
    """Share of each space group, smoothed, so that rare ones are drawn, too."""
    sums: dict[int, float] = defaultdict(float)
    for skeleton, weight in weights.items():
        sums[skeleton.number] += weight
    total = sum(sums.values()) + SMOOTHING * len(sums)
    return {number: (weight + SMOOTHING) / total for number, weight in sorted(sums.items())}


def _scores(
    network: LetterNetwork, number: int, letters: Sequence[str], options: list[str | None], max_atoms: int
) -> np.ndarray:
    features = torch.tensor([[step_features(number, letters, option, max_atoms) for option in options]])
    with torch.no_grad():
        scores = network(torch.tensor([number]), features.float(), torch.ones(1, len(options), dtype=torch.bool))
    return np.asarray(scores[0].double().numpy())
