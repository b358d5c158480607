"""Whether the kernel has killed something of this batch job for want of memory; it tells in the job's cgroup.

A scheduler says OUT_OF_MEMORY of a whole job, and often only when that ends, while the job goes on without the process
that took too much. Who compares the count from before with that of after a process was killed knows at once.
"""

from __future__ import annotations

import re
from pathlib import Path

_MEMORY_FILES = {"cgroup2": "memory.events", "cgroup": "memory.oom_control"}


def oom_kills(process: Path = Path("/proc/self")) -> int | None:
    """Count the processes that were killed because the cgroup of this one had no memory left.

    Parameters
    ----------
    process : pathlib.Path
        A directory of ``/proc``.

    Returns
    -------
    int or None
        ``None`` where there is no memory cgroup, or the kernel does not count (before Linux 4.13).
    """
    try:
        groups = (process / "cgroup").read_text()
        mounts = (process / "mountinfo").read_text()
    except OSError:
        return None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = ([*after.split(), "", "", ""])[:3]
        root, place = before.split()[3:5]
        if kind not in _MEMORY_FILES or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        group = _group(groups, kind)
        if group is None:
            continue
        # a container sees its own part of the tree, mounted where the whole one would be
        inside = Path(place, (group.removeprefix(root) if root != "/" else group).lstrip("/"))
        try:
            counted = re.search(r"^oom_kill (\d+)$", (inside / _MEMORY_FILES[kind]).read_text(), re.MULTILINE)
        except OSError:
            continue
        if counted:
            return int(counted[1])
    return None


def killed_since(before: int | None) -> bool:
    """Tell whether the count has grown since it was ``before``; where nobody counted then, that it has not."""
    return before is not None and (oom_kills() or 0) > before


def _group(groups: str, kind: str) -> str | None:
    """Find a process' memory cgroup: ``0::/path`` (version 2), or ``9:memory:/path`` (version 1)."""
    for line in groups.splitlines():
        number, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if (kind == "cgroup2" and number == "0" and not controllers) or (
            kind == "cgroup" and "memory" in controllers.split(",")
        ):
            return path
    return None
