"""Stores, the embedded server, workers, and the repair of what a crash leaves."""
