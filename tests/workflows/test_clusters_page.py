"""docs/clusters.md: its cluster files are ones, its commands have the options that it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from commands import options_of

from workflows.runtime.cluster import Through
from workflows.runtime.cluster_file import load_clusters
from workflows.runtime.settings import StoreProfile

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def test_the_cluster_files_are_read_without_a_word(tmp_path):
    found = [block for block in YAML if block.startswith("clusters:")]
    assert len(found) == 2
    for number, block in enumerate(found):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        assert load_clusters(path).clusters


def test_the_ways_to_the_database_and_the_store_are_what_is_read():
    ways = [yaml.safe_load(block)["database"] for block in YAML if block.lstrip().startswith("database:")]
    assert len(ways) == 2
    for way in ways:
        Through.model_validate(way)
    (stores,) = [yaml.safe_load(block)["stores"] for block in YAML if block.startswith("stores:")]
    StoreProfile.model_validate(stores["group"])


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("nucleate ")])
def test_commands_take_what_the_page_gives_them(line):
    _, name, *words = shlex.split(line)
    used = {word for word in words if re.match(r"-{1,2}[A-Za-z]", word)}
    assert used <= options_of(name), line


def test_files_that_it_names_are_there():
    for path in re.findall(r"\]\((?!#)([^)#]+)", PAGE):
        assert (ROOT / "docs" / path).exists(), path
    for path in re.findall(r"^(deploy/\S+)", PAGE, re.MULTILINE):
        assert (ROOT / path).exists(), path
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
