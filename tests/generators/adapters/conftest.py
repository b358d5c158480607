"""Environments and models of the adapters' tests; they lie in ``tests/support``."""

from outside_fixtures import second_environment, stand_in_environment, tiny, undisturbed

__all__ = ["second_environment", "stand_in_environment", "tiny", "undisturbed"]
