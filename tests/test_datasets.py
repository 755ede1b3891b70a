"""The readers of data sets, on small files shaped like the real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backlit.runtime.evaluation import datasets
from backlit.runtime.evaluation.datasets import Dataset, DatasetError
from PIL import Image

LABELS = ["tench, Tinca tinca", "goldfish, Carassius auratus", "traffic light", "dog"]


def picture(path: Path, size: tuple[int, int] = (20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)
    return path


def boxes(dataset: Dataset) -> dict[str, Mapping[int, tuple[datasets.Box, ...]]]:
    return {example.name: example.boxes for example in dataset.examples}


# ILSVRC ---------------------------------------------------------------------------------------


def synsets(folder: Path, count: int = 1000) -> Path:
    """Wnids like the real ones, names with spaces and commas; Windows line ends."""
    names = [f"n{1440764 + 7 * i:08d} animal {i}, Animale no {i}" for i in range(count)]
    names[0] = "n01440764 tench, Tinca tinca"
    path = folder / "LOC_synset_mapping.txt"
    path.write_bytes("\r\n".join([*names, ""]).encode())
    return path


def wnid(index: int) -> str:
    return f"n{1440764 + 7 * index:08d}"


def ilsvrc(folder: Path, rows: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "LOC_val_solution.csv"
    text = "\r\n".join(["ImageId,PredictionString", *rows, ""])
    path.write_bytes(text.encode("utf-8-sig"))  # as Excel saves it
    return path


ROWS = [
    f"ILSVRC2012_val_00000002,{wnid(3)} 45 49 499 162 {wnid(3)} 2 69 437 207 ",
    f"ILSVRC2012_val_00000001,{wnid(0)} 0 0 0 0 {wnid(999)} 111 108 441 193 ",
]


@pytest.mark.parametrize(
    "layout",
    ["ILSVRC/Data/CLS-LOC/val", "val", "images", ".", f"ILSVRC/Data/CLS-LOC/val/{wnid(3)}"],
)
def test_ilsvrc(tmp_path: Path, layout: str) -> None:
    synsets(tmp_path)
    table = ilsvrc(tmp_path, ROWS)
    for number in (1, 2):
        picture(tmp_path / layout / f"ILSVRC2012_val_0000000{number}.JPEG")
    for path in (tmp_path, table):
        found = datasets.read(path, None, 1000)
        assert found.name == "ILSVRC"
        assert found.notes == ()
        assert found.categories[0] == "tench, Tinca tinca"
        assert found.categories[3] == "animal 3, Animale no 3"
        assert [example.name for example in found.examples] == [row[:23] for row in ROWS]
        assert boxes(found) == {  # the last pixel is counted in
            "ILSVRC2012_val_00000002": {3: ((45, 49, 500, 163), (2, 69, 438, 208))},
            "ILSVRC2012_val_00000001": {0: ((0, 0, 1, 1),), 999: ((111, 108, 442, 194),)},
        }
        assert all(example.path.is_file() for example in found.examples)
        assert found.examples[0].path.name == "ILSVRC2012_val_00000002.JPEG"
        assert found.examples[0].size is None
        assert found.members(999) == (999,)


def test_ilsvrc_from_elsewhere(tmp_path: Path) -> None:
    mapping = synsets(tmp_path)
    table = ilsvrc(tmp_path / "a" / "b", ROWS[:1])
    picture(tmp_path / "pictures" / "ILSVRC2012_val_00000002.jpg")
    found = datasets.read(table, None, 1000, images=tmp_path / "pictures")  # two folders up
    assert found.examples[0].path == tmp_path / "pictures" / "ILSVRC2012_val_00000002.jpg"
    moved = tmp_path / "elsewhere.txt"
    mapping.rename(moved)
    with pytest.raises(DatasetError, match=r"(?s)LOC_synset_mapping.txt is neither.*--synsets"):
        datasets.read(table, None, 1000, images=tmp_path / "pictures")
    again = datasets.read(table, None, 1000, images=tmp_path / "pictures", synsets=moved)
    assert boxes(again) == boxes(found)


def test_ilsvrc_leaves_out_missing_images_and_says_so(tmp_path: Path) -> None:
    synsets(tmp_path)
    ilsvrc(tmp_path, ROWS)
    with pytest.raises(DatasetError, match=r"(?s)none of the 2 images.*--image-folder"):
        datasets.read(tmp_path, None, 1000)
    picture(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    found = datasets.read(tmp_path, None, 1000)
    assert list(boxes(found)) == ["ILSVRC2012_val_00000001"]
    assert found.notes == ("images that are missing: 1 of 2, ILSVRC2012_val_00000002 the first.",)


def test_ilsvrc_with_another_classifier(tmp_path: Path) -> None:
    synsets(tmp_path)
    ilsvrc(tmp_path, ROWS)
    for number in (1, 2):
        picture(tmp_path / f"ILSVRC2012_val_0000000{number}.JPEG")
    with pytest.raises(DatasetError, match=r"(?s)no labels.*--labels"):
        datasets.read(tmp_path, None, 4)
    for label in ("Tench", "tinca_tinca", "n01440764", "n01440764 tench"):
        found = datasets.read(tmp_path, ["background", label], 2)
        assert boxes(found) == {"ILSVRC2012_val_00000001": {1: ((0, 0, 1, 1),)}}
        lacks = "classes that the classifier does not have: 999 of 1000, animal 1, Animale no 1, "
        assert found.notes[0].startswith(lacks)
        assert found.notes[1] == "images that show no class of its: 1 of 2."


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (f"a,{wnid(1)} 1 2 3", "line 3: 4 words in the PredictionString"),
        ("a,", "line 3: 0 words"),
        ("a", "line 3: 1 columns"),
        ("a,n99999999 1 2 3 4", "line 3: n99999999 is not in .*LOC_synset_mapping.txt"),
        (f"a,{wnid(1)} 1 2 3 x", "line 3: '1 2 3 x' is not a box"),
        (f"a,{wnid(1)} 5 2 3 4", "line 3: the box 5 2 3 4 ends before it begins"),
        (f"a,{wnid(1)} 1 2 nan 4", "line 3: the box 1 2 nan 4 ends"),
        (ROWS[0], "line 3: ILSVRC2012_val_00000002 is there twice"),
    ],
)
def test_ilsvrc_malformed(tmp_path: Path, row: str, problem: str) -> None:
    synsets(tmp_path)
    ilsvrc(tmp_path, [ROWS[0], row])
    with pytest.raises(DatasetError, match=f"LOC_val_solution.csv, {problem}"):
        datasets.read(tmp_path, None, 1000)


def test_ilsvrc_header_and_mapping_malformed(tmp_path: Path) -> None:
    mapping = synsets(tmp_path)
    table = ilsvrc(tmp_path, ROWS)
    table.write_text("id,label\n")
    with pytest.raises(DatasetError, match="line 1: the header is 'id,label'"):
        datasets.read(tmp_path, None, 1000)
    table.write_text("ImageId,PredictionString\n")
    with pytest.raises(DatasetError, match="names no image"):
        datasets.read(tmp_path, None, 1000)
    table.write_bytes("ImageId,PredictionString\n".encode("utf-16"))
    with pytest.raises(DatasetError, match="is not UTF-8 text"):
        datasets.read(tmp_path, None, 1000)
    ilsvrc(tmp_path, ROWS)
    mapping.write_text("n01440764 tench\ntench\n")
    with pytest.raises(DatasetError, match=r"mapping\.txt, line 2: 'tench' is not a wnid"):
        datasets.read(tmp_path, None, 1000)


def test_the_shared_sample_of_ilsvrc(shared: Path) -> None:
    found = datasets.read(shared / "images" / "ilsvrc_val_227", None, 1000)
    manifest = json.loads((shared / "manifest.json").read_text())
    listed = {Path(i["file"]).stem: i for i in manifest["images"] if i["split"] == "dev"}
    assert found.notes == ()
    assert sorted(boxes(found)) == sorted(listed)
    for example in found.examples:
        entry = listed[example.name]
        assert example.path == shared / entry["file"]
        assert list(example.boxes) == entry["classes"]
        assert found.categories[entry["classes"][0]] == entry["name"]
        (there,) = example.boxes.values()
        exact = np.array(entry["boxes"])  # first and last pixels, fractions of the squashed image
        np.testing.assert_allclose(there, exact + np.array([0, 0, 1, 1]), atol=0.51)


# wsolevaluation -------------------------------------------------------------------------------


def wsolevaluation(folder: Path, **changes: str) -> Path:
    files = {
        "image_ids": "val2/0/0.jpeg\nval2/1/0.jpeg\nval2/2/7, a.jpeg\n",
        "class_labels": "val2/0/0.jpeg,0\nval2/1/0.jpeg,3\nval2/2/7, a.jpeg,1\n",
        "image_sizes": "val2/0/0.jpeg,500,375\nval2/1/0.jpeg,20,10\nval2/2/7, a.jpeg,20,10\n",
        "localization": "val2/0/0.jpeg,156,163,318,230\r\nval2/1/0.jpeg,0,0,19,9\r\n"
        "val2/0/0.jpeg,23,12,101,259\r\n",
    } | changes
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


@pytest.mark.parametrize(
    ("layout", "images"),
    [
        ("clone/dataset/ILSVRC/val2", None),
        ("clone/metadata/ILSVRC/val/val2", None),
        ("pictures/val2", "pictures"),
        ("pictures", "pictures"),
    ],
)
def test_wsolevaluation(tmp_path: Path, layout: str, images: str | None) -> None:
    folder = wsolevaluation(tmp_path / "clone" / "metadata" / "ILSVRC" / "val")
    for name in ("0/0.jpeg", "1/0.jpeg", "2/7, a.jpeg"):
        picture(tmp_path / layout / name)
    found = datasets.read(folder, None, 4, images=tmp_path / images if images else None)
    assert found.name == "wsolevaluation"
    assert found.notes == ()
    assert found.categories == ("0", "1", "2", "3")
    assert boxes(found) == {  # the last pixel is counted in; the third image has no box
        "val2/0/0.jpeg": {0: ((156, 163, 319, 231), (23, 12, 102, 260))},
        "val2/1/0.jpeg": {3: ((0, 0, 20, 10),)},
        "val2/2/7, a.jpeg": {1: ()},
    }
    assert [example.size for example in found.examples] == [(500, 375), (20, 10), (20, 10)]
    for example in found.examples:
        assert example.path == tmp_path / layout / example.name.removeprefix("val2/")
        assert example.path.is_file()


def test_wsolevaluation_does_not_confuse_images_of_one_name(tmp_path: Path) -> None:
    folder = wsolevaluation(tmp_path / "metadata")
    picture(tmp_path / "flat" / "0.jpeg")
    with pytest.raises(DatasetError, match="none of the 3 images was found"):
        datasets.read(folder, None, 4, images=tmp_path / "flat")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("image_ids", "a\na\n", "image_ids.txt, line 2: a is there twice"),
        ("image_ids", "\n", "image_ids.txt names no image"),
        ("image_ids", "b\n", "class_labels.txt does not have b"),
        ("class_labels", "val2/0/0.jpeg,dog\n", "class_labels.txt, line 1: 'dog' is not a class"),
        ("class_labels", "val2/0/0.jpeg\n", "class_labels.txt, line 1: 1 columns"),
        ("image_sizes", "val2/0/0.jpeg,0,4\n", "image_sizes.txt, line 1: 0 x 4 is not a size"),
        ("localization", "\na,1,2,3\n", "localization.txt, line 2: 4 columns"),
        ("localization", "a,1,2,3,z\n", "localization.txt, line 1: '1 2 3 z' is not a box"),
        ("localization", "a.jpg,m.png,i.png\n", "localization.txt, line 1: masks instead of boxes"),
    ],
)
def test_wsolevaluation_malformed(tmp_path: Path, name: str, text: str, problem: str) -> None:
    folder = wsolevaluation(tmp_path / "test", **{name: text})
    with pytest.raises(DatasetError, match=problem):
        datasets.read(folder, None, 4)


def test_wsolevaluation_incomplete_or_of_another_classifier(tmp_path: Path) -> None:
    folder = wsolevaluation(tmp_path / "test")
    picture(folder / "val2" / "0" / "0.jpeg")
    with pytest.raises(DatasetError, match="has class 3, the classifier has 3 classes"):
        datasets.read(folder, None, 3)
    with pytest.raises(DatasetError, match=r"(?s)is not a data set.*did you mean .*test\?"):
        datasets.read(tmp_path, None, 4)
    (folder / "image_sizes.txt").unlink()
    with pytest.raises(DatasetError, match=r"image_sizes.txt is missing"):
        datasets.read(folder, None, 4)


# Pascal VOC -----------------------------------------------------------------------------------


def voc_object(name: str, *edges: float | str, difficult: str = "0") -> str:
    """As VOC2012 writes them: edges in any order, parts with boxes of their own."""
    xmin, ymin, xmax, ymax = edges
    return f"""
  <object>
    <name>{name}</name>
    <difficult>{difficult}</difficult>
    <bndbox><ymin>{ymin}</ymin><xmax>{xmax}</xmax><xmin>{xmin}</xmin><ymax>{ymax}</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>
    </part>
  </object>"""


def voc(root: Path, stem: str, *objects: str, size: str = "20x10", filename: str = "") -> Path:
    width, height = size.split("x")
    path = root / "Annotations" / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"""<annotation>
  <filename>{filename or stem + ".jpg"}</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
  <segmented>0</segmented>{"".join(objects)}
</annotation>
"""
    path.write_bytes(text.replace("\n", "\r\n").encode())
    return path


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2007"
    dog, light = voc_object("dog", 1, 1, 20, 10), voc_object("traffic light", 3, 4, 5.5, 6)
    voc(root, "000012", dog, light, voc_object("dog", 2, 2, 3, 3), voc_object("sofa", 1, 1, 2, 2))
    voc(root, "000013", voc_object("dog", 5, 5, 8, 8, difficult="1"), light, size="0x0")
    voc(root, "000014")  # nothing in it
    voc(root, "000015", voc_object("sofa", 1, 1, 2, 2))
    for stem in ("000012", "000013", "000014", "000015"):
        picture(root / "JPEGImages" / f"{stem}.jpg")
    return root


def test_voc(voc_root: Path) -> None:
    found = datasets.read(voc_root, LABELS, 4)
    assert found.name == "VOC"
    assert found.categories == ("dog", "traffic light", "sofa")
    assert boxes(found) == {  # counts from 1, the last pixel is counted in; none of the parts
        "000012": {3: ((0, 0, 20, 10), (1, 1, 3, 3)), 2: ((2, 3, 5.5, 6),)},
        "000013": {2: ((2, 3, 5.5, 6),)},
    }
    assert [example.size for example in found.examples] == [(20, 10), None]
    assert found.examples[0].path == voc_root / "JPEGImages" / "000012.jpg"
    assert found.notes == (
        "classes that the classifier does not have: 1 of 3, sofa.",
        "images that show no class of its: 2 of 4.",
    )
    hard = datasets.read(voc_root, LABELS, 4, difficult=True)
    assert boxes(hard)["000013"] == {3: ((4, 4, 8, 8),), 2: ((2, 3, 5.5, 6),)}


def test_voc_image_sets(voc_root: Path) -> None:
    sets = voc_root / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "test.txt").write_text("000013\n")
    assert list(boxes(datasets.read(voc_root, LABELS, 4))) == ["000012", "000013"]
    (sets / "val.txt").write_text("000012\n000014\n")
    (sets / "dog_val.txt").write_text("000012  1\r\n000013  0\r\n000014 -1\r\n")
    for path, names in (
        (voc_root, ["000012"]),
        (sets / "test.txt", ["000013"]),
        (sets / "dog_val.txt", ["000012", "000013"]),
    ):
        assert list(boxes(datasets.read(path, LABELS, 4))) == names
    (sets / "val.txt").write_text("000099\n")
    with pytest.raises(DatasetError, match=r"000099.xml is missing"):
        datasets.read(voc_root, LABELS, 4)


def test_voc_of_other_tools(tmp_path: Path) -> None:
    """Subfolders, pictures that are not .jpg or are named in the XML, boxes that count from 0."""
    root = tmp_path / "mine"
    voc(root, "sub/my photo 1", voc_object("Dog", 0, 0, 4, 4))
    voc(root, "b", voc_object("dog", 2, 2, 4, 4), filename="picture b.webp")
    picture(root / "JPEGImages" / "sub" / "my photo 1.png")
    picture(root / "JPEGImages" / "picture b.webp")
    found = datasets.read(root, LABELS, 4)
    assert boxes(found) == {"b": {3: ((1, 1, 4, 4),)}, "sub/my photo 1": {3: ((0, 0, 4, 4),)}}
    assert [e.path.name for e in found.examples] == ["picture b.webp", "my photo 1.png"]
    listed = root / "ImageSets" / "Main" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("sub/my photo 1\n")  # a name that ends like the lists of one class
    assert list(boxes(datasets.read(root, LABELS, 4))) == ["sub/my photo 1"]


def test_voc_in_another_encoding(tmp_path: Path) -> None:
    path = voc(tmp_path, "a", voc_object("caf\u00e9", 1, 1, 2, 2))
    picture(tmp_path / "JPEGImages" / "a.jpg")
    text = path.read_text()
    path.write_bytes(f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{text}'.encode("latin-1"))
    assert boxes(datasets.read(tmp_path, ["Caf\u00c9"], 1)) == {"a": {0: ((0, 0, 2, 2),)}}
    path.write_bytes(f'<?xml version="1.0" encoding="big5"?>\n{text}'.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"(?s)a\.xml, line 1: .*save it as UTF-8"):
        datasets.read(tmp_path, ["Caf\u00c9"], 1)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("\n  <object><name> </name></object>", "line 12: an object without <name>"),
        ("\n  <object><name>cat</name></object>", "line 12: a cat without <bndbox>"),
        (voc_object("cat", 5, 5, 4, 8), "line 12: the box 5 5 4 8 ends before it begins"),
        (voc_object("cat", 5, "", 7, 8), "line 12: '5  7 8' is not a box"),
        ("\n  <object>", "line 13: not XML"),
    ],
)
def test_voc_malformed(tmp_path: Path, item: str, problem: str) -> None:
    voc(tmp_path, "a", voc_object("dog", 1, 1, 2, 2), item)
    picture(tmp_path / "JPEGImages" / "a.jpg")
    with pytest.raises(DatasetError, match=f"a.xml, {problem}"):
        datasets.read(tmp_path, LABELS, 4)


# COCO -----------------------------------------------------------------------------------------


def coco(path: Path, **changes: Any) -> Path:
    def annotation(image: int, category: int, *bbox: float, **more: int) -> dict[str, Any]:
        return {"image_id": image, "category_id": category, "bbox": list(bbox), "iscrowd": 0} | more

    document = {
        "info": {"year": 2017},
        "images": [
            {"id": 397133, "file_name": "000000397133.jpg", "width": 20, "height": 10},
            {"id": 37777, "file_name": "000000037777.jpg", "width": 20, "height": 10},
            {"id": 5, "file_name": "000000000005.jpg"},
            {"id": 6, "file_name": "000000000006.jpg", "width": 20, "height": 10},
        ],
        "categories": [  # ids with gaps, as COCO's
            {"supercategory": "outdoor", "id": 10, "name": "traffic light"},
            {"supercategory": "animal", "id": 18, "name": "dog"},
            {"supercategory": "kitchen", "id": 44, "name": "wine glass"},
        ],
        "annotations": [
            annotation(397133, 18, 1.5, 2, 10.25, 4),
            annotation(397133, 10, 0, 0, 20, 10),
            annotation(397133, 18, 3, 3, 1, 1),
            annotation(397133, 18, 0, 0, 20, 10, iscrowd=1),
            annotation(397133, 44, 0, 0, 2, 2),
            annotation(5, 18, 4, 4, 0, 3),  # COCO has some without area
            {"id": 9, "image_id": 37777, "category_id": 18, "iscrowd": 0},
        ],
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


NAMES = ("000000397133.jpg", "000000037777.jpg", "000000000005.jpg", "000000000006.jpg")


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/instances_val2017.json", "images"),
        ("instances_val2017.json", "val2017"),
        ("_annotations.coco.json", "."),
        ("labels.json", "data"),
    ],
)
def test_coco(tmp_path: Path, file: str, folder: str) -> None:
    path = coco(tmp_path / file)
    for name in NAMES:
        picture(tmp_path / folder / name)
    for given in (path, tmp_path):
        found = datasets.read(given, LABELS, 4)
        assert found.name == "COCO"
        assert found.categories == ("traffic light", "dog", "wine glass")
        assert boxes(found) == {  # x, y, width, height
            "000000397133.jpg": {3: ((1.5, 2, 11.75, 6), (3, 3, 4, 4)), 2: ((0, 0, 20, 10),)},
            "000000037777.jpg": {3: ()},
            "000000000005.jpg": {3: ()},
        }
        assert [example.size for example in found.examples] == [(20, 10), (20, 10), None]
        assert found.examples[0].path == tmp_path / folder / NAMES[0]
        assert found.notes == (
            "boxes without area, left out: 1.",
            "classes that the classifier does not have: 1 of 3, wine glass.",
            "images that show no class of its: 1 of 4.",
        )
    crowd = datasets.read(path, LABELS, 4, difficult=True)
    assert boxes(crowd)[NAMES[0]][3][-1] == (0, 0, 20, 10)


def test_coco_with_subfolders_and_images_elsewhere(tmp_path: Path) -> None:
    images = [{"id": "x", "file_name": "day 1/a.png"}, {"id": "y", "file_name": "day 2/a.png"}]
    marks = [{"image_id": i, "category_id": 18, "bbox": [0, 0, 1, 1]} for i in "xy"]
    path = coco(tmp_path / "set.json", images=images, annotations=marks)
    for item in images:
        picture(tmp_path / "there" / item["file_name"])
    found = datasets.read(path, LABELS, 4, images=tmp_path / "there")
    assert [e.path.relative_to(tmp_path / "there").as_posix() for e in found.examples] == [
        "day 1/a.png",
        "day 2/a.png",
    ]
    with pytest.raises(DatasetError, match="is not a folder"):
        datasets.read(path, LABELS, 4, images=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"images": None}, "no list 'images'"),
        ({"images": []}, "names no image"),
        ({"images": [{"id": 1}]}, r"images\[0\] has no 'file_name'"),
        ({"images": [{"id": 5, "file_name": c} for c in "ab"]}, r"images\[1\]: id 5 twice"),
        (
            {"images": [{"id": i, "file_name": "a"} for i in (1, 2)], "annotations": []},
            "two images are a",
        ),
        ({"categories": [3]}, r"categories\[0\] has no 'id'"),
        (
            {"annotations": [{"image_id": 1, "category_id": 18}]},
            r"annotations\[0\]: there is no image 1",
        ),
        (
            {"annotations": [{"image_id": 5, "category_id": 1}]},
            r"annotations\[0\]: there is no category 1",
        ),
        (
            {"annotations": [{"image_id": 5, "category_id": 18, "bbox": [1, 2, -3, 4]}]},
            r"annotations\[0\]: bbox \[1, 2, -3, 4\] is not a box",
        ),
        (
            {"annotations": [{"image_id": 5, "category_id": 18, "bbox": [1, 2, 3]}]},
            r"annotations\[0\]: bbox \[1, 2, 3\] is not a box",
        ),
    ],
)
def test_coco_malformed(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    path = coco(tmp_path / "instances.json", **changes)
    with pytest.raises(DatasetError, match=f"instances.json:? {problem}"):
        datasets.read(path, LABELS, 4)


def test_coco_that_is_not_json_or_one_of_several(tmp_path: Path) -> None:
    path = coco(tmp_path / "a.json")
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(DatasetError, match=r"a.json, line 2: not JSON"):
        datasets.read(path, LABELS, 4)
    coco(tmp_path / "b.json")
    with pytest.raises(DatasetError, match=r"has several: .*a.json, .*b.json"):
        datasets.read(tmp_path, LABELS, 4)


# classes, formats -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.csv", 'dog, 0 ,goldfish,0\r\n\r\n"traffic light","tench, Tinca tinca"\r\n'),
        ("map.json", '{"dog": [0, "goldfish"], "Traffic Light": "tench"}'),
    ],
)
def test_class_map(voc_root: Path, tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    found = datasets.read(voc_root, LABELS, 4, class_map=path)
    # Both have class 0 first, so both are counted under it.
    assert boxes(found)["000012"] == {0: ((0, 0, 20, 10), (1, 1, 3, 3), (2, 3, 5.5, 6))}
    assert found.groups == {0: (0, 1)}
    assert found.members(0) == (0, 1)
    assert found.members(3) == (3,)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("map.csv", "dog,1\ncat,2\n", "map.csv, line 2: the data set has no class 'cat'"),
        ("map.csv", "dog,4\n", "map.csv, line 1: the classifier has no class '4'"),
        ("map.csv", "dog,hound\n", "map.csv, line 1: the classifier has no class 'hound'"),
        ("map.csv", "dog\n", "map.csv, line 1: no class for 'dog'"),
        ("map.json", '{"dog": [\n}', "map.json, line 2: not JSON"),
        ("map.json", "[1]", "map.json: not a JSON object"),
        ("map.json", '{"dog": []}', "map.json: no class for 'dog'"),
    ],
)
def test_class_map_malformed(
    voc_root: Path, tmp_path: Path, name: str, text: str, problem: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DatasetError, match=problem):
        datasets.read(voc_root, LABELS, 4, class_map=path)


def test_labels_that_do_not_say_which_class(voc_root: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"(?s)no labels to find the classes of VOC.*--class-table"
    ):
        datasets.read(voc_root, None, 4)
    with pytest.raises(
        DatasetError, match=r"(?s)none of the 4 images.*dog, traffic.*--class-table"
    ):
        datasets.read(voc_root, ["tench", "goldfish"], 2)
    found = datasets.read(voc_root, ["dog", "DOG", "traffic_light, signal"], 3)
    assert boxes(found)["000012"] == {2: ((2, 3, 5.5, 6),)}  # two are the dog, so none is


def test_what_is_not_a_data_set(tmp_path: Path, voc_root: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        datasets.read(tmp_path / "nowhere", LABELS, 4)
    with pytest.raises(DatasetError) as caught:
        datasets.read(voc_root / "JPEGImages", LABELS, 4)
    for name in ("LOC_val_solution.csv", "image_ids.txt", "Annotations/*.xml", "instances_val"):
        assert name in caught.value.fix
    with pytest.raises(DatasetError, match=r"(?s)is not a data set.*did you mean .*VOC2007\?"):
        datasets.read(tmp_path, LABELS, 4)
    with pytest.raises(DatasetError, match="'yolo' is not a format"):
        datasets.read(voc_root, LABELS, 4, format="yolo")
    with pytest.raises(DatasetError, match="is not a data set in the format coco"):
        datasets.read(voc_root, LABELS, 4, format="coco")
    assert len(datasets.read(voc_root, LABELS, 4, format="voc").examples) == 2
    (tmp_path / "other" / "Annotations").mkdir(parents=True)
    with pytest.raises(DatasetError, match="other is not a data set"):
        datasets.read(tmp_path / "other", LABELS, 4)
