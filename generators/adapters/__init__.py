"""Outside models as generators: each runs as a process in an environment of its own; see docs/adapters.md."""
