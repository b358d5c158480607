"""Quantum ESPRESSO's pw.x: inputs from a protocol, pseudopotentials, running with recovery, reading what it left."""
