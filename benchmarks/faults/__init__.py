"""The fault matrix: a real SLURM, a real database, real processes, and everything that goes wrong on clusters.

``python -m benchmarks.faults`` runs it; ``docs/faults.md`` tells how to read what it prints.
"""
