"""The three generators: variational autoencoder, normalizing flow, generative adversarial network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch

from generators.base import Condition
from generators.latent.adversarial import estimates, train_adversarial
from generators.latent.base import LatentGenerator
from generators.latent.fitting import Fitted
from generators.latent.flow import SIZE, FlowNetwork
from generators.latent.gan import GanNetwork
from generators.latent.networks import drop_targets
from generators.latent.vae import BETA, LATENT, WARM_UP, VaeNetwork
from generators.learning import Recipe, train
from generators.symmetric.assignments import row_of
from generators.symmetric.wyckoff import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pymatgen.core import Structure
    from torch import Tensor

    from generators.latent.adversarial import Shown
    from generators.latent.networks import Family
    from generators.latent.space import Space
    from generators.learning import Epoch

HELD_OUT_DRAWS = 8
"""Draws of the posterior or of the smoothing noise for the numbers on held-out crystals."""
PULL = 0.02
"""Weight of the latent vector's square in a walk, against the squared standardised distance from the target: where no
training crystal is, the property head knows nothing."""


class Vae(LatentGenerator):
    """Variational autoencoder; see :mod:`generators.latent.vae`.

    Parameters
    ----------
    checkpoint : str or None
        Folder of a trained model; none ships.
    temperature : float or None
        Standard deviation of the latent vectors that samples are made of; None: 1.
    """

    name: ClassVar[str] = "vae"

    @classmethod
    def network_of(cls, space: Space, vectors: Tensor) -> VaeNetwork:
        """Make the untrained network."""
        return VaeNetwork(vectors, len(space.properties))

    @classmethod
    def usual_recipe(cls) -> Recipe:
        """How it is trained unless told otherwise."""
        return Recipe(epochs=120, batch_size=64, learning_rate=1.5e-3, patience=60, weight_decay=1e-3)

    @classmethod
    def train(
        cls,
        network: Family,
        training: Shown,
        held_out: Shown,
        recipe: Recipe,
        *,
        folder: Path | None,
        on_epoch: Callable[[Epoch], None] | None,
    ) -> Fitted:
        """Train on the lower bound with its divergence at the price of BETA; the held-out loss is the same, nats."""
        vae = cast("VaeNetwork", network)
        n = len(training.frame.group)
        warm_up = int(WARM_UP * recipe.epochs * -(-n // recipe.batch_size))
        bare = held_out.frame.without_targets()
        noise = torch.randn(len(bare.group), LATENT, generator=torch.Generator().manual_seed(0))

        def loss(rows: np.ndarray, _rng: np.random.Generator) -> Tensor:
            some = training.rows(rows)
            return vae.loss(some.content, some.frame, warm_up)

        def validate() -> float:
            return -float(vae.terms(held_out.content, bare, noise).priced(BETA).mean())

        curves = train(vae, loss, validate, n, recipe, folder=folder, on_epoch=on_epoch)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            draws = [
                vae.terms(held_out.content, bare, torch.randn(noise.shape, generator=generator))
                for _ in range(HELD_OUT_DRAWS)
            ]
            errors = {
                "elbo_nats": _mean([d.elbo for d in draws]),
                "reconstruction_nats": _mean([d.reconstruction for d in draws]),
                "divergence_nats": _mean([d.divergence.sum(dim=1) for d in draws]),
                "property_head_mse": round(float(vae.head_loss(held_out.content, held_out.frame)), 4),
            }
        return Fitted({"vae": curves}, errors)

    def walk(
        self,
        structure: Structure,
        towards: Mapping[str, float],
        steps: int,
        condition: Condition | None = None,
        rate: float = 0.1,
        seed: int = 0,
    ) -> list[Structure]:
        """Walk through latent space down the gradient of the property head's distance from a target.

        Parameters
        ----------
        structure : pymatgen.core.Structure
            Where the walk starts; its skeleton is kept.
        towards : mapping of str to float
            Values of learned properties, in the units of the data set.
        steps : int
            Of Adam.
        condition : Condition, optional
            What the crystals on the way keep exactly; by default the elements of the start.
        rate : float
            Of Adam, in units of the latent vector.
        seed : int

        Returns
        -------
        list of pymatgen.core.Structure
            ``steps + 1`` crystals; the first is the start as the model decodes it.

        Raises
        ------
        ValueError
            If a property was not learned, there are fewer than 0 steps, or the skeleton takes no crystal that meets the
            condition.
        """
        description = describe(structure)
        if condition is None:
            elements = tuple(sorted({orbit.element for orbit in description.orbits}))
            condition = Condition(
                (elements,), len(elements), len(elements), max_atoms=sum(description.counts), neutrality="off"
            )
        path = self.path(structure, towards, steps, rate)
        return self.decode_latent(path, condition, seed, [row_of(description).skeleton] * len(path))

    def path(self, structure: Structure, towards: Mapping[str, float], steps: int, rate: float = 0.1) -> Any:
        """Latent vectors of a :meth:`walk`, shape (steps + 1, d)."""
        space, vae = self.space, cast("VaeNetwork", self.network)
        if missing := sorted(set(towards) - set(space.properties)):
            raise ValueError(
                f"vae: {', '.join(missing)} was not learned; it can walk towards "
                f"{', '.join(space.properties) or 'no property'}"
            )
        if not towards or steps < 0:
            raise ValueError(f"vae: a walk needs a target and 0 or more steps, not {dict(towards)} and {steps}")
        columns = [space.properties.index(name) for name in sorted(towards)]
        wanted = torch.tensor([space.to_scale(name, towards[name]) for name in sorted(towards)], dtype=torch.float32)
        z = torch.from_numpy(self.latent([structure])).float().requires_grad_(requires_grad=True)
        start = z.detach().clone()
        optimizer = torch.optim.Adam([z], lr=rate)
        path = [start[0].double().numpy()]
        for _ in range(steps):
            optimizer.zero_grad()
            off = (vae.head(z)[0, columns] - wanted).square().sum() + PULL * z.square().sum()
            off.backward()
            optimizer.step()
            path.append(z.detach()[0].double().numpy().copy())
        return np.array(path)

    def foretell(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Properties that the head reads from latent vectors (n, d), each (n,), in the units of the data set."""
        with torch.no_grad():
            found = cast("VaeNetwork", self.network).head(torch.from_numpy(np.atleast_2d(vectors)).float())
        return {
            name: np.array([self.space.from_scale(name, float(x)) for x in found[:, k]])
            for k, name in enumerate(self.space.properties)
        }


class Flow(LatentGenerator):
    """Normalizing flow; see :mod:`generators.latent.flow`.

    Parameters
    ----------
    checkpoint : str or None
        Folder of a trained model; none ships.
    temperature : float or None
        Standard deviation of the base that samples are drawn from; None: 0.8 (a little less than the model's, as in
        Kingma and Dhariwal, arXiv:1807.03039).
    """

    name: ClassVar[str] = "flow"
    default_temperature: ClassVar[float] = 0.8

    @classmethod
    def network_of(cls, space: Space, vectors: Tensor) -> FlowNetwork:
        """Make the untrained network."""
        return FlowNetwork(vectors, len(space.properties), space.cut)

    @classmethod
    def usual_recipe(cls) -> Recipe:
        """How it is trained unless told otherwise."""
        return Recipe(epochs=80, batch_size=128, learning_rate=1e-3, patience=20, weight_decay=1e-3)

    @classmethod
    def train(
        cls,
        network: Family,
        training: Shown,
        held_out: Shown,
        recipe: Recipe,
        *,
        folder: Path | None,
        on_epoch: Callable[[Epoch], None] | None,
    ) -> Fitted:
        """Train on the exact likelihood of smoothed crystals, nats a crystal."""
        flow = cast("FlowNetwork", network)
        bare = held_out.frame.without_targets()
        generator = torch.Generator().manual_seed(0)
        noises = [torch.randn(len(bare.group), SIZE, generator=generator) for _ in range(HELD_OUT_DRAWS)]

        def loss(rows: np.ndarray, _rng: np.random.Generator) -> Tensor:
            some = training.rows(rows)
            noise = torch.randn(len(rows), SIZE)
            return -flow.log_likelihood(some.content, drop_targets(some.frame), noise).mean()

        def validate() -> float:
            return -float(flow.log_likelihood(held_out.content, bare, noises[0]).mean())

        curves = train(flow, loss, validate, len(training.frame.group), recipe, folder=folder, on_epoch=on_epoch)
        with torch.no_grad():
            found = [flow.log_likelihood(held_out.content, bare, noise) for noise in noises]
        return Fitted({"flow": curves}, {"log_likelihood_nats": _mean(found)})

    def log_likelihood(self, structures: list[Structure], seed: int = 0) -> np.ndarray:
        """Log density of crystals given their skeletons, shape (n,), nats; for one draw of the smoothing noise.

        The density is by the elements' points, coordinates in fractions of the cell, and standardised cell.
        """
        descriptions = [describe(structure) for structure in structures]
        self._refuse({o.element for d in descriptions for o in d.orbits})
        flow = cast("FlowNetwork", self.network)
        noise = torch.randn(len(structures), SIZE, generator=torch.Generator().manual_seed(seed))
        frame = self.space.frame([row_of(d).skeleton for d in descriptions])
        with torch.no_grad():
            found = flow.log_likelihood(self.space.content(descriptions), frame, noise)
        return np.asarray(found.double().numpy())


class Gan(LatentGenerator):
    """Generative adversarial network; see :mod:`generators.latent.gan`.

    Parameters
    ----------
    checkpoint : str or None
        Folder of a trained model; none ships.
    temperature : float or None
        Standard deviation of the latent vectors that samples are made of; None: 1.
    """

    name: ClassVar[str] = "gan"

    @classmethod
    def network_of(cls, space: Space, vectors: Tensor) -> GanNetwork:
        """Make the untrained network."""
        return GanNetwork(vectors, len(space.properties))

    @classmethod
    def usual_recipe(cls) -> Recipe:
        """How it is trained unless told otherwise."""
        return Recipe(epochs=140, batch_size=64, learning_rate=4e-4, patience=0)

    @classmethod
    def train(
        cls,
        network: Family,
        training: Shown,
        held_out: Shown,
        recipe: Recipe,
        *,
        folder: Path | None,
        on_epoch: Callable[[Epoch], None] | None,
    ) -> Fitted:
        """Alternate critic and generator; see :mod:`generators.latent.adversarial`."""
        gan = cast("GanNetwork", network)
        curves = train_adversarial(gan, training, held_out, recipe, folder=folder, on_epoch=on_epoch)
        distance, penalty = estimates(gan, held_out)
        return Fitted(curves, {"wasserstein": round(distance, 4), "gradient_penalty": round(penalty, 4)})


def _mean(values: list[Tensor]) -> float:
    return round(float(torch.stack(values).mean()), 4)
