"""Crystals: validity, neutrality, fingerprints and duplicates, symmetry, novelty."""
