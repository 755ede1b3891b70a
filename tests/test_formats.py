"""Every output format, read back by a reader that is not ours; coordinates checked by hand."""

import csv
import json
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
from backlit.runtime import Session
from backlit.runtime.cli import group as cli
from backlit.runtime.output.formats.coco import coco_image_id, coco_results
from backlit.runtime.output.formats.csv_table import COLUMNS, csv_table
from backlit.runtime.output.formats.format import encoded
from backlit.runtime.output.formats.jsonl import jsonl
from backlit.runtime.output.formats.table import FORMATS
from backlit.runtime.output.formats.voc import voc_annotation
from backlit.runtime.output.names import Names
from click.testing import CliRunner
from PIL import Image
from support.linear_file import write_linear_file

LABELS = ("cat, 'tabby' & <kin>", "Hündin")
FRAME = 40

HOW = {"map": "m", "recipe": "r"}

# Of an image 100x60: columns 10 to 49 and rows 20 to 29, and one pixel in the corner.
LINES = [
    {
        "image": "some photos/b,ird \"x\".jpg",
        "width": 100,
        "height": 60,
        "results": [
            {"class": 0, "label": LABELS[0], "score": 4.5, "box": [10, 20, 50, 30], **HOW},
            {"class": 1, "label": None, "score": -0.25, "box": [99, 59, 100, 60], **HOW},
            {"class": 0, "label": LABELS[1], "score": 0.5, "box": None, **HOW},
        ],
    },
    {"image": "val2017/000000397133.jpg", "error": "it is damaged,\nand more"},
    {"image": "000000000042.jpg", "width": 7, "height": 5, "results": [
        {"class": 3, "label": "ab", "score": None, "box": [0, 0, 7, 5], **HOW}]},
]  # fmt: skip


@pytest.fixture
def written(tmp_path):
    for kind in ("coco", "csv", "voc"):
        FORMATS[kind].write(iter(LINES), tmp_path, Names())
    return tmp_path


def test_json_lines_are_the_lines():
    assert [json.loads(text) for text in jsonl(LINES)] == LINES


def test_coco(written):
    assert json.loads((written / "coco.json").read_text()) == [
        {
            "image_id": 'some photos/b,ird "x".jpg',
            "category_id": 0,
            "category_name": LABELS[0],
            "bbox": [10, 20, 40, 10],
            "score": 4.5,
        },
        {
            "image_id": 'some photos/b,ird "x".jpg',
            "category_id": 1,
            "category_name": None,
            "bbox": [99, 59, 1, 1],
            "score": -0.25,
        },
        {
            "image_id": 42,
            "category_id": 3,
            "category_name": "ab",
            "bbox": [0, 0, 7, 5],
            "score": None,
        },
    ]


@pytest.mark.parametrize("lines", [[], LINES[1:2]])
def test_coco_of_nothing_is_an_empty_array(lines):
    assert json.loads("".join(coco_results(lines))) == []


@pytest.mark.parametrize(
    ("image", "number"),
    [
        ("000000397133.jpg", 397133),
        ("/data/val2017/000000000139.jpg", 139),
        ("COCO_val2014_000000000042.jpg", 42),
        ("photos/IMG_1234.jpg", "photos/IMG_1234.jpg"),
        ("photos/12a.jpg", "photos/12a.jpg"),
        ("²٣.jpg", "²٣.jpg"),
    ],
)
def test_coco_image_ids(image, number):
    assert coco_image_id(image) == number


def test_csv(written):
    with (written / "boxes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["image"] for row in rows] == [LINES[0]["image"]] * 3 + [
        "val2017/000000397133.jpg",
        "000000000042.jpg",
    ]
    assert list(rows[0].values())[1:6] == ["100", "60", "0", LABELS[0], "4.5"]
    edges = [[row[name] for name in ("x0", "y0", "x1", "y1")] for row in rows]
    assert edges == [
        ["10", "20", "50", "30"],
        ["99", "59", "100", "60"],
        [""] * 4,
        [""] * 4,
        ["0", "0", "7", "5"],
    ]
    assert rows[3]["error"] == "it is damaged,\nand more"
    assert rows[2]["label"] == LABELS[1]
    assert [(row["map"], row["recipe"]) for row in rows[2:4]] == [("m", "r"), ("", "")]
    assert (rows[0]["error"], rows[3]["class"], rows[4]["score"]) == ("", "", "")


def test_voc(written):
    inside = written / "Annotations"
    assert sorted(path.name for path in inside.iterdir()) == [
        "000000000042.xml",
        'b,ird "x".xml',
    ]
    root = ElementTree.parse(inside / 'b,ird "x".xml').getroot()
    assert root.tag == "annotation"
    assert root.findtext("folder") == "some photos"
    assert root.findtext("filename") == 'b,ird "x".jpg'
    assert [root.findtext(f"size/{name}") for name in ("width", "height", "depth")] == [
        "100",
        "60",
        "3",
    ]
    first, second = root.findall("object")
    # 1-based, the last pixel inside: columns 11 to 50 and rows 21 to 30
    edges = ("xmin", "ymin", "xmax", "ymax")
    assert [first.findtext(f"bndbox/{name}") for name in edges] == ["11", "21", "50", "30"]
    assert [second.findtext(f"bndbox/{name}") for name in edges] == ["100", "60", "100", "60"]
    assert [one.findtext("name") for one in (first, second)] == [LABELS[0], "1"]
    assert first.findtext("score") == "4.5"
    assert first.findtext("difficult") == "0"


def test_voc_of_letters_that_xml_has_not():
    line = {**LINES[2], "image": "a\udcff\x01b.jpg"}
    root = ElementTree.fromstring(voc_annotation(line))
    assert root.findtext("filename") == "a??b.jpg"


def test_csv_keeps_the_bytes_of_a_file_name():
    text = "".join(csv_table([{"image": "a\udcff.jpg", "error": "bad"}]))
    assert encoded(text).splitlines()[1] == b"a\xff.jpg,,,,,,,,,,,,bad"


# From photo to file


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A file whose gradient is a bright rectangle for each class; an upright and a turned photo."""
    folder = tmp_path_factory.mktemp("work")
    weight = np.full((2, 3, FRAME, FRAME), 0.001, np.float32)
    weight[0, :, 10:20, 5:30] = 1  # rows 10 to 19, columns 5 to 29
    weight[1, :, 30:38, 20:36] = 1
    write_linear_file(
        folder / "m.onnx", classes=2, height=FRAME, width=FRAME, weight=weight, labels=LABELS
    )
    pixels = np.full((60, 120, 3), 90, np.uint8)
    Image.fromarray(pixels).save(folder / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: upright it is 60 wide and 120 high
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=exif)
    return folder


def run(*args):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.stderr
    return result


def localize(work, *options):
    images = (work / "wide.png", work / "turned.jpg")
    return run("localize", work / "m.onnx", *images, "--class", "0", "--class", "1", *options)


def test_all_formats_of_a_run_agree_with_the_rectangles(work, tmp_path):
    result = localize(
        work, "-o", tmp_path, "--masks", "--format", "coco", "--format", "voc", "--format", "csv",
        "--recipe", "threshold", "--crops", "1",
    )  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["width"], line["height"]) for line in lines] == [(120, 60), (60, 120)]
    # Frame pixels are 3 x 1.5 pixels of the wide photo and 1.5 x 3 of the turned one. The blur (5 %
    # of 40: 2 frame pixels) moves edges, and corners, by a few frame pixels.
    truth = [[(15, 15, 90, 30), (60, 45, 108, 57)], [(7, 30, 45, 60), (30, 90, 54, 114)]]
    for line, boxes, slack in zip(lines, truth, [(9, 5), (5, 9)], strict=True):
        for one, true in zip(line["results"], boxes, strict=True):
            assert (np.abs(np.subtract(one["box"], true)) <= [*slack, *slack]).all(), one
    flat = [(line["image"], one) for line in lines for one in line["results"]]
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [(one["image_id"], one["category_id"], one["category_name"]) for one in coco] == [
        (image, one["class"], LABELS[one["class"]]) for image, one in flat
    ]
    with (tmp_path / "boxes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    objects = [
        one
        for name in ("wide", "turned")
        for one in ElementTree.parse(tmp_path / "Annotations" / f"{name}.xml").findall("object")
    ]
    for (_, one), element, row, node in zip(flat, coco, rows, objects, strict=True):
        x0, y0, x1, y1 = one["box"]
        assert element["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert [int(row[name]) for name in ("x0", "y0", "x1", "y1")] == one["box"]
        found = [int(node.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
        assert found == [x0 + 1, y0 + 1, x1, y1]
        assert node.findtext("name") == row["label"] == one["label"] == LABELS[one["class"]]


def test_masks_are_those_of_the_session_in_pixels_of_the_original(work, tmp_path):
    result = localize(work, "-o", tmp_path, "--masks", "--no-pictures")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "boxes.jsonl",
        "boxes.run.json",
        "masks",
    ]
    images = [work / "wide.png", work / "turned.jpg"]
    truth = Session(work / "m.onnx", "cpu").localize(images, classes=[0, 1])
    for line, one in zip(result.stdout.splitlines(), truth, strict=True):
        for row, mask in zip(json.loads(line)["results"], one.masks, strict=True):
            path = tmp_path / row["mask"]
            with Image.open(path) as image:
                assert image.mode == "1"
                np.testing.assert_array_equal(np.asarray(image), mask)
            levels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            np.testing.assert_array_equal(levels, np.where(mask, 255, 0))
            assert path.name == f"{path.stem.rsplit('_', 1)[0]}_{row['class']}.png"


def test_what_was_not_found_has_no_mask(tmp_path):
    flat = np.ones((2, 3, 8, 8), np.float32)
    write_linear_file(tmp_path / "flat.onnx", classes=2, height=8, width=8, weight=flat)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    result = run("localize", tmp_path / "flat.onnx", tmp_path / "a.png", "-o", out, "--masks")
    (row,) = json.loads(result.stdout)["results"]
    assert (row["box"], row["mask"]) == (None, None)
    assert not list((out / "masks").iterdir())


@pytest.mark.parametrize("kind", ["coco", "csv"])
def test_formats_on_stdout_are_those_in_the_folder(work, tmp_path, kind):
    printed = localize(work, "--format", kind)
    localize(work, "-o", tmp_path, "--format", kind, "--no-pictures")
    assert printed.stdout_bytes == (tmp_path / FORMATS[kind].file).read_bytes()


def test_no_pictures(work, tmp_path):
    for command, kept in (("saliency", ["turned.npy", "wide.npy"]), ("localize", [])):
        out = tmp_path / command
        run(command, work / "m.onnx", work / "wide.png", work / "turned.jpg", "-o", out,
            "--no-pictures")  # fmt: skip
        names = sorted(path.name for path in out.iterdir())
        assert [name for name in names if "boxes" not in name] == kept
