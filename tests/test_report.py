import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from backlit.runtime.drawing import charts
from backlit.runtime.drawing import html as report
from backlit.runtime.drawing.html import Case, Cell, Gallery, Picture, Report, Row, Table
from PIL import Image

NASTY = """</style><script>alert("x")</script> & 'quoted' <b>"""


def page(*sections, **changes):
    given = {"title": "T", "summary": "S", "facts": (("a", "b"),), "sections": sections}
    return report.html(Report(**{**given, **changes}))


def parse(text):
    """The page as XML, which it is on purpose; a stray or open element is an error."""
    assert text.startswith("<!DOCTYPE html>\n")
    return ElementTree.fromstring(text.split("\n", 1)[1])


def noise(side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def chart(**changes):
    lines = (
        charts.Series("one", (0.0, 0.5, 1.0), (1.0, 0.5, 0.0)),
        charts.Series("two", (0.0, 0.5, 1.0), (0.2, 0.4, 0.9)),
    )
    return charts.Chart(
        **{"title": "C", "x_label": "x", "y_label": "y", "series": lines, **changes}
    )


def test_every_text_is_escaped():
    sections = (
        Table(NASTY, (NASTY, NASTY), (Row(NASTY, (Cell(NASTY, NASTY),), NASTY),), NASTY),
        chart(
            title=NASTY,
            x_label=NASTY,
            y_label=NASTY,
            note=NASTY,
            series=(charts.Series(NASTY, (0.0, 1.0), (0.0, 1.0)),),
        ),
        Gallery(NASTY, (Case(NASTY, NASTY, (Picture(b"", NASTY),)),), NASTY),
    )
    text = page(*sections, title=NASTY, summary=NASTY, facts=((NASTY, NASTY),), footer=NASTY)
    root = parse(text)
    assert {"script", "b"} & {one.tag for one in root.iter()} == {"b"}  # the case's own heading
    assert len(list(root.iter("b"))) == 1
    shown = "".join(root.itertext())
    # title twice; summary; fact: 2; table: title, 2 heads, 4 in its row, note; chart: title, note,
    # legend, line, both labels; gallery: title, note, name, caption; footer
    assert shown.count(NASTY) == 2 + 1 + 2 + 8 + 6 + 4 + 1
    attributes = [value for one in root.iter() for value in one.attrib.values()]
    assert attributes.count(NASTY) == 2  # the chart's and the picture's descriptions


def test_page_needs_nothing_from_elsewhere():
    picture = Picture(report.jpeg(noise(40)), "noise")
    text = page(chart(), Gallery("G", (Case("n", "c", (picture,)),)))
    root = parse(text)
    tags = {one.tag for one in root.iter()}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base"}
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            if name in {"src", "href", "srcset", "data", "action"}:
                assert value.startswith("data:image/jpeg;base64,")
    assert not re.search(r"https?:|url\(|@import|//[a-z]", text)


def test_structure():
    rows = (Row("r", (Cell("1", "0 to 2", best=True), Cell("3"))),)
    root = parse(page(Table("T1", ("metric", "a", "b"), rows, "how"), footer="f"))
    assert root.attrib["lang"] == "en"
    assert [one.tag for one in root.find("body")] == ["header", "main", "footer"]
    (row,) = root.iterfind(".//tbody/tr")
    assert row.find("th").attrib["scope"] == "row"
    cells = row.findall("td")
    assert [cell.text for cell in cells] == ["1", "3"]
    assert [cell.attrib.get("class") for cell in cells] == ["best", None]
    assert cells[0].find("small").text == "0 to 2"
    assert [one.text for one in root.iterfind(".//dt")] == ["a"]


def test_fifty_noisy_cases_stay_under_two_megabytes():
    """Noise is what JPEG packs worst; a gallery of it shows the bound."""
    most = 1_300_000 // 150
    picture = report.jpeg(noise(240), most)
    assert len(picture) <= most
    cases = tuple(
        Case(f"image {number}", "caption " * 5, (Picture(picture, "text"),) * 3)
        for number in range(50)
    )
    text = page(chart(), Gallery("G", cases))
    assert 1_000_000 < len(text.encode()) < 2_000_000
    assert len(list(parse(text).iter("img"))) == 150


@pytest.mark.parametrize("most", [1000, 4000, 16000, 10**6])
def test_jpeg_fits_and_shows_the_picture(most):
    height, width = np.mgrid[:200, :240]
    smooth = np.stack([height, width, 0 * width + 90], axis=-1).astype(np.uint8)
    for picture in (smooth, noise(200)):
        data = report.jpeg(picture, most)
        assert len(data) <= most
    decoded = Image.open(io.BytesIO(report.jpeg(smooth, most)))
    ratio = decoded.width / decoded.height
    assert ratio == pytest.approx(240 / 200, rel=0.02)
    back = np.asarray(decoded.resize((240, 200)), np.float64)
    assert np.abs(back - smooth).mean() < 8


def test_picture_in_the_page_is_the_picture():
    data = report.jpeg(noise(16))
    root = parse(page(Gallery("G", (Case("n", "c", (Picture(data, "text"),)),))))
    (image,) = root.iter("img")
    assert base64.b64decode(image.attrib["src"].split(",")[1]) == data
    assert image.attrib["alt"] == "text"


# Charts


def lines_of(text):
    root = ElementTree.fromstring(text)
    return [
        [tuple(map(float, point.split())) for point in one.attrib["d"][1:].split("L")]
        for one in root.iter("path")
        if one.attrib["class"] == "line"
    ]


def test_chart_draws_the_values():
    first, second = lines_of(charts.svg(chart(x_range=(0, 1), y_range=(0, 1))))
    (left, top), (middle, half), (right, bottom) = first
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert half == pytest.approx((top + bottom) / 2, abs=0.1)
    assert second[0][1] == pytest.approx(bottom - 0.2 * (bottom - top), abs=0.1)
    assert 0 < left < right < charts.WIDTH
    assert 0 < top < bottom < charts.HEIGHT


def test_lines_differ_without_colour():
    many = tuple(charts.Series(str(n), (0.0, 1.0), (0.0, n)) for n in range(charts.COLOURS))
    root = ElementTree.fromstring(charts.svg(chart(series=many)))
    dashes = [
        one.attrib.get("stroke-dasharray") for one in root.iter("path") if "style" in one.attrib
    ]
    assert len(set(dashes)) == charts.COLOURS
    used = set(re.findall(r"var\((--line-\d)\)", charts.svg(chart(series=many))))
    assert len(used) == charts.COLOURS
    style = page().split("<style>")[1].split("</style>")[0]
    for name in used:  # a colour for light and for dark pages
        assert style.count(f"{name}:") == 2


def test_chart_without_values_or_range_is_drawn():
    for one in (
        chart(series=()),
        chart(series=(charts.Series("flat", (1.0, 1.0), (0.0, 0.0)),)),
        chart(series=(charts.Series("empty", (), ()),)),
    ):
        assert "nan" not in charts.svg(one)
        parse(page(one))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (0, 250, [0, 25, 50, 75, 100, 125, 150, 175, 200, 225, 250]),
        (-3, 4, [-3, -2, -1, 0, 1, 2, 3, 4]),
        (0.12, 0.31, [0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.24, 0.26, 0.28, 0.3]),
    ],
)
def test_ticks_are_round_numbers_inside(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)
