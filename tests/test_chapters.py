"""The claims of the real chapters hold for a seed that the pages were not made with, and parameters are checked."""

import subprocess
import sys

from tools.notebooks import ROOT


def run(parameters: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.run", "--profile", "quick", "--chapters", "", "--jobs", "1"]
    command += ["--parameters", parameters]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2400)


def test_every_claim_holds_for_another_seed():
    ended = run("seed=1")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_parameter_that_no_chapter_has_is_an_error():
    ended = run("sead=1")
    assert ended.returncode != 0 and "sead" in ended.stdout + ended.stderr
