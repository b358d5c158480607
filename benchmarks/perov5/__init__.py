"""Perov-5 with the metrics of CDVAE and DiffCSP, and with property targets: ``python -m benchmarks.perov5 --help``.

Definitions are those of https://github.com/txie-93/cdvae at commit f857f59 (``scripts/compute_metrics.py`` and
``scripts/eval_utils.py``), which DiffCSP's repository (jiaor17/DiffCSP at 7121d15) uses unchanged where it matters.
"""
