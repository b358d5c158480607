"""What the modes of files let others do."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_to_others(*roots: Path) -> dict[str, str]:
    """Find what somebody else could read, write or enter."""
    found = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode & 0o077 and not path.is_symlink():
                found[str(path.relative_to(root.parent))] = oct(mode)
    return found
