import numpy as np
import pytest
from PIL import Image

from edgeprune.data import InputSpec, load_card, random_samples
from edgeprune.errors import EdgepruneError
from edgeprune.metric import score

PLAIN = '[train]\nfile = "rows.npz"\nrows = "0:20"\n[test]\nfile = "rows.npz"\nrows = "20:30"\n'
SPEC = InputSpec("input", (1, 2, 3), "float32")


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(3)
    np.savez(tmp_path / "rows.npz", x=generator.normal(size=(30, 2, 3)).astype(np.float32), y=np.arange(30) % 4)
    return tmp_path


def card(folder, text, metric="top1"):
    path = folder / "card.toml"
    path.write_text(f'metric = "{metric}"\n{text}', encoding="utf-8")
    return path


def error(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.what
    assert caught.value.where
    assert caught.value.hint
    return caught.value


def test_rows_and_labels(folder):
    stored = np.load(folder / "rows.npz")
    samples = load_card(card(folder, PLAIN)).load("test", [SPEC])
    np.testing.assert_array_equal(samples.inputs["input"], stored["x"][20:30])
    np.testing.assert_array_equal(samples.labels, stored["y"][20:30])
    assert samples.row(3)["input"].shape == (1, 2, 3)
    np.testing.assert_array_equal(samples.row(3)["input"][0], stored["x"][23])
    assert samples.slice(2, 5).count == 3
    np.testing.assert_array_equal(samples.slice(2, 5).labels, stored["y"][22:25])


@pytest.mark.parametrize(
    ("rows", "wanted"), [("0::2", slice(0, None, 2)), ("-4:", slice(-4, None)), (":", slice(None))]
)
def test_rows_are_python_slices(folder, rows, wanted):
    samples = load_card(card(folder, f'[test]\nfile = "rows.npz"\nrows = "{rows}"')).load("test", [SPEC])
    np.testing.assert_array_equal(samples.labels, (np.arange(30) % 4)[wanted])


def test_limit_spreads_over_the_split(folder):
    samples = load_card(card(folder, '[test]\nfile = "rows.npz"')).load("test", [SPEC], limit=4)
    np.testing.assert_array_equal(samples.labels, np.array([0, 7, 15, 22]) % 4)


def test_label_offset_at_the_top_and_in_preprocess(folder):
    below = load_card(card(folder, PLAIN + "[preprocess]\nlabel_offset = 2"))
    above = load_card(card(folder, "label_offset = 2\n" + PLAIN))
    for loaded in (below, above):
        np.testing.assert_array_equal(loaded.load("test", [SPEC]).labels, np.arange(20, 30) % 4 + 2)


def test_a_column_of_labels_is_taken_as_labels(folder):
    np.savez(folder / "rows.npz", x=np.zeros((30, 2, 3)), y=np.arange(30, dtype=np.uint8)[:, None])
    labels = load_card(card(folder, PLAIN)).load("test", [SPEC]).labels
    np.testing.assert_array_equal(labels, np.arange(20, 30))


def test_stand_ins_never_touch_test(folder):
    loaded = load_card(card(folder, PLAIN))
    stored = np.load(folder / "rows.npz")["x"]
    assert loaded.splits() == ("train", "validate", "calibrate", "test")
    np.testing.assert_array_equal(loaded.load("train", [SPEC]).inputs["input"], stored[:18])
    np.testing.assert_array_equal(loaded.load("calibrate", [SPEC]).inputs["input"], stored[:18])
    np.testing.assert_array_equal(loaded.load("validate", [SPEC]).inputs["input"], stored[18:20])
    only_train = load_card(card(folder, '[train]\nfile = "rows.npz"'))
    assert error(lambda: only_train.load("test", [SPEC])).code == "card-invalid"
    only_test = load_card(card(folder, '[test]\nfile = "rows.npz"'))
    assert error(lambda: only_test.load("calibrate", [SPEC])).code == "card-invalid"
    assert error(lambda: only_test.load("tset", [SPEC])).code == "split-unknown"


def test_a_validate_section_leaves_train_whole(folder):
    loaded = load_card(card(folder, PLAIN + '[validate]\nfile = "rows.npz"\nrows = "5:9"\n'))
    assert loaded.load("train", [SPEC]).count == 20
    assert loaded.load("validate", [SPEC]).count == 4


def test_several_inputs_by_name(folder):
    np.savez(folder / "two.npz", left=np.ones((6, 4)), right=np.zeros((6, 2, 1, 3), np.int64))
    loaded = load_card(card(folder, '[test]\nfile = "two.npz"', "fidelity"))
    specs = [InputSpec("left", (1, 4), "float32"), InputSpec("right", (2, 1, 3), "int64")]
    samples = loaded.load("test", specs)
    assert samples.labels is None
    assert {name: array.shape for name, array in samples.row(0).items()} == {"left": (1, 4), "right": (2, 1, 3)}
    third = [*specs, InputSpec("middle", (1, 4), "float32")]
    missing = error(lambda: loaded.load("test", third))
    assert missing.code == "data-key-missing"
    assert "middle" in missing.what
    scaled = load_card(card(folder, '[test]\nfile = "two.npz"\n[preprocess]\nscale = 2', "fidelity"))
    assert error(lambda: scaled.load("test", specs)).code == "card-invalid"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[test\n", ""),
        ("[tets]\n", "test"),
        ("", "[test]"),
        ('[test]\nfil = "rows.npz"', "file"),
        ("[test]\nfile = 3", ""),
        ("[test]", "file"),
        ('[test]\nfile = "rows.npz"\nimages = "here"', ""),
        ('[test]\nfile = "rows.npz"\nlabel = "class"', "images"),
        ('[test]\nimages = "here"\nlabel = "class"', "index"),
        ('[test]\nfile = "rows.npz"\nrows = "1-5"', ""),
        ('[test]\nfile = "rows.npz"\nrows = "::0"', ""),
        ('[test]\nfile = "rows.npz"\nrows = "5"', ""),
        (PLAIN + "[preprocess]\nscal = 1", "scale"),
        (PLAIN + '[preprocess]\nlayout = "NWHC"', ""),
        (PLAIN + "[preprocess]\nstd = [1.0, 0.0]", ""),
        (PLAIN + "[preprocess]\nresize = 0", ""),
        ("test = 3", ""),
        ("label_offset = 1\n" + PLAIN + "[preprocess]\nlabel_offset = 1", ""),
    ],
)
def test_a_card_that_says_something_wrong(folder, text, named):
    caught = error(lambda: load_card(card(folder, text)))
    assert caught.code == "card-invalid"
    assert "card.toml" in caught.where
    assert named in caught.what + caught.hint


def test_missing_card_and_metric(folder):
    assert error(lambda: load_card(folder / "nowhere.toml")).code == "card-missing"
    assert "top1" in error(lambda: load_card(card(folder, PLAIN, "top"))).hint
    (folder / "card.toml").write_text(PLAIN, encoding="utf-8")
    assert error(lambda: load_card(folder / "card.toml")).code == "card-invalid"


def test_missing_file_names_the_nearest(folder):
    caught = error(lambda: load_card(card(folder, '[test]\nfile = "row.npz"')).load("test", [SPEC]))
    assert caught.code == "data-file-missing"
    assert "rows.npz" in caught.hint


def test_missing_keys(folder):
    np.savez(folder / "rows.npz", images=np.zeros((4, 2, 3)))
    assert "'x'" in error(lambda: load_card(card(folder, '[test]\nfile = "rows.npz"')).load("test", [SPEC])).what
    np.savez(folder / "rows.npz", x=np.zeros((30, 2, 3)))
    loaded = load_card(card(folder, PLAIN + '[calibrate]\nfile = "rows.npz"\n'))
    caught = error(lambda: loaded.load("test", [SPEC]))
    assert caught.code == "data-key-missing"
    assert "'y'" in caught.what
    assert loaded.load("calibrate", [SPEC]).labels is None


def test_corrupt_and_pickled_files(folder):
    path = folder / "rows.npz"
    whole = path.read_bytes()
    loaded = load_card(card(folder, '[test]\nfile = "rows.npz"'))
    path.write_bytes(whole[: len(whole) // 2])
    assert error(lambda: loaded.load("test", [SPEC])).code == "data-file-corrupt"
    np.savez(path, x=np.array([{"a": 1}, None]), y=np.zeros(2, int))
    assert error(lambda: loaded.load("test", [SPEC])).code == "data-file-corrupt"


def test_rows_that_do_not_fit_name_both_shapes(folder):
    loaded = load_card(card(folder, PLAIN))
    caught = error(lambda: loaded.load("test", [InputSpec("input", (1, 3, 32, 32), "float32")]))
    assert caught.code == "data-shape"
    assert "[2, 3]" in caught.what
    assert "[1, 3, 32, 32]" in caught.what
    assert "shape = [6]" in error(lambda: loaded.load("test", [InputSpec("input", (1, 6), "float32")])).hint
    assert error(lambda: loaded.load("test", [InputSpec("input", (1, 2, 3), "int64")])).code == "data-dtype"


def test_labels_of_another_count(folder):
    np.savez(folder / "rows.npz", x=np.zeros((30, 2, 3)), y=np.zeros(29, int))
    caught = error(lambda: load_card(card(folder, '[test]\nfile = "rows.npz"')).load("test", [SPEC]))
    assert caught.code == "labels-misfit"


@pytest.mark.parametrize(
    ("value", "told"), [(np.nan, "NaN"), (np.inf, "infinite values"), (-np.inf, "infinite values")]
)
def test_rows_that_are_not_finite_are_named_by_file_key_and_row(folder, value, told):
    stored = dict(np.load(folder / "rows.npz"))
    stored["x"][23, 1, 2] = value
    np.savez(folder / "rows.npz", **stored)
    found = error(lambda: load_card(card(folder, PLAIN)).load("test", [SPEC]))
    assert (found.code, found.what) == ("not-finite", f"'x', row 23, holds {told}")
    assert found.where == str(folder / "rows.npz")
    assert "leave them out with `rows`" in found.hint
    assert load_card(card(folder, PLAIN)).load("train", [SPEC]).count == 18


def test_labels_that_are_not_finite_and_several_rows(folder):
    np.savez(folder / "rows.npz", x=np.zeros((30, 2, 3), np.float32), y=np.where(np.arange(30) > 26, np.nan, 1.0))
    found = error(lambda: load_card(card(folder, PLAIN, "mse")).load("test", [SPEC]))
    assert found.what == "'y', row 27, holds NaN (3 rows do)"


def test_preprocessing_that_leaves_the_numbers_behind(folder):
    stored = dict(np.load(folder / "rows.npz"))
    np.savez(folder / "rows.npz", x=stored["x"] * 1e30, y=stored["y"])
    found = error(lambda: load_card(card(folder, PLAIN + "[preprocess]\nscale = 1e20")).load("test", [SPEC]))
    assert found.code == "not-finite"
    assert found.what.startswith("what [preprocess] makes of 'input', row 20, holds infinite values")
    assert "compare [preprocess] of the card" in found.hint


def test_empty_rows(folder):
    loaded = load_card(card(folder, '[test]\nfile = "rows.npz"\nrows = "40:50"'))
    assert error(lambda: loaded.load("test", [SPEC])).code == "card-invalid"


@pytest.fixture
def pictures(tmp_path):
    generator = np.random.default_rng(5)
    (tmp_path / "pictures").mkdir()
    for name in ("c.png", "a.png", "b.png"):
        pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "notes.txt").write_text("not an image")
    (tmp_path / "index.csv").write_text("file,kind\nc.png,2\na.png,0\n")
    return tmp_path


IMAGES = InputSpec("input", (1, 6, 8, 3), "float32")


def test_images_by_name_and_by_index(pictures):
    pixels = {name: np.asarray(Image.open(pictures / "pictures" / name)) for name in ("a.png", "b.png", "c.png")}
    by_name = load_card(card(pictures, '[test]\nimages = "pictures"', "fidelity")).load("test", [IMAGES])
    np.testing.assert_array_equal(by_name.inputs["input"], np.stack([pixels[name] for name in sorted(pixels)]))
    indexed = card(pictures, '[test]\nimages = "pictures"\nindex = "index.csv"\nlabel = "kind"')
    by_index = load_card(indexed).load("test", [IMAGES])
    np.testing.assert_array_equal(by_index.inputs["input"], np.stack([pixels["c.png"], pixels["a.png"]]))
    np.testing.assert_array_equal(by_index.labels, [2, 0])


def test_image_errors(pictures):
    indexed = '[test]\nimages = "pictures"\nindex = "index.csv"\nlabel = '
    caught = error(lambda: load_card(card(pictures, indexed + '"king"')).load("test", [IMAGES]))
    assert caught.code == "data-key-missing"
    assert "kind" in caught.hint
    plain = load_card(card(pictures, '[test]\nimages = "pictures"', "fidelity"))
    (pictures / "pictures" / "b.png").write_bytes(b"\x89PNG nothing")
    assert error(lambda: plain.load("test", [IMAGES])).code == "data-image-undecodable"
    Image.new("RGB", (3, 3)).save(pictures / "pictures" / "b.png")
    assert error(lambda: plain.load("test", [IMAGES])).code == "data-shape"
    (pictures / "index.csv").write_text("file,kind\nz.png,2\n")
    loaded = load_card(card(pictures, indexed + '"kind"'))
    assert error(lambda: loaded.load("test", [IMAGES])).code == "data-file-missing"
    (pictures / "index.csv").write_text("file,kind\na.png,dog\n")
    assert error(lambda: loaded.load("test", [IMAGES])).code == "labels-misfit"
    unlabelled = load_card(card(pictures, '[test]\nimages = "pictures"'))
    assert error(lambda: unlabelled.load("test", [IMAGES])).code == "data-key-missing"
    nowhere = load_card(card(pictures, '[test]\nimages = "nowhere"', "fidelity"))
    assert error(lambda: nowhere.load("test", [IMAGES])).code == "data-file-missing"


def test_digest_follows_card_and_data(folder):
    loaded = load_card(card(folder, PLAIN))
    before = loaded.digest()
    assert loaded.digest() == before
    np.savez(folder / "rows.npz", x=np.zeros((30, 2, 3)), y=np.zeros(30, int))
    assert loaded.digest() != before


def test_random_samples_are_seeded_and_fit():
    specs = [InputSpec("a", (1, 3, 5), "float32"), InputSpec("b", (1, 4), "int64"), InputSpec("c", (2, 4), "uint8")]
    first, again, other = (random_samples(specs, 7, seed) for seed in (1, 1, 2))
    for spec in specs:
        assert first.row(0)[spec.name].shape == spec.shape
        assert first.inputs[spec.name].dtype == spec.dtype
        np.testing.assert_array_equal(first.inputs[spec.name], again.inputs[spec.name])
    assert not np.array_equal(first.inputs["a"], other.inputs["a"])


def test_every_card_loads(data_dir):
    cards = sorted((data_dir / "cards").glob("*.toml"))
    assert len(cards) == 11
    for path in cards:
        assert "test" in load_card(path).splits()


@pytest.mark.parametrize(
    ("model", "name", "wanted", "rows"),
    [
        ("cifar_resnet/resnet20.onnx", "cifar10", 0.910, 500),
        ("squeezenet_dc/squeezenet1.0_deepcompressed.onnx", "imagenet_squeezenet", 0.5775, 400),
    ],
)
def test_published_accuracy(data_dir, model, name, wanted, rows):
    onnxruntime = pytest.importorskip("onnxruntime")
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data_dir / "models" / model, options)
    port = session.get_inputs()[0]
    loaded = load_card(data_dir / "cards" / f"{name}.toml")
    samples = loaded.load("test", [InputSpec(port.name, (1, *port.shape[1:]), "float32")])
    outputs = np.concatenate([session.run(None, samples.row(row))[0] for row in range(samples.count)])
    assert samples.count == rows
    assert score(loaded.metric, outputs, samples.labels) == pytest.approx(wanted, abs=1e-9)
