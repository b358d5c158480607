"""README.md: its commands come in the order in which they work, and have the options that it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from commands import options_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def test_the_environment_is_entered_before_what_is_in_it_and_a_campaign_is_made_before_it_is_used():
    ours = [number for number, line in enumerate(COMMANDS) if line.startswith(("nucleate", "lpad"))]
    assert COMMANDS.index("source .venv/bin/activate") < min(ours)
    oxides = [line for line in COMMANDS if "oxides" in line]
    assert oxides[0] == "nucleate init oxides"


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("nucleate ")])
def test_commands_take_what_the_page_gives_them(line):
    _, name, *words = shlex.split(line)
    name = f"{name} {words[0]}" if name in {"reference", "generator", "data", "pseudos"} else name
    used = {word for word in words if re.match(r"-{1,2}[A-Za-z]", word)}
    assert used <= options_of(name), line


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_what_make_makes_is_there(line):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert line.split()[1] in targets


def test_files_and_sections_that_it_names_are_there():
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGE):
        assert (ROOT / path).exists(), path
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
