"""Speaks DFT: inputs, pseudopotentials, launching, error handlers, outputs. No jobflow, no database."""
