"""A trained model as JSON and tensors, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from generators.symmetric.forecast import ForecastNetwork, Scale
from generators.symmetric.geometry import GeometryNetwork
from generators.symmetric.model import Model
from generators.symmetric.skeletons import LetterNetwork, Skeleton

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def to_parts(model: Model) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Take a model apart.

    Returns
    -------
    state : dict
        JSON-compatible.
    tensors : dict of str to Tensor
    """
    modules: dict[str, nn.Module] = {"letters": model.letters, "geometry": model.geometry}
    modules |= {f"forecast-{i}": network for i, network in enumerate(model.networks)}
    tensors = {f"{name}.{k}": v for name, module in modules.items() for k, v in module.state_dict().items()}
    state = {
        **model.abilities.as_dict(),
        "members": len(model.networks),
        "scale": [list(model.scale.centre), list(model.scale.spread)],
        "calibration": [list(pair) for pair in model.calibration],
        "skeletons": {s.text: round(n, 5) for s, n in sorted(model.skeletons.items())},
        "log_skeletons": {s.text: p for s, p in sorted(model.log_skeletons.items())},
        "species": {
            s.text: {
                letter: {element: round(n, 5) for element, n in sorted(held.items())} for letter, held in sites.items()
            }
            for s, sites in sorted(model.species.items())
        },
        "known_rows": sorted(model.known_rows),
        "training_energies": [[amounts, energy] for amounts, energy in model.training_energies],
    }
    return state, tensors


def from_parts(state: Mapping[str, Any], tensors: Mapping[str, Tensor], fingerprint: str) -> Model:
    """Put a model together; weights that do not fit raise whatever torch raises."""
    n = len(state["properties"])
    letters, geometry = LetterNetwork(), GeometryNetwork()
    networks = tuple(ForecastNetwork(n) for _ in range(int(state["members"])))
    modules: dict[str, nn.Module] = {"letters": letters, "geometry": geometry}
    modules |= {f"forecast-{i}": network for i, network in enumerate(networks)}
    for name, module in modules.items():
        own = {k.removeprefix(f"{name}."): v.float() for k, v in tensors.items() if k.startswith(f"{name}.")}
        module.load_state_dict(own)
        module.eval()
        module.requires_grad_(requires_grad=False)
    centre, spread = state["scale"]
    return Model(
        letters=letters,
        geometry=geometry,
        networks=networks,
        properties=tuple(state["properties"]),
        scale=Scale(tuple(centre), tuple(spread)),
        calibration=tuple((float(a), float(b)) for a, b in state["calibration"]),
        ranges={name: (float(low), float(high)) for name, (low, high) in state["ranges"].items()},
        skeletons={Skeleton.read(text): float(n) for text, n in state["skeletons"].items()},
        log_skeletons={Skeleton.read(text): float(p) for text, p in state["log_skeletons"].items()},
        species={Skeleton.read(text): sites for text, sites in state["species"].items()},
        known_rows=frozenset(state["known_rows"]),
        training_energies=tuple((dict(amounts), float(energy)) for amounts, energy in state["training_energies"]),
        elements=tuple(state["elements"]),
        fingerprint=fingerprint,
    )
