"""Checks of answers run apart: one that hangs, sleeps, fills the memory or ends its process costs its answer only."""

import dataclasses

import pytest
from attacks import EXAMPLE

from tools.assignments import reading
from tools.assignments.checking import NO_ANSWER, Checker
from tools.assignments.source import ProblemSet
from tools.notebooks import ToolError

CHECKS = """
import os, sys, time

def check_law(answer, fresh):
    if answer == "hang":
        while True: pass
    if answer == "sleep":
        time.sleep(600)
    if answer == "fill":
        bytearray(64 << 30)
    if answer == "exit":
        os._exit(0)
    if answer == "noise":
        print("x" * 100_000)
    if answer == "bug":
        {}["key"]
    assert answer in ("right", "noise"), "not the right one"
"""
VERDICTS = {
    "right": "", "noise": "", "wrong": "not the right one", "hang": "the answer takes too much to check",
    "sleep": "the answer takes too much to check", "exit": "the answer takes too much to check",
    "fill": "the answer could not be checked: MemoryError: ", "bug": "the answer could not be checked: KeyError: 'key'",
}  # fmt: skip


def problems(checks: str) -> ProblemSet:
    """The example with these checks in place of its own."""
    example = reading.read(EXAMPLE)
    return dataclasses.replace(example, cells=(dataclasses.replace(example.kind("check")[0], source=checks),))


def test_an_answer_that_is_costly_to_check_costs_itself():
    with Checker(problems(CHECKS), seconds=0.3) as checker:
        found = {answer: (checker.verdict("law", answer), checker.verdict("law", "right")) for answer in VERDICTS}
    assert found == {answer: (verdict, "") for answer, verdict in VERDICTS.items()}


def test_nothing_submitted_is_no_answer():
    with Checker(problems(CHECKS)) as checker:
        assert checker.verdict("law", None) == NO_ANSWER


def test_checks_that_cannot_be_imported_are_an_error_and_no_zero():
    with (
        Checker(problems("import nowhere")) as checker,
        pytest.raises(ToolError, match="the checks stopped at 'law'"),
    ):
        checker.verdict("law", "right")
