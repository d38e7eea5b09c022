"""Programs that stand in for others: each prints what the scenario of its arguments says, and writes down its argv."""

from __future__ import annotations

import json
import os
import sys

_PROGRAM = """#!{python}
import json, os, sys, time
folder = {folder!r}
with open(os.path.join(folder, "calls"), "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
for rule in json.load(open(os.path.join(folder, "rules"))):
    if all(any(word in argument for argument in sys.argv[1:]) for word in rule["when"]):
        break
else:
    sys.exit("no rule for " + " ".join(sys.argv[1:]))
for name, content in rule.get("writes", {{}}).items():
    place = next(value for option, value in zip(sys.argv, sys.argv[1:]) if option == name)
    with open(place, "wb") as file:
        file.write(bytes.fromhex(content))
sys.stdout.write(rule.get("says", ""))
sys.stdout.flush()
time.sleep(rule.get("sleeps", 0))
sys.exit(rule.get("code", 0))
"""


class StandIn:
    """The program `name`, first on the PATH; the first rule counts whose words all stand in its arguments."""

    def __init__(self, name, folder, monkeypatch):
        self.folder = folder / f"stand-in-{name}"
        self.folder.mkdir()
        path = self.folder / name
        path.write_text(_PROGRAM.format(python=sys.executable, folder=str(self.folder)))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.folder}:{os.environ['PATH']}")
        self.rules = []
        self.path = path

    def when(self, *words, says="", code=0, writes=None, sleeps=0):
        written = {option: content.hex() for option, content in (writes or {}).items()}
        self.rules.insert(0, {"when": words, "says": says, "code": code, "writes": written, "sleeps": sleeps})
        (self.folder / "rules").write_text(json.dumps(self.rules))

    @property
    def calls(self):
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
