"""Evaluation of generators: the same condition, sieve, relaxer and hull for all, errors beside every number."""

from generators.evaluation.hull import Hull, Phase, Reach, build_hull
from generators.evaluation.known import Familiar, familiar, shipped_if_there
from generators.evaluation.metrics import SHARES, Row
from generators.evaluation.opinion import Opinion, Second
from generators.evaluation.run import CUT_EV_PER_ATOM, Contender, Evaluation, Task, Told, evaluate
from generators.evaluation.store import Protocol, Store

__all__ = [
    "CUT_EV_PER_ATOM",
    "SHARES",
    "Contender",
    "Evaluation",
    "Familiar",
    "Hull",
    "Opinion",
    "Phase",
    "Protocol",
    "Reach",
    "Row",
    "Second",
    "Store",
    "Task",
    "Told",
    "build_hull",
    "evaluate",
    "familiar",
    "shipped_if_there",
]
