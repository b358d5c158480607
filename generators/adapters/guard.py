"""Between us and an outside model: when we die without a word, the model and all its children must not go on.

Run as a file, with the standard library alone: ``python -I -S guard.py GRACE_S COMMAND...`` as leader of a process
group. Its standard input is a pipe that its parent holds: its end means that the parent is gone.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

NOT_STARTED = 127


def main(argv: list[str]) -> int:
    """Run the command; return its exit code, 128 + n if signal n ended it."""
    grace_s, command = float(argv[0]), argv[1:]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake)

    def note(*_: Any) -> None:
        """Do nothing: unlike SIG_IGN a handler is not inherited by the model, which shall see its SIGTERM."""

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGCHLD, note)
    try:
        model = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - a list, no shell
    except OSError as error:
        print(f"{command[0]} can't be started: {error}", file=sys.stderr)  # noqa: T201 - the log of this process
        return NOT_STARTED
    while (code := model.poll()) is None:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        if 0 in ready and not os.read(0, 1):
            _end_group(model, grace_s)
    return code if code >= 0 else 128 - code


def _end_group(model: subprocess.Popen[bytes], grace_s: float) -> None:
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while model.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(0, signal.SIGKILL)  # ourselves, too


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
