"""A stand-in for MatterGen, for tests only: no model."""
