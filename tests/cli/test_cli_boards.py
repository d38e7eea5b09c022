from __future__ import annotations

import pytest

BENCH_THERE = {
    "board": "kitchen",
    "kind": "measured",
    "precision": "fp32",
    "threads": 2,
    "latency_ms": {"median": 12.5, "min": 12.0, "p90": 13.0, "runs": 400},
    "instructions": None,
    "peers": [],
    "layers": [{"name": "stem", "time_us": 900.0}],
    "peak_rss_bytes": 5 << 20,
    "machine": {"model": "Raspberry Pi 4 Model B", "system": "Linux 6.6", "cores": 4, "used_cores": "2,3"},
    "conditions": {
        "before": {
            "governor": "ondemand",
            "frequency_mhz": 600.0,
            "top_frequency_mhz": 1800.0,
            "temperature_c": 48.3,
            "throttled": False,
        },
        "after": {
            "governor": "ondemand",
            "frequency_mhz": 1800.0,
            "top_frequency_mhz": 1800.0,
            "temperature_c": 61.2,
            "throttled": True,
        },
    },
}
DEPLOYED = {
    "board": "kitchen",
    "folder": "/home/pi/.cache/edgeprune/board/models/net-0a1b2c3d",
    "files": {"edge-run": 90000, "model.so": 1 << 20},
    "uploaded_bytes": 1 << 20,
    "verified": {"equal": True, "exact": True},
    "command": "/home/pi/edge-run bench --library model.so",
}


@pytest.fixture(autouse=True)
def kitchen(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config/edgeprune/boards"
    folder.mkdir(parents=True)
    (folder / "kitchen.toml").write_text('like = "raspberry-pi-4"\nhost = "127.0.0.1"\nport = 1\n')


def test_verbs_pass_the_board_on(cli, road, package, card, tmp_path):
    for name in ("bench", "run", "eval"):
        arguments = {
            "bench": [package],
            "run": [package, "--input", card, "--output", tmp_path / "out.npz"],
            "eval": [package, "--data", card],
        }[name]
        assert cli(name, *arguments, "--board", "kitchen", "--json").code == 0
        assert cli(name, *arguments, "--json").code == 0
    given = [(named["board"], named["threads"]) for _, _, named in road.calls]
    assert given == [("kitchen", None), ("local", None)] * 3


def test_bench_tells_how_the_board_was_doing(cli, road, package):
    road.answers["bench"] = BENCH_THERE
    assert cli("bench", package, "--board", "kitchen", "--json").json == BENCH_THERE
    text = cli("bench", package, "--board", "kitchen").out
    for told in ("12.5 ms", "Raspberry Pi 4 Model B", "ondemand", "48.3", "61.2", "throttled", "2,3", "5.00 MB"):
        assert told in text


def test_deploy(cli, road, package):
    road.answers["deploy"] = DEPLOYED
    assert cli("deploy", package, "--board", "kitchen", "--json").json == DEPLOYED
    assert road.calls[0][:2] == ("deploy", (package,))
    assert road.calls[0][2]["board"] == "kitchen"
    text = cli("deploy", package, "-b", "pi-like.toml").err
    assert "board-file-missing" in text
    text = cli("deploy", package, "--board", "kitchen").out
    assert "models/net-0a1b2c3d" in text and "1.00 MB" in text and "outputs are the same" in text
    assert cli("deploy", package).code == 2


def test_flash(cli, road, package):
    written = {"flash_bytes": 40_960, "ram_bytes": 12_288, "identity": "DBGMCU_IDCODE 0x10006470"}
    report = {"board": "nucleo-l4r5zi", **written, "verified": {"exact": True}}
    road.answers["flash"] = report
    assert cli("flash", package, "--board", "nucleo-l4r5zi", "--json").json == report
    assert road.calls[0][2]["board"] == "nucleo-l4r5zi"
    text = cli("flash", package, "--board", "nucleo-l4r5zi").out
    assert "40.0 kB" in text and "0x10006470" in text and "outputs are the same" in text
    assert cli("flash", package).code == 2


def test_export(cli, road, package, tmp_path):
    report = {"output": "model.uf2", "format": "uf2", "board": "raspberry-pi-pico", "bytes": 2048}
    road.answers["export"] = report
    target = tmp_path / "model.uf2"
    assert cli("export", package, "-o", target, "--board", "raspberry-pi-pico", "--json").json == report
    assert road.calls[0][1] == (package, target, "uf2")
    assert "2.0 kB" in cli("export", package, "-o", tmp_path / "model.zip").out
    assert road.calls[1][1][2] == "c"


@pytest.mark.parametrize(
    ("name", "asked", "code", "what", "hint"),
    [
        ("m.u2f", (), "format-unknown", "no format goes by names like '*.u2f'", "did you mean .uf2"),
        ("m.tar.gz", (), "format-unknown", "names like '*.gz'", "did you mean .zip"),
        ("model", (), "format-unknown", "no format goes by names without a suffix", "known names: .elf, .bin, .hex"),
        ("m.zip", ("--as", "zephir"), "format-unknown", "there is no format 'zephir'", "did you mean zephyr?"),
        (
            "m.uf2",
            ("--as", "elf"),
            "option-conflict",
            "--as elf does not go with a file called *.uf2",
            "leave --as out",
        ),
    ],
)
def test_export_refuses_what_it_cannot_name(cli, road, package, tmp_path, name, asked, code, what, hint):
    finished = cli("export", package, "-o", tmp_path / name, *asked, "--json")
    error = finished.json["error"]
    assert (finished.code, error["code"], road.calls) == (2, code, [])
    assert what in error["what"] and hint in error["hint"]


def test_export_takes_any_name_where_the_format_is_given(cli, road, package, tmp_path):
    road.answers["export"] = {"output": "", "format": "", "board": None, "bytes": 1}
    for name, form in (("m.img", "bin"), ("lib", "arduino"), ("m.zip", "zephyr"), ("m.pack", "cmsis-pack")):
        assert cli("export", package, "-o", tmp_path / name, "--as", form).code == 0
        assert road.calls[-1][1][2] == form


def test_verify(cli, road, package, card):
    report = {"board": "kitchen", "samples": 9, "equal": True, "exact": False, "max_difference": 1e-6}
    road.answers["verify"] = report
    given = ["--board", "kitchen", "--samples", "9", "--data", card, "--threads", "2"]
    assert cli("verify", package, *given, "--json").json == report
    named = road.calls[0][2]
    assert (named["board"], named["samples"], named["data"], named["threads"]) == ("kitchen", 9, card, 2)
    assert "1e-06" in cli("verify", package).out
    assert road.calls[1][2]["board"] == "local"


@pytest.mark.parametrize("verb", ["deploy", "verify", "bench"])
@pytest.mark.parametrize(
    ("board", "code"),
    [("kitchne", "board-unknown"), ("kitchen@-oProxyCommand=x", "board-invalid"), ("a b", "board-invalid")],
)
def test_boards_that_are_none(cli, road, package, verb, board, code):
    finished = cli(verb, package, "--board", board, "--json")
    assert (finished.code, finished.json["error"]["code"]) == (2, code)
    assert road.calls == []


def test_boards_lists_the_users_own(cli):
    names = [board["name"] for board in cli("boards", "--json").json["boards"]]
    assert {"kitchen", "local", "raspberry-pi-4", "android-arm64"} <= set(names)
    assert cli("boards", "raspberry-pi-5@pi@10.0.0.7:2222", "--json").json["host"] == "10.0.0.7"
    assert "10.0.0.7" in cli("boards", "raspberry-pi-5@10.0.0.7").out


def test_a_microcontroller_shows_its_memory(cli):
    text = cli("boards", "nucleo-h743zi2").out
    for line in ("flash", "2 MB", "working memory", "640 kB", "480 MHz", "dtcm, 128 kB at 0x20000000"):
        assert line in text
    facts = cli("boards", "nucleo-h743zi2", "--json").json
    assert (facts["flash_bytes"], facts["ram_bytes"], facts["clock_mhz"]) == (2 << 20, 640 << 10, 480)
    assert {"name": "itcm", "start": 0, "bytes": 65536, "kind": "itcm"} in facts["regions"]
    assert "2 MB + 640 kB" in cli("boards").out
    assert "flash_bytes" not in cli("boards", "raspberry-pi-4", "--json").json


@pytest.mark.parametrize("verb", ["flash", "bench", "verify", "boards", "compile", "export"])
def test_a_board_that_contradicts_its_chip_is_told_before_any_work(cli, road, package, model, tmp_path, verb):
    board = tmp_path / "mine.toml"
    board.write_text('like = "nucleo-l4r5zi"\nchip = "rp2040"\n')
    out = tmp_path / "out.bin"
    arguments = {
        "boards": [board],
        "compile": [model, "-b", board, "-o", out],
        "export": [package, "-b", board, "-o", out],
    }
    finished = cli(verb, *arguments.get(verb, [package, "-b", board]), "--json")
    assert (finished.code, finished.json["error"]["code"], road.calls) == (2, "board-invalid", [])
    assert "its chip rp2040 is a cortex-m0plus" in finished.json["error"]["what"]


def test_boards_that_contradict_themselves_are_left_out_of_the_list(cli, tmp_path):
    folder = tmp_path / "config/edgeprune/boards"
    (folder / "mine.toml").write_text('like = "nucleo-l4r5zi"\nchip = "rp2040"\n')
    finished = cli("boards", "--json")
    assert "mine" not in [board["name"] for board in finished.json["boards"]]
    assert "warning: board 'mine' is left out: board mine says target cortex-m4" in finished.err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("boards", "cortex-m55"), "'cortex-m55' is a target; boards with it: alif-e7-devkit, qemu-mps3-an547"),
        (("boards", "esp32-c3@/dev/ttyUSB0"), "'esp32-c3' is a chip; boards with it: esp32-c3-devkitm"),
        (("boards", "esp32"), "did you mean esp32-c3-devkitm?"),
        (("targets", "emulated-m4"), "'emulated-m4' is a board: write --target cortex-m4"),
        (("targets", "esp32-c3"), "'esp32-c3' is a chip: write --target riscv32imc"),
        (("advise", "m.onnx", "--target", "cortexm4"), "did you mean cortex-m4"),
    ],
)
def test_a_name_of_another_kind_is_told(cli, arguments, hint):
    error = cli(*arguments, "--json")
    assert error.code == 2
    assert error.json["error"]["hint"].startswith(hint)


def test_boards_looks_which_are_there(cli, monkeypatch):
    monkeypatch.setattr("edgeprune.road.detecting.adb_devices", lambda: [{"serial": "AB12", "state": "device"}])
    monkeypatch.setattr("edgeprune.road.detecting._asked", answer)
    report = cli("boards", "--detect", "--json").json
    assert report["adb_devices"] == [{"serial": "AB12", "state": "device"}]
    found = {board["name"]: board for board in report["boards"]}
    assert found["kitchen"]["problem"] == "board kitchen is away"
    text = cli("boards", "--detect").out
    assert "kitchen is away" in text and "AB12" in text


def answer(board):
    from edgeprune.errors import EdgepruneError

    raise EdgepruneError("board-unreachable", f"board {board.name} is away")
