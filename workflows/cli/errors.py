"""The one place where an error becomes a message: what, where, and what would be right; never a traceback.

Exit codes: 0 done (also when candidates failed with a cause); 1 work is left that can't go on without somebody;
2 refused, or an error of our own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from datetime import datetime
from pathlib import Path

DONE, LEFT, REFUSED, INTERRUPTED = 0, 1, 2, 130


class RefusedError(Exception):
    """The command can't do what it was asked; the message says why and what would be right."""


def explain(error: BaseException) -> str:
    """Say in a message what went wrong.

    Known errors say it themselves. One that nobody foresaw gets its traceback saved to a file, and the message says
    where.
    """
    # Only modules that are loaded can have raised: looking them up there keeps `nucleate --help` light.
    for module, names in _OURS.items():
        loaded = sys.modules.get(module)
        if loaded is not None and isinstance(error, tuple(getattr(loaded, name) for name in names)):
            return _of_a_spec(error) if module == "workflows.spec_file" else str(error)
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    pymongo = sys.modules.get("pymongo.errors")
    if pymongo is not None and isinstance(error, pymongo.PyMongoError):
        return f"the store does not answer: {str(error).split(', Timeout')[0]}"
    saved = _save_traceback(error)
    where = f"; the traceback is in {saved}, please report it" if saved else ""
    return f"an error that should not happen ({type(error).__name__}: {str(error)[:300]}){where}"


_OURS = {
    "workflows.spec_file": ("SpecError",),
    "workflows.runtime.settings": ("StoreError",),
    "workflows.runtime.cluster_file": ("ClusterFileError",),
    "workflows.runtime.scheduler.base": ("SchedulerError",),
    "workflows.runtime.lease": ("LeaseError",),
    "workflows.campaign": ("LaunchRefusedError",),
    "workflows.ledger": ("NoSuchCampaignError",),
    "workflows.monitor.selector": ("SelectorError",),
    "workflows.monitor.rerun.settings": ("SettingError",),
    "workflows.report.collect": ("ReportError",),
    "workflows.reference": ("ReferenceSetError",),
    "workflows.causes": ("CausedError",),
    "dft_inputs.causes": ("DftError",),
}


def _of_a_spec(error: BaseException) -> str:
    from workflows.cli.output import problem_lines
    from workflows.spec_file import SpecError

    assert isinstance(error, SpecError)  # noqa: S101 - the caller has asked
    if len(error.problems) == 1 and not error.problems[0].key and error.problems[0].line is None:
        return f"{error.source} {error.problems[0].message}"
    errors = sum(problem.level == "error" for problem in error.problems)
    head = f"{error.source}: {errors} {'problem' if errors == 1 else 'problems'}; nothing was changed"
    return "\n".join([head, *problem_lines(error.problems)])


def _save_traceback(error: BaseException) -> Path | None:
    """Write a traceback where its owner finds it: under the data directory, else in a temporary one."""
    text = "".join(traceback.format_exception(error))
    name = f"error-{datetime.now().astimezone():%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    base = os.environ.get("NUCLEATE_DATA_DIR") or Path("~/.local/share/nucleate").expanduser()
    for directory in (Path(base) / "errors", Path(tempfile.gettempdir())):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / name
            path.touch(mode=0o600, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError:
            continue
        return path
    return None
