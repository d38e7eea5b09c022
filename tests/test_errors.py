from __future__ import annotations

from edgeprune.errors import EdgepruneError, nearest


def test_an_error_says_what_where_and_what_to_do():
    error = EdgepruneError("model-corrupt", "the file ends early", where="a.onnx", hint="get it again")
    assert str(error) == "the file ends early [model-corrupt]\n  where: a.onnx\n  hint:  get it again"
    assert error.as_dict() == {
        "code": "model-corrupt",
        "what": "the file ends early",
        "where": "a.onnx",
        "hint": "get it again",
    }
    assert error.exit_code == 1


def test_an_error_leaves_out_what_it_does_not_know():
    assert str(EdgepruneError("data-empty", "there is no row")) == "there is no row [data-empty]"


def test_nearest_suggests_close_names_and_else_lists_all():
    assert nearest("x86-64-v5", ["x86-64-v2", "x86-64-v3", "host"]) == "did you mean x86-64-v3 or x86-64-v2?"
    assert nearest("zzz", ["b", "a"]) == "known names: a, b"


def test_nearest_takes_a_part_of_a_name_where_none_is_spelled_alike():
    names = ["esp32-c3-devkitm", "nucleo-f446re", "nucleo-l4r5zi", "host"]
    assert nearest("esp32", names) == "did you mean esp32-c3-devkitm?"
    assert nearest("F44", names) == "did you mean nucleo-f446re?"
    assert nearest("re", names).startswith("known names: ")
