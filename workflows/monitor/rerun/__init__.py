"""``nucleate rerun``: run again what failed, changed as its cause asks; undone as long as nothing has begun."""
