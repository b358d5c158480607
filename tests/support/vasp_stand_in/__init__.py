"""A stand-in for VASP, for tests only; see README.md."""
