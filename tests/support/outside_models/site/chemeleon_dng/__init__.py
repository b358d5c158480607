"""A stand-in for Chemeleon-DNG, for tests only: no model."""
