from __future__ import annotations

import os
import sys
import time

import pytest
from stand_in import StandIn

from edgeprune.device.external import Outcome, find_program, run_program
from edgeprune.errors import EdgepruneError


def python(*code):
    return [sys.executable, "-c", "\n".join(code)]


def test_lines_are_heard_as_they_come(tmp_path):
    heard = []
    done = run_program(python("print('one')", "print('two\\rthree', end='')"), 20, tmp_path, "x", heard.append)
    assert heard == ["one", "two"] and done.lines() == ["one", "two", "three"] and done.code == 0


def test_it_and_its_children_end_in_time(tmp_path):
    child = "import subprocess,sys,time; subprocess.Popen([sys.executable,'-c','import time; time.sleep(60)'])"
    start = time.monotonic()
    with pytest.raises(EdgepruneError) as caught:
        run_program(python(child, "time.sleep(60)"), 1.0, tmp_path, "/dev/x")
    assert str(caught.value) == (
        f"{os.path.basename(sys.executable)} did not finish within 1 s [flash-timeout]\n  where: /dev/x\n"
        "  hint:  switch the board off and on, then try again"
    )
    assert time.monotonic() - start < 20


def test_what_it_prints_is_bounded(tmp_path):
    done = run_program(
        python("import sys", "sys.stdout.write('x' * 500000 + '\\nend')"), 30, tmp_path, "x", lambda _: None
    )
    assert len(done.text) == 65536 and done.last() == "end"


def test_what_would_steer_it_is_not_passed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("ESPTOOL_PORT", "/dev/other")
    monkeypatch.setenv("STM32LOADER_SERIAL_PORT", "/dev/other")
    show = "import os; print([n for n in os.environ if 'PORT' in n], os.getcwd(), os.isatty(0))"
    done = run_program(python(show), 20, tmp_path, "x")
    assert done.text.strip() == f"[] {tmp_path} False"


def test_a_program_that_cannot_be_started(tmp_path):
    (tmp_path / "tool").write_text("")
    with pytest.raises(EdgepruneError) as caught:
        run_program([str(tmp_path / "tool")], 1.0, tmp_path, "x")
    assert caught.value.code == "flasher-missing" and caught.value.what.startswith("tool (Permission denied) is not")


def test_found_on_the_path(tmp_path, monkeypatch):
    program = StandIn("some-tool", tmp_path, monkeypatch)
    assert find_program("some-tool", "") == str(program.path)


def test_the_last_line():
    said = Outcome(1, "a fatal error: x\nmore error\n\x1b[31mend\n")
    assert said.last("fatal", "error") == "a fatal error: x" and said.last() == "?[31mend"
    assert Outcome(-11, "").last("error") == "it ended with -11 and said nothing"
