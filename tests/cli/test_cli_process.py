"""The command as a process: signals, pipes, completion, versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgeprune

COMMAND = [sys.executable, "-m", "edgeprune"]


def start(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "EDGEPRUNE_DEBUG"} | extra
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, env=environment)


def test_version():
    assert start("--version").stdout == f"edgeprune {edgeprune.__version__}\n"


def test_exit_codes_reach_the_shell():
    assert start("targets", "x86-64-v3").returncode == 0
    assert start("targets", "x86-64-v9").returncode == 2


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_is_one_line_and_leaves_nothing(tmp_path: Path, name: str, code: int):
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    module = work / "net.py"
    module.write_text(
        f"import os, signal, time\ndef build():\n    os.kill(os.getpid(), signal.{name})\n    time.sleep(60)\n"
    )
    out = work / "out.edge"
    finished = start("compile", f"{module}:build", "--dense", "-o", str(out), TMPDIR=str(scratch))
    assert (finished.returncode, finished.stdout) == (code, "")
    assert finished.stderr == "error: interrupted, nothing was written [interrupted]\n"
    assert [path.name for path in work.iterdir() if path.name != "__pycache__"] == ["net.py"]
    assert list(scratch.iterdir()) == []


BEFORE_ANY_VERB = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "edgeprune.cli.commands":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["edgeprune", "bench", "model.edge", "--json"]
from edgeprune.cli.main import main
main()
"""


def test_a_signal_while_the_command_line_is_still_read_is_told_as_json():
    finished = subprocess.run([sys.executable, "-c", BEFORE_ANY_VERB], capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stderr) == (143, "")
    assert json.loads(finished.stdout)["error"]["code"] == "interrupted"


def test_a_closed_pipe_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run([*COMMAND, "targets"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert "Traceback" not in finished.stderr
    assert "Exception" not in finished.stderr


def test_a_full_disk_under_standard_output():
    with open("/dev/full", "w") as full:
        finished = subprocess.run(
            [*COMMAND, "targets", "--json"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("edgeprune com", ["compile"]),
        ("edgeprune targets x86-64-v4", ["x86-64-v4", "x86-64-v4-vnni"]),
        ("edgeprune compile model.onnx --target ho", ["host"]),
        ("edgeprune bench model.edge --board lo", ["local"]),
    ],
)
def test_the_shell_completes_verbs_targets_and_boards(line, expected):
    words = line.split(" ")
    finished = start(_EDGEPRUNE_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert finished.stdout.split() == expected


def test_json_stays_alone_on_standard_output_when_a_model_prints(tmp_path: Path):
    module = tmp_path / "net.py"
    module.write_text("def build():\n    print('noise')\n    raise ValueError('no network today')\n")
    finished = start("inspect", f"{module}:build", "--json")
    assert finished.returncode == 1
    assert set(json.loads(finished.stdout)) == {"error"}
    assert "noise" in finished.stderr


def test_what_compiled_code_prints_is_for_nobody():
    script = (
        "import ctypes, sys\n"
        "from edgeprune.cli.console import Console\n"
        "with Console(as_json=True, quiet=True).work():\n"
        "    ctypes.CDLL(None).puts(b'from C')\n"
        "print('{}')\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (finished.stdout, finished.stderr) == ("{}\n", "")
