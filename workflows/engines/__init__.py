"""What verifies: one contract (``base``), one registry, and the engines behind it."""
