"""Every command of docs/lpad.md, in its order, on a real campaign: it must answer what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from fireworks.scripts.lpad_run import lpad

PAGE = Path(__file__).parents[2] / "docs" / "lpad.md"
BLOCK = re.compile(r"^(?P<indent> *)```(?P<kind>bash|text)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
FAILED = "small-r01-0000"


def recipes(page: str) -> list[tuple[str, str]]:
    """Read commands and their answers; one without an answer says nothing."""
    found: list[tuple[str, str]] = []
    for block in BLOCK.finditer(page):
        body = re.sub(rf"^{block['indent']}", "", block["body"], flags=re.MULTILINE)
        if block["kind"] == "bash":
            found.append((body.strip(), ""))
        else:
            found[-1] = (found[-1][0], body)
    return found


def answers(said: str, written: str) -> bool:
    """Compare line by line; ``…`` stands for anything in a line."""
    wanted = [".*".join(map(re.escape, line.split("…"))) for line in written.rstrip().splitlines()]
    lines = [line.rstrip() for line in said.rstrip().splitlines()]
    return len(lines) == len(wanted) and all(map(re.fullmatch, wanted, lines))


def test_the_comparison_can_fail():
    assert answers("a 12 b\n", "a … b\n")
    assert not answers("a 12 c\n", "a … b\n")
    assert not answers("a\nb\n", "a\n")
    assert recipes("x\n```bash\nlpad a\n```\n```text\n1\n```\n  ```bash\n  lpad b\n  ```\n") == [
        ("lpad a", "1\n"),
        ("lpad b", ""),
    ]


def test_every_recipe_answers_what_the_page_says(small, capsys, monkeypatch):
    campaign = small(rounds=1)
    campaign.run_until("select")
    campaign.spoil(FAILED)
    campaign.run()
    monkeypatch.chdir(campaign.directory)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("lpad asked something"))
    capsys.readouterr()
    done = recipes(PAGE.read_text(encoding="utf-8"))
    assert len(done) >= 25
    wrong = []
    for command, written in done:
        program, *arguments = shlex.split(command)
        assert program == "lpad", command
        lpad(arguments)
        said = capsys.readouterr().out
        if not answers(said, written):
            wrong.append(f"{command}\n--- said\n{said}--- written\n{written}")
    assert not wrong, "\n".join(wrong)
    # What the page says of deletion: our own records stay.
    assert campaign.database.verdicts.count_documents({"campaign": "small"}) == 2
