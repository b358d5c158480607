"""The two baselines that every later model must beat, by one name."""

from generators.ion_exchange import IonExchange
from generators.random_symmetric import RandomSymmetric

__all__ = ["IonExchange", "RandomSymmetric"]
