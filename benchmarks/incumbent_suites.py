"""FireWorks' own test suite and jobflow's own, run against the embedded server.

    python benchmarks/incumbent_suites.py                            # FireWorks from PyPI, jobflow's tests by git
    python benchmarks/incumbent_suites.py --jobflow path/to/jobflow  # a checkout that is there already

Both suites look for a MongoDB without password on localhost:27017; a sitecustomize module sends them to an embedded
server on a directory of its own. Exit code 1 if a test fails that is not among the known failures, which have nothing
to do with the database.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

from workflows.runtime import embedded

JOBFLOW = "https://github.com/materialsproject/jobflow"

MONTY = "offline mode calls monty's zopen() without the mode that it demands since 2026"

KNOWN: dict[str, dict[str, str]] = {
    "fireworks": {
        "fireworks.core.tests.test_launchpad.GridfsStoredDataTest::test_many_detours_offline": MONTY,
        "fireworks.core.tests.test_launchpad.LaunchPadOfflineTest::test__recover_completed": MONTY,
        "fireworks.tests.mongo_tests.MongoTests::test_basic_fw_offline": MONTY,
        "fireworks.tests.mongo_tests.MongoTests::test_offline_fw_passinfo": MONTY,
        "fireworks.utilities.tests.test_visualize::test_wf_to_graph": "graphviz is not installed",
        "::fireworks.utilities.tests.test_dagflow": "igraph is not installed",
    },
    "jobflow": {
        "tests.core.test_job::test_job_decorator_config_shared": "expected to fail in the repository, mended in 0.4.0",
    },
}
"""Tests that fail on any database in this environment, and why."""

SITECUSTOMIZE = """
from functools import wraps

import pymongo

from workflows.runtime import embedded

HERE = {None, "localhost", "127.0.0.1", "mongodb://localhost:27017"}
original = pymongo.MongoClient.__init__
server = embedded.ensure_running()


@wraps(original)
def redirected(self, host=None, port=None, *args, **kwargs):
    if host in HERE and port in {None, 27017}:
        host, port = server.host, server.port
        if not kwargs.get("username"):
            kwargs["username"], kwargs["authSource"] = server.username, server.auth_source
            kwargs["password"] = server.password.get_secret_value()
    original(self, host, port, *args, **kwargs)


pymongo.MongoClient.__init__ = redirected
"""


def run(command: list[str | Path], **options: object) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, **options)  # type: ignore[call-overload]


def fireworks_suite(directory: Path) -> Path:
    """Download and unpack the sdist of the installed FireWorks."""
    wanted = f"fireworks=={version('fireworks')}"
    run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-q", "-d", directory, wanted])
    with tarfile.open(next(directory.glob("fireworks-*.tar.gz"))) as archive:
        archive.extractall(directory, filter="data")
    return next(p for p in directory.glob("fireworks-*") if p.is_dir())


def jobflow_suite(directory: Path, checkout: Path | None) -> Path:
    """Take jobflow's tests, which its sdist doesn't hold, from a checkout or from its repository."""
    target = directory / "jobflow"
    if checkout:
        shutil.copytree(checkout / "tests", target / "tests")
    else:
        tag = f"v{version('jobflow')}"
        run(["git", "clone", "-q", "--depth", "1", "--branch", tag, JOBFLOW, directory / "clone"])
        shutil.copytree(directory / "clone" / "tests", target / "tests")
    return target


def results(root: Path, tests: list[str], environment: dict[str, str], report: Path) -> dict[str, str]:
    """Run pytest and give the outcome of every test by name."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--continue-on-collection-errors",
        f"--junitxml={report}",
    ]
    subprocess.run([*command, *tests], cwd=root, env=environment, check=False)
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = kinds.pop() if kinds else "passed"
    return outcomes


def judge(suite: str, outcomes: dict[str, str]) -> bool:
    """Print the count, the failures and what is new among them."""
    count = {k: sum(o == k for o in outcomes.values()) for k in ("passed", "failure", "error", "skipped")}
    print(f"\n{suite} {version(suite)}: " + ", ".join(f"{v} {k}" for k, v in count.items()))
    bad = sorted(name for name, outcome in outcomes.items() if outcome in {"failure", "error"})
    new = [name for name in bad if name not in KNOWN[suite]]
    for name in bad:
        print(f"  {'NEW  ' if name in new else 'known'} {name}  {KNOWN[suite].get(name, '')}")
    return not new and count["passed"] > 0


def main() -> int:
    """Run both suites."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobflow", type=Path, help="a checkout of jobflow's repository")
    parser.add_argument("--only", choices=["fireworks", "jobflow"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nucleate-suites-") as name:
        directory = Path(name)
        data_dir = directory / "data"
        site = directory / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
        path = os.pathsep.join([str(site), str(Path(__file__).resolve().parents[1])])
        environment = {**os.environ, "PYTHONPATH": path, "NUCLEATE_DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"}
        os.environ["NUCLEATE_DATA_DIR"] = str(data_dir)
        good = True
        try:
            print(embedded.label())
            embedded.ensure_running()
            if options.only != "jobflow":
                root = fireworks_suite(directory)
                tests = ["fireworks", "-o", "python_files=test_*.py mongo_tests.py multiprocessing_tests.py"]
                good &= judge("fireworks", results(root, tests, environment, directory / "fireworks.xml"))
            if options.only != "fireworks":
                root = jobflow_suite(directory, options.jobflow)
                good &= judge("jobflow", results(root, ["tests"], environment, directory / "jobflow.xml"))
        finally:
            embedded.stop(data_dir)
    print("\nas expected" if good else "\nNEW failures")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
