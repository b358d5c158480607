"""Engine ``espresso``: Quantum ESPRESSO's pw.x verifies. The engine is in ``engine``, its Makers beside it."""
