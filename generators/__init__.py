"""Propose crystals and learn from what became of them: generators, relaxer and the crystal toolbox.

Nothing here knows of workflows, FireWorks or a database: a researcher can use it alone.
"""
