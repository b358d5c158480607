"""Tells how a campaign stands, what failed, and mends what a crash left."""
