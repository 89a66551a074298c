"""The command line as a whole."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["--help"], ["judge", "--help"]])
def test_help_into_a_pipe_that_nobody_reads_ends_quietly(arguments):
    command = subprocess.Popen([sys.executable, "-m", "plaudit", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait() == 0
