"""VASP: what can be checked before submission, what ended a run, and what custodian needs to recover it."""
