import cv2
import numpy as np
import pytest
from backlit.runtime.drawing import colormaps
from backlit.runtime.drawing import panels as panels_module
from backlit.runtime.drawing import raster as render
from backlit.runtime.drawing.panels import Heat, blended, heatmap, row

RNG = np.random.default_rng(0)
EDGE, GAP = 1, 8


def photo(height, width):
    small = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def overlay(image, saliency, mask, box, caption):
    """A row as it is drawn by default."""
    return render.raster([row(image, {"saliency": Heat(saliency)}, mask, box, caption)])


def panels(sheet, height, width, count):
    """The panels of a sheet, found where the layout says they are."""
    high, wide = panels_module.panel_size(height, width)
    assert sheet.shape[1] == count * wide + (count + 1) * GAP
    top = (sheet.shape[0] - high) // 2
    lefts = [GAP + index * (wide + GAP) for index in range(count)]
    return [sheet[top : top + high, left : left + wide] for left in lefts]


def test_heatmap_is_opencv_inferno_in_rgb():
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    scale = np.float32(1 / np.quantile(ramp, 0.99))
    colours = heatmap(ramp)
    levels = np.round(np.clip(ramp * scale, 0, 1) * 255).astype(np.uint8)
    expected = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    assert np.abs(colours.astype(int) - expected).max() <= 6
    assert colours.dtype == np.uint8
    # Brighter means more, all along the scale.
    lightness = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) >= -1).all()
    assert lightness[-1] - lightness[0] > 200


def test_heatmap_does_not_let_one_spike_hide_the_rest():
    saliency = RNG.uniform(0.2, 1, (64, 64)).astype(np.float32)
    spiked = saliency.copy()
    spiked[5, 5] = 1e6
    plain, with_spike = heatmap(saliency), heatmap(spiked)
    assert np.abs(plain.astype(int) - with_spike).mean() < 3
    assert with_spike.mean() > 60


def test_heatmap_does_not_depend_on_scale_and_survives_anything():
    saliency = RNG.exponential(size=(32, 48)).astype(np.float32)
    expected = heatmap(saliency)
    for factor in (1e-30, 1e-9, 1e9):
        changed = heatmap((saliency * factor).astype(np.float32))
        assert np.abs(changed.astype(int) - expected).max() <= 6
    black = heatmap(np.zeros((4, 5), np.float32))
    assert (black == black[0, 0]).all()
    assert black.max() < 10
    for value in (np.nan, np.inf, -np.inf):
        np.testing.assert_array_equal(heatmap(np.full((4, 5), value, np.float32)), black)
    one = np.zeros((40, 40), np.float32)
    one[3, 4] = 1e-20
    assert heatmap(one)[3, 4].min() > 100


@pytest.mark.parametrize(
    "shape", [(64, 64), (227, 227), (333, 500), (4000, 3000), (30, 900), (900, 30), (1, 1)]
)
def test_every_panel_is_a_good_size(shape):
    high, wide = panels_module.panel_size(*shape)
    assert 128 <= high <= 640
    assert 128 <= wide <= 640
    if 0.3 < shape[0] / shape[1] < 3:
        assert high / wide == pytest.approx(shape[0] / shape[1], rel=0.02)
        assert high * wide == pytest.approx(320 * 320, rel=0.02)


@pytest.mark.parametrize("shape", [(64, 64), (227, 227), (600, 900)])
def test_sheet_shows_image_saliency_mask_and_box(shape):
    height, width = shape
    image = photo(height, width)
    saliency = np.zeros((56, 56), np.float32)
    saliency[:, 28:] = 1
    mask = np.zeros(shape, np.bool_)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    box = (width // 4, height // 4, width // 2, height // 2)
    sheet = overlay(image, saliency, mask, box, "mug 12.3")
    shown, heat, masked, boxed = (p.astype(int) for p in panels(sheet, height, width, 4))
    high, wide = shown.shape[:2]

    way = cv2.INTER_AREA if height * width > high * wide else cv2.INTER_CUBIC
    expected = cv2.resize(image, (wide, high), interpolation=way)
    np.testing.assert_array_equal(shown, expected)

    assert heat[:, : wide // 2 - 8].mean() < 5
    assert heat[:, wide // 2 + 8 :].mean() > 150

    def inner(panel, grow):
        rows = slice(high // 4 - grow, high // 2 + grow)
        columns = slice(wide // 4 - grow, wide // 2 + grow)
        return panel[rows, columns]

    np.testing.assert_array_equal(inner(masked, -10), inner(shown, -10))
    outside = np.ones((high, wide), np.bool_)
    inner(outside, 10)[:] = False
    assert masked[outside].mean() < 0.5 * shown[outside].mean()

    np.testing.assert_array_equal(boxed[outside], shown[outside])
    np.testing.assert_array_equal(inner(boxed, -10), inner(shown, -10))
    changed = np.argwhere((boxed != shown).any(axis=2))
    edges = [high / 4, wide / 4, high / 2, wide / 2]
    found = [*changed.min(axis=0), *(changed.max(axis=0) + 1)]
    assert np.abs(np.array(found) - edges).max() <= 2 + max(high / height, wide / width)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_the_box_is_seen_on_any_ground(value):
    image = np.full((200, 200, 3), value, np.uint8)
    image[..., 2] //= 1 + (value == 255)  # as yellow as the line itself
    sheet = overlay(
        image, np.ones((8, 8), np.float32), np.ones((200, 200), bool), (40, 50, 160, 150), ""
    )
    shown, _, _, boxed = (panel.astype(int) for panel in panels(sheet, 200, 200, 4))
    assert np.abs(boxed - shown).max() >= 100


def test_what_is_not_given_is_left_out():
    image, saliency = photo(100, 120), np.ones((10, 10), np.float32)
    mask, box = np.ones((100, 120), np.bool_), (10, 10, 50, 60)
    for given, count in (((None, None), 2), ((None, box), 3), ((mask, box), 4)):
        assert len(panels(overlay(image, saliency, *given, "x"), 100, 120, count)) == count


def test_nothing_found_says_so():
    image, saliency = photo(100, 100), np.ones((10, 10), np.float32)
    empty = np.zeros((100, 100), np.bool_)
    nothing = overlay(image, saliency, empty, None, "x")
    shown, _, masked, last = panels(nothing, 100, 100, 4)
    np.testing.assert_array_equal(last, shown)
    assert masked.mean() < 0.5 * shown.mean()
    found = overlay(image, saliency, empty, (0, 0, 50, 50), "x")
    top = (nothing.shape[0] - shown.shape[0]) // 2
    assert (nothing[: top - 2] != found[: top - 2]).any()


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0, 0, 40, 30), (39, 29, 40, 30), (0, 10, 40, 11)])
def test_boxes_at_the_edge_and_of_one_pixel(box):
    image = photo(30, 40)
    mask = np.zeros((30, 40), np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    sheet = overlay(image, np.ones((4, 4), np.float32), mask, box, "x")
    shown, _, _, boxed = panels(sheet, 30, 40, 4)
    changed = np.argwhere((boxed != shown).any(axis=2))
    high, wide = shown.shape[:2]
    expected = np.array([box[1] * high / 30, box[0] * wide / 40])
    assert np.abs(changed.min(axis=0) - expected).max() <= 2
    expected = np.array([box[3] * high / 30, box[2] * wide / 40])
    assert np.abs(changed.max(axis=0) + 1 - expected).max() <= 2


def test_grey_images_and_damaged_maps():
    grey = RNG.integers(0, 256, (50, 60), dtype=np.uint8)
    saliency = np.full((5, 6), np.nan, np.float32)
    saliency[2, 2] = 1
    sheets = [
        overlay(image, saliency, None, None, "x")
        for image in (grey, grey[..., None], np.repeat(grey[..., None], 3, axis=2))
    ]
    np.testing.assert_array_equal(sheets[0], sheets[2])
    np.testing.assert_array_equal(sheets[1], sheets[2])
    assert panels(sheets[0], 50, 60, 2)[1].max() > 200


def test_captions_are_drawn_and_shortened():
    image, saliency = photo(80, 80), np.ones((4, 4), np.float32)

    def caption_strip(text):
        return overlay(image, saliency, None, None, text)[-30:]

    assert (caption_strip("mug 3.1") != caption_strip("fish 3.1")).any()
    assert (caption_strip("") == caption_strip("")[0, 0]).all()
    long = caption_strip("a very long class name, with synonyms " * 30)
    dark = np.argwhere((long < 100).all(axis=2))
    assert dark[:, 1].max() < long.shape[1] - GAP + EDGE
    assert dark[:, 1].max() > long.shape[1] - 40


def test_shorten():
    font = render._font(17)
    assert render.shorten("  two \n words ", 500) == "two words"
    text = "tench, Tinca tinca, a long description of a fish"
    for width in (500, 200, 100, 40, 15):
        short = render.shorten(text, width)
        assert font.getlength(short) <= width or short == "…"
        assert short == text or (short.endswith("…") and text.startswith(short[:-1]))
    widest = render.shorten(text, 200)
    assert font.getlength(text[: len(widest)] + "…") > 200
    assert len(render.shorten("word " * 100_000, 300)) < 60


def test_letters_the_font_lacks_are_spelt_plainly():
    assert render.shorten("Größe d'été e\u0301 3\N{MULTIPLICATION SIGN}4 \u8c61", 900) == (
        "Grosse d'ete e 3x4 ?"
    )


def test_arguments_are_left_alone():
    image, saliency = photo(64, 64), RNG.random((8, 8), dtype=np.float32)
    mask = RNG.random((64, 64)) > 0.5
    kept = image.copy(), saliency.copy(), mask.copy()
    overlay(image, saliency, mask, (3, 3, 40, 40), "x")
    for now, before in zip((image, saliency, mask), kept, strict=True):
        np.testing.assert_array_equal(now, before)


def test_the_scale_may_be_given():
    values = np.array([[0, 1, 2, 4, -1, -9]], np.float32)
    inferno, signed = (colormaps.table(name) for name in ("inferno", "blue-orange"))
    np.testing.assert_array_equal(heatmap(values, top=2)[0], inferno[[0, 128, 255, 255, 128, 255]])
    shown = heatmap(values, "blue-orange", 2)[0]
    np.testing.assert_array_equal(shown, signed[[128, 192, 255, 255, 64, 1]])
    np.testing.assert_array_equal(heatmap(0 * values, "blue-orange")[0], signed[[128] * 6])
    np.testing.assert_array_equal(
        heatmap(np.full((2, 2), np.nan, np.float32), "grey", 2), np.zeros((2, 2, 3))
    )


def test_overlay_is_as_opaque_as_the_map_is_strong():
    image = np.array([[[30, 60, 90], [10, 20, 60], [200, 200, 200], [0, 0, 255]]], np.uint8)
    saliency = np.array([[0, 1, 2, -4]], np.float32)
    end, half = colormaps.table("inferno")[[255, 128]].astype(float)
    expected = [[60, 60, 60], 0.575 * 30 + 0.425 * half, 0.15 * 200 + 0.85 * end,
                0.15 * 85 + 0.85 * end]  # fmt: skip
    found = blended(image, saliency, top=2)
    np.testing.assert_array_equal(found[0], np.rint(expected))
    low = colormaps.table("blue-orange")[1].astype(float)
    found = blended(image, saliency, "blue-orange", 2)
    np.testing.assert_array_equal(found[0, 3], np.rint(0.15 * 85 + 0.85 * low))
    np.testing.assert_array_equal(found[0, 0], [60] * 3)


def test_where_the_map_says_nothing_the_overlay_is_the_bare_picture():
    image = photo(100, 140)
    saliency = np.zeros((50, 70), np.float32)
    saliency[:, 40:] = np.linspace(0.1, 1, 30)
    made = row(image, {"saliency": Heat(saliency)}, names=["overlay"])
    shown, grey = made.panels[0].pixels.astype(int), photo_grey(image)
    wide = shown.shape[1]
    assert np.abs(shown - grey)[:, : wide // 2].max() <= 1
    gone = np.abs(shown - grey).sum(2).mean(0)
    assert gone[-20:].mean() > 3 * gone[int(0.65 * wide)]
    # Even under the strongest colour the picture shows through.
    assert np.corrcoef(shown[:, -1].sum(1), grey[:, -1].sum(1))[0, 1] > 0.9


def photo_grey(image):
    high, wide = panels_module.panel_size(*image.shape[:2])
    base = panels_module.resized(image, high, wide).astype(float)
    return np.repeat(base.mean(2, keepdims=True), 3, axis=2)


def test_panels_are_those_that_were_asked_for():
    image, mask = photo(60, 80), np.ones((60, 80), np.bool_)
    heats = {
        "saliency": Heat(np.eye(8, dtype=np.float32)),
        "ig": Heat(-np.eye(9, 9, 1, np.float32)),
    }
    made = row(image, heats, mask, None, "x", ["box", "ig", "map", "mask", "image"])
    assert [panel.title for panel in made.panels] == [
        "nothing found", "ig", "saliency", "mask", "image",
    ]  # fmt: skip
    plain = row(image, heats, mask, (1, 2, 30, 40), "x")
    assert [panel.title for panel in plain.panels] == ["image", "saliency", "ig", "mask", "box"]
    np.testing.assert_array_equal(made.panels[1].pixels, plain.panels[2].pixels)
    np.testing.assert_array_equal(made.panels[2].pixels, plain.panels[1].pixels)
    np.testing.assert_array_equal(made.panels[0].pixels, made.panels[4].pixels)
    high, wide = panels_module.panel_size(60, 80)
    assert plain.panels[4].box == pytest.approx(
        (wide / 80, 2 * high / 60, 30 * wide / 80, 40 * high / 60)
    )


def test_zoom_gives_more_pixels_on_the_same_page():
    image, heats = photo(700, 900), {"saliency": Heat(np.eye(8, dtype=np.float32), top=1.0)}
    plain, fine = (row(image, heats, None, (9, 9, 90, 90), zoom=zoom) for zoom in (1, 2))
    assert plain.size == fine.size
    for one, other in zip(plain.panels, fine.panels, strict=True):
        assert other.pixels.shape[0] == 2 * one.pixels.shape[0]
        halved = cv2.resize(other.pixels, one.pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(halved.astype(int) - one.pixels).mean() < 4
    assert fine.panels[2].box == pytest.approx([2 * edge for edge in plain.panels[2].box])


def test_peak():
    values = np.zeros((20, 20), np.float32)
    assert panels_module.peak(values) == 0
    values[3, 3] = -7
    assert panels_module.peak(values) == 7
    values[:] = np.linspace(-100, 0, 400).reshape(20, 20)
    assert panels_module.peak(values) == pytest.approx(99, abs=0.01)
    values[0, 0] = np.inf
    assert panels_module.peak(values) == pytest.approx(98.8, abs=0.2)
