import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from backlit.runtime import Session, pipeline
from backlit.runtime.backend.cpu import Bindings
from backlit.runtime.backend.sessions import open_session
from backlit.runtime.contract import Normalisation
from backlit.runtime.errors import (
    BacklitError,
    ClassError,
    ContractError,
    ImageError,
    ModelError,
    OptionError,
)
from PIL import Image
from support.linear_file import write_linear_file

RNG = np.random.default_rng(5)
LABELS = ("cat", "dog", "Egyptian cat", "tench, Tinca tinca", "cock, hen")


def pixels(n, height=8, width=6, channels=3):
    return RNG.integers(0, 256, (n, height, width, channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "linear.onnx"
    return write_linear_file(path, labels=LABELS)


@pytest.fixture(scope="module")
def session(linear):
    return Session(linear.path, providers=["cpu"], threads=1)


# run


def test_run_is_the_closed_form(linear, session):
    images = pixels(7)
    index = np.array([[0, -1, 4, -5]] * 7)
    index[2] = [3, 3, -2, 1]
    outputs = session.run(images, index)
    scores = linear.scores(images)
    order = np.argsort(-scores, axis=1)
    resolved = np.where(index < 0, np.take_along_axis(order, np.maximum(-1 - index, 0), 1), index)
    np.testing.assert_allclose(outputs.scores, scores, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(outputs.classes, resolved)
    np.testing.assert_array_equal(
        outputs.score, np.take_along_axis(outputs.scores, outputs.classes, 1)
    )
    np.testing.assert_allclose(outputs.saliency, linear.saliency()[resolved], rtol=1e-6)
    assert list(outputs.maps) == ["saliency"]


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("range_", ["0-1", "0-255"])
def test_uint8_images_mean_the_same_to_both_input_types(tmp_path, colour, dtype, range_):
    scale = 1 if range_ == "0-1" else 255
    rule = Normalisation(
        range_, mean=(0.4 * scale, 0.5 * scale, 0.6 * scale), std=(0.2, 0.3 * scale, 0.25 * scale)
    )
    linear = write_linear_file(
        tmp_path / "a.onnx", dtype=dtype, colour=colour, normalisation=rule, seed=2
    )
    session, images = Session(linear.path, ["cpu"]), pixels(3)
    outputs = session.run(images, np.array([[-1]] * 3))
    scores = linear.scores(images)
    np.testing.assert_allclose(outputs.scores, scores, rtol=1e-4, atol=1e-3 * scale)
    best = scores.argmax(1)
    np.testing.assert_allclose(outputs.saliency[:, 0], linear.saliency()[best], rtol=1e-6)
    if dtype == "float32":
        again = session.run(linear.normalised(images), np.array([[-1]] * 3))
        np.testing.assert_allclose(again.scores, outputs.scores, rtol=1e-4, atol=1e-3 * scale)


def test_gradient_file(tmp_path):
    linear = write_linear_file(tmp_path / "a.onnx", output="gradient", channels=3)
    outputs = Session(linear.path, ["cpu"]).run(pixels(2), np.array([[1, 2], [0, 4]]))
    gradient = linear.gradient()[[[1, 2], [0, 4]]]
    np.testing.assert_allclose(outputs["gradient"], gradient, rtol=1e-6)
    np.testing.assert_allclose(outputs.saliency, np.abs(gradient).max(2), rtol=1e-6)
    maps = Session(linear.path, ["cpu"]).saliency(pixels(1), classes=3)[0].maps
    np.testing.assert_allclose(maps[0], linear.saliency()[3], rtol=1e-6)


def test_grey_file(tmp_path):
    linear = write_linear_file(tmp_path / "a.onnx", channels=1)
    images = pixels(2, channels=1)
    session = Session(linear.path, ["cpu"])
    scores = linear.scores(images)
    outputs = session.run(images, np.array([[0]] * 2))
    np.testing.assert_allclose(outputs.scores, scores, rtol=1e-4, atol=1e-4)
    found = session.saliency(images, top=5)
    for one, row in zip(found, scores, strict=True):
        np.testing.assert_array_equal(one.classes, np.argsort(-row))
        np.testing.assert_allclose(one.scores, np.sort(row)[::-1], rtol=1e-4, atol=1e-4)


def test_tensors_by_dlpack(linear, session):
    torch = pytest.importorskip("torch")
    images = pixels(3)
    outputs = session.run_dlpack(torch.from_numpy(images), np.array([[0, 4]] * 3))
    saliency = torch.from_dlpack(outputs["saliency"])
    np.testing.assert_allclose(saliency.numpy(), [linear.saliency()[[0, 4]]] * 3, rtol=1e-6)
    best = session.run_dlpack(torch.from_numpy(images))
    right = linear.scores(images).argmax(1)
    np.testing.assert_array_equal(torch.from_dlpack(best.classes).numpy()[:, 0], right)
    with pytest.raises(OptionError, match="no 'gradient' map"):
        outputs["gradient"]
    with pytest.raises(OptionError, match="float32"):
        session.run_dlpack(torch.zeros(1, 8, 6, 3))
    with pytest.raises(ClassError):
        session.run_dlpack(torch.from_numpy(images), np.array([[9]] * 3))


def test_results_are_not_overwritten_by_the_next_run(linear, session):
    first, second = pixels(2), pixels(2)
    index = np.array([[-1]] * 2)
    outputs = session.run(first, index)
    kept = outputs.scores.copy(), outputs.saliency.copy(), outputs.classes.copy()
    other = session.run(second, index)
    assert not np.array_equal(other.scores, outputs.scores)
    np.testing.assert_array_equal(outputs.scores, kept[0])
    np.testing.assert_array_equal(outputs.saliency, kept[1])
    np.testing.assert_array_equal(outputs.classes, kept[2])
    outputs.scores[:] = 0  # the caller's own: this must not reach the session's buffers
    np.testing.assert_array_equal(session.run(second, index).scores, other.scores)


def test_many_shapes_and_few_buffers(linear, session):
    for n in (1, 2, 3, 4, 5, 1, 6, 2):
        images = pixels(n)
        outputs = session.run(images, np.array([[0, 1]] * n))
        np.testing.assert_allclose(outputs.scores, linear.scores(images), rtol=1e-4, atol=1e-4)
    assert len(session._bindings._kept) <= 4


def test_a_smaller_batch_runs_in_a_shape_that_is_compiled(linear):
    """As on OpenVINO, with the CPU provider in fixed shapes."""
    opened = []

    def fixed(shape):
        opened.append(shape)
        found = open_session(linear.path, "cpu", shape=shape).session
        assert found.get_inputs()[0].shape[0] == shape[0]
        return found

    bindings = Bindings(linear.contract, fixed, compiles=True)

    def run(n, k):
        images = pixels(n)
        scores, classes, score, maps = bindings.run(images, np.tile(np.arange(k), (n, 1)))
        np.testing.assert_allclose(scores, linear.scores(images), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(classes, np.tile(np.arange(k), (n, 1)))
        assert score.shape == (n, k)
        np.testing.assert_allclose(maps, np.stack([linear.saliency()[:k]] * n), rtol=1e-6)

    for n, k, expected in [
        (4, 2, [(4, 2)]),
        (4, 2, []),
        (1, 2, []),  # the last batch: filled up
        (4, 2, []),
        (1, 2, []),
        (1, 2, [(1, 2)]),  # twice in a row
        (3, 2, []),
        (1, 2, []),  # in the smallest that is large enough
        (6, 2, [(6, 2)]),
        (1, 1, [(1, 1)]),
        (7, 2, [(7, 2)]),  # (4, 2) was run longer ago than the others, so it goes
        (4, 2, []),
        (4, 2, [(4, 2)]),
    ]:
        opened.clear()
        run(n, k)
        assert opened == expected
        assert len(bindings._kept) <= 4


def test_threads_share_a_session(linear, session):
    images = [pixels(n) for n in (1, 2, 3, 2, 1, 3) * 10]

    def one(batch):
        return session.run(batch, np.array([[-1, 0]] * len(batch)))

    with ThreadPoolExecutor(4) as pool:
        for batch, outputs in zip(images, pool.map(one, images), strict=True):
            np.testing.assert_allclose(outputs.scores, linear.scores(batch), rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(outputs.classes[:, 0], outputs.scores.argmax(1))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 7, 3), np.uint8),
        np.zeros((8, 6, 3), np.uint8),
        np.zeros((1, 3, 8, 6), np.float32),
        np.zeros((1, 8, 6, 1), np.uint8),
        np.zeros((1, 8, 6, 3), np.float64),
    ],
)
def test_images_of_another_shape(session, images):
    with pytest.raises(OptionError, match=r"takes uint8 \[N,8,6,3\]"):
        session.run(images, np.array([[0]]))


@pytest.mark.parametrize(
    "index", [[[5]], [[-6]], [[0, 99]], [0], [[0], [0]], [[0.0]], np.zeros((1, 0), np.int64)]
)
def test_class_index_out_of_range_or_shape(session, index):
    with pytest.raises(ClassError):
        session.run(pixels(1), np.asarray(index))


# saliency


def test_saliency_of_paths_pillow_images_and_arrays(tmp_path, linear, session):
    array = pixels(1)[0]
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    scores = linear.scores(array[None])[0]
    found = session.saliency([path, str(path), Image.fromarray(array), array], top=2)
    assert [one.image for one in found] == [str(path), str(path), None, None]
    for one in found:
        np.testing.assert_array_equal(one.classes, np.argsort(-scores)[:2])
        assert one.labels == tuple(LABELS[index] for index in one.classes)
        np.testing.assert_allclose(one.scores, np.sort(scores)[::-1][:2], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(one.maps, linear.saliency()[one.classes], rtol=1e-6)
        assert (one.width, one.height) == (6, 8)


def test_one_image_gives_a_list_of_one(session):
    array = pixels(1)
    assert len(session.saliency(array[0])) == len(session.saliency(array)) == 1
    assert len(session.saliency(Image.fromarray(array[0]))) == 1
    assert session.saliency([]) == []


@pytest.mark.parametrize("crops", [1, 2, 10])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_views_are_averaged(tmp_path, crops, batch):
    """Scores, ranks and maps against numpy on views cut here by hand."""
    linear = write_linear_file(tmp_path / "a.onnx", height=14, width=7, seed=9)
    session = Session(linear.path, ["cpu"])
    images = pixels(5, 16, 8) if crops == 10 else pixels(5, 14, 7)
    found = session.saliency(images, top=3, crops=crops, batch=batch)
    truth = linear.saliency()
    starts = [(0, 0), (0, 1), (2, 0), (2, 1), (1, 0)] if crops == 10 else [(0, 0)]
    for image, one in zip(images, found, strict=True):
        views = [image[y : y + 14, x : x + 7] for y, x in starts]
        views += [view[:, ::-1] for view in views] if crops > 1 else []
        mean = linear.scores(np.stack(views)).mean(0)
        order = np.argsort(-mean)[:3]
        np.testing.assert_array_equal(one.classes, order)
        np.testing.assert_allclose(one.scores, mean[order], rtol=1e-4, atol=1e-4)
        for index, heat in zip(order, one.maps, strict=True):
            total, count = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
            for y, x in starts:
                for part in [truth[index], truth[index][:, ::-1]][: 1 if crops == 1 else 2]:
                    total[y : y + 14, x : x + 7] += part
                    count[y : y + 14, x : x + 7] += 1
            np.testing.assert_allclose(heat, total / count, rtol=1e-5)


def test_ranks_are_of_the_averaged_scores_even_where_the_views_disagree(tmp_path):
    """The mirror image has another best class, so its map must be made again."""
    linear = write_linear_file(tmp_path / "a.onnx", height=6, width=6, seed=4)
    session = Session(linear.path, ["cpu"])
    images = pixels(40, 6, 6)
    plain, mirrored = linear.scores(images), linear.scores(images[:, :, ::-1])
    assert (plain.argmax(1) != mirrored.argmax(1)).sum() > 5
    truth = linear.saliency()
    for rank in (1, 2, 5):
        found = session.saliency(images, top=rank, crops=2)
        order = np.argsort(-(plain + mirrored), axis=1)[:, :rank]
        for one, row in zip(found, order, strict=True):
            np.testing.assert_array_equal(one.classes, row)
            expected = (truth[row] + truth[row][:, :, ::-1]) / 2
            np.testing.assert_allclose(one.maps, expected, rtol=1e-5)


def test_classes_in_every_form(linear, session):
    images = pixels(3)
    best = linear.scores(images).argmax(1)

    def classes(**options):
        return [one.classes.tolist() for one in session.saliency(images, **options)]

    assert classes(classes=2) == [[2]] * 3
    assert classes(classes=np.int64(2)) == [[2]] * 3
    assert classes(classes="dog") == [[1]] * 3
    assert classes(classes=[0, "dog", 0]) == [[0, 1, 0]] * 3
    assert classes(classes=np.array([4, 1])) == [[4, 1]] * 3
    assert classes(classes=[[0], [1], ["cat"]]) == [[0], [1], [0]]
    assert classes(classes=np.array([[0, 3], [1, 3], [2, 3]])) == [[0, 3], [1, 3], [2, 3]]
    assert classes(classes=-1) == [[index] for index in best]
    assert classes(classes=[-1, 3], crops=2)[0][1] == 3
    assert classes(classes=[[0], [1], [2]], crops=2, batch=1) == [[0], [1], [2]]


def test_labels_are_found_without_case_and_by_one_of_their_names(linear, session):
    image = pixels(1)
    for text, index in [
        ("CAT", 0),
        (" egyptian cat ", 2),
        ("tinca tinca", 3),
        ("tench, Tinca tinca", 3),
        ("TENCH, tinca tinca", 3),
        ("hen", 4),
    ]:
        assert session.saliency(image, classes=text)[0].classes.tolist() == [index]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (5, "class 5 is out of range: the file has classes 0 to 4"),
        (-6, "class -6 is out of range"),
        ("dgo", "did you mean 'dog'"),
        ("zzzzzz", "0 to 4"),
        (True, "True is not a class"),
        (1.5, "not a class"),
        ([], "no class"),
        ([[0, 1], [2]], "differ in length"),
        ([[0], [1], [2]], "3 rows for 2 images"),
        ([0, [1]], "differ in length"),
        (np.array([0.5]), "float64"),
    ],
)
def test_classes_that_do_not_exist(session, classes, words):
    with pytest.raises(ClassError) as caught:
        session.saliency(pixels(2), classes=classes)
    assert words in str(caught.value)


def test_labels_that_several_classes_have_or_no_labels_at_all(tmp_path):
    two = write_linear_file(tmp_path / "a.onnx", classes=3, labels=("crane", "b", "crane"))
    with pytest.raises(ClassError, match="several classes: 0, 2"):
        Session(two.path, ["cpu"]).saliency(pixels(1), classes="crane")
    none = write_linear_file(tmp_path / "b.onnx")
    with pytest.raises(ClassError, match="no labels"):
        Session(none.path, ["cpu"]).saliency(pixels(1), classes="crane")
    assert Session(none.path, ["cpu"]).saliency(pixels(1))[0].labels is None


@pytest.mark.parametrize("top", [0, -1, 6])
def test_top_out_of_range(session, top):
    with pytest.raises(ClassError, match="5 classes"):
        session.saliency(pixels(1), top=top)


@pytest.mark.parametrize("options", [{"crops": 3}, {"batch": 0}, {"batch": -1}])
def test_impossible_options(session, options):
    with pytest.raises(OptionError):
        session.saliency(pixels(1), **options)


def test_bad_image_is_an_image_error_where_that_is_wanted(session, tmp_path):
    with pytest.raises(ImageError, match=r"no\.png does not exist"):
        session.saliency([pixels(1)[0], tmp_path / "no.png"], errors="raise")


# pipeline


def test_one_bad_image_never_loses_the_others(linear, session, tmp_path):
    images = list(pixels(9))
    sources = [*images[:4], tmp_path / "no.png", *images[4:], np.zeros((0, 2, 3), np.uint8)]
    index = np.array([[-1]])
    results = list(pipeline.saliency_results(session, iter(sources), index, batch=4))
    assert [result.index for result in results] == list(range(11))
    assert [number for number, result in enumerate(results) if result.error] == [4, 10]
    good = [result.value for result in results if result.value is not None]
    best = linear.scores(np.stack(images)).argmax(1)
    assert [one.classes[0] for one in good] == best.tolist()


def test_rows_of_classes_follow_their_images_past_a_bad_one(session, tmp_path):
    sources = [pixels(1)[0], tmp_path / "no.png", pixels(1)[0], pixels(1)[0]]
    index = np.array([[0], [1], [2], [3]])
    results = list(pipeline.saliency_results(session, sources, index, batch=2))
    assert [None if r.value is None else int(r.value.classes[0]) for r in results] == [
        0,
        None,
        2,
        3,
    ]


def test_images_are_read_a_bounded_number_ahead(session):
    taken = 0

    def sources():
        nonlocal taken
        for image in pixels(200):
            taken += 1
            yield image

    results = pipeline.saliency_results(session, sources(), np.array([[0]]), batch=4, workers=2)
    next(results)
    # a batch in the network and one before it, one being filled, and what is decoded
    assert taken <= 2 * 4 + 4 + 2
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("backlit")]


def test_pictures_are_kept_only_when_asked(session):
    image = pixels(1, 80, 50)[0]
    for keep, shape in ((0, None), (40, (40, 25, 3)), (200, (80, 50, 3))):
        (result,) = pipeline.saliency_results(session, [image], np.array([[0]]), keep=keep)
        assert (None if result.picture is None else result.picture.shape) == shape
    np.testing.assert_array_equal(result.picture, image)


# Bad files


@pytest.mark.parametrize("maps", [None, ["saliency"]])
def test_a_file_that_is_not_there_or_cannot_be_one(tmp_path, maps):
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_text("no model")
    for path, words in {
        tmp_path / "absent.onnx": "absent.onnx does not exist",
        tmp_path: "is a folder",
        tmp_path / "empty.onnx": "empty.onnx is empty",
        tmp_path / "text.onnx": "text.onnx is not an ONNX file",
    }.items():
        with pytest.raises(ModelError, match=words):
            Session(path, maps=maps)


def test_plain_onnx(tmp_path):
    linear = write_linear_file(tmp_path / "plain.onnx", metadata=False)
    with pytest.raises(ContractError, match="not a Backlit file") as caught:
        Session(linear.path, ["cpu"])
    assert "backlit export" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "damaged"),
        ("[1]", "damaged"),
        ("null", "damaged"),
        ('{"schema": 2}', "lacks"),
        ('{"schema": 3, "tool": "backlit 9"}', "schema 3.*backlit 9"),
    ],
)
def test_metadata_that_cannot_be_read(tmp_path, text, words):
    linear = write_linear_file(tmp_path / "a.onnx", metadata=text)
    with pytest.raises(ContractError, match=words):
        Session(linear.path, ["cpu"])


def test_graph_that_is_not_what_the_metadata_says(tmp_path):
    small = write_linear_file(tmp_path / "a.onnx")
    for options in ({"height": 9}, {"classes": 6}, {"dtype": "float32"}, {"output": "gradient"}):
        other = write_linear_file(tmp_path / "b.onnx", **options)
        path = tmp_path / "mixed.onnx"
        write_linear_file(path, **options, metadata=small.contract.to_json())
        with pytest.raises(ModelError, match="its metadata says"):
            Session(path, ["cpu"])
        assert Session(other.path, ["cpu"]).contract == other.contract


def test_failures_of_onnxruntime_are_backlit_errors(tmp_path):
    """A graph that only fails when it runs: a reshape to a size that does not fit."""
    linear = write_linear_file(tmp_path / "a.onnx")
    model = onnx.load(linear.path)
    for constant in model.graph.initializer:
        if constant.name == "k":
            constant.CopyFrom(onnx.numpy_helper.from_array(np.array([9], np.int64), "k"))
    del model.graph.value_info[:]
    onnx.save(model, linear.path)
    with pytest.raises(BacklitError) as caught:
        Session(linear.path, ["cpu"]).run(pixels(1), np.array([[-1]]))
    assert "ONNX Runtime cannot run" in caught.value.problem
