"""Orchestrate inverse-design campaigns: what runs, where, and what became of it."""
