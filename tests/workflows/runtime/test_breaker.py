"""When a node counts as bad: what failed there in a row, and what says nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workflows.causes import CAUSES, UPSTREAM
from workflows.records import Attempt, Cause
from workflows.runtime.breaker import BAD_IN_A_ROW, Breaker

if TYPE_CHECKING:
    from workflows.runtime.store import Store


class Node:
    """A pilot's breaker, and the tasks that fail on its node."""

    def __init__(self, store: Store) -> None:
        self.attempts = store.attempts
        self.breaker = Breaker(store.database, "p")
        self.tasks = 0

    def fails(self, code: int | None, *, light: bool = False) -> None:
        self.tasks += 1
        cause = None if code is None else Cause(code=code, name=CAUSES[code].name, evidence=f"task {self.tasks}")
        attempt = Attempt(
            attempt=f"a{self.tasks}",
            campaign="c",
            round=1,
            candidate=None,
            stage="relax",
            fw_id=self.tasks,
            launch_id=self.tasks,
            state="failed",
            pilot="p",
            cause=cause,
        )
        self.attempts.insert_one(attempt.model_dump())
        self.breaker.failed(self.tasks, light=light)

    @property
    def is_bad(self) -> bool:
        return self.breaker.verdict() is not None

    @property
    def set_aside(self) -> set[int]:
        return {attempt["fw_id"] for attempt in self.attempts.find({"set_aside": True})}


@pytest.fixture
def node(store: Store) -> Node:
    return Node(store)


def test_a_node_is_bad_after_some_failures_in_a_row(node: Node):
    for _ in range(BAD_IN_A_ROW - 1):
        node.fails(203)
    assert not node.is_bad
    node.breaker.completed(light=False)
    for _ in range(BAD_IN_A_ROW - 1):
        node.fails(203)
    node.fails(401)
    node.fails(203)
    assert not node.is_bad, "one failed for a reason of its own: it ran"
    node.fails(202)
    node.fails(203)
    cause = node.breaker.verdict()
    assert cause is not None
    assert (cause.code, f"task {node.tasks}" in cause.evidence) == (203, True)
    assert node.set_aside == {node.tasks - 2, node.tasks - 1, node.tasks}


@pytest.mark.parametrize("code", [UPSTREAM, None])
def test_what_failed_for_those_before_it_says_nothing_of_the_node(node: Node, code: int | None):
    for _ in range(BAD_IN_A_ROW):
        assert not node.is_bad
        node.fails(203)
        node.fails(code)
    assert node.is_bad
    assert len(node.set_aside) == BAD_IN_A_ROW


def test_a_light_task_that_goes_well_says_nothing_of_what_others_need(node: Node):
    for _ in range(BAD_IN_A_ROW):
        assert not node.is_bad
        node.fails(203)
        node.breaker.completed(light=True)
        node.fails(605, light=True)
    assert node.is_bad


def test_a_light_task_clears_light_ones(node: Node):
    for _ in range(2 * BAD_IN_A_ROW):
        node.fails(205, light=True)
        node.breaker.completed(light=True)
        node.breaker.died(99, "killed", light=True)
        node.fails(999, light=True)
        assert not node.is_bad
