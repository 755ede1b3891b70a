import io
import warnings

import numpy as np
import pytest
from backlit.runtime.contract import ImageInput
from backlit.runtime.errors import ImageError
from backlit.runtime.images import load as loading
from backlit.runtime.images.load import load
from backlit.runtime.images.prepare import prepare
from PIL import Image, ImageDraw

RNG = np.random.default_rng(0)


def spec(height=32, width=32, resize="stretch", channels=3, fraction=0.875, how="bilinear"):
    colour = "RGB" if channels == 3 else "grey"
    return ImageInput(
        "uint8", "NHWC", channels, height, width, colour, resize, fraction, interpolation=how
    )


def noise(height=13, width=17):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


# Decoding


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "tga", "pcx", "webp"])
def test_lossless_formats_give_the_pixels(tmp_path, suffix):
    pixels, path = noise(), tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(load(path), pixels)
    np.testing.assert_array_equal(load(str(path)), pixels)


def test_array_and_pillow_image_give_the_same_as_the_file(tmp_path):
    pixels = noise()
    np.testing.assert_array_equal(load(pixels), pixels)
    np.testing.assert_array_equal(load(pixels[:, ::-1]), pixels[:, ::-1])
    np.testing.assert_array_equal(load(Image.fromarray(pixels)), pixels)
    grey = pixels[..., 0]
    three = np.repeat(grey[..., None], 3, axis=2)
    for source in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(load(source), three)
        np.testing.assert_array_equal(load(source, grey=True), grey[..., None])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = noise()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(load(path), upright)


def test_damaged_exif_does_not_lose_the_pixels(tmp_path):
    path, pixels = tmp_path / "a.png", noise()
    Image.fromarray(pixels).save(path, exif=b"Exif\x00\x00MM\x00*garbage")
    np.testing.assert_array_equal(load(path), pixels)


def test_grey_is_the_luma():
    pixels = noise()
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    grey = load(pixels, grey=True)
    assert grey.shape == (13, 17, 1)
    assert np.abs(grey[..., 0] - luma).max() <= 1.0


def test_palette(tmp_path):
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
    path = tmp_path / "a.gif"
    Image.fromarray(pixels).quantize(4).save(path)
    np.testing.assert_array_equal(load(path), pixels)


@pytest.mark.parametrize("alpha", [0, 51, 128, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_alpha_is_composited_on_white(mode, alpha):
    base = 100
    picture = Image.new("RGBA", (3, 2), (base, base, base, alpha))
    if mode in ("LA", "La"):
        picture = picture.convert("LA")
    picture = picture.convert(mode)
    expected = base * alpha / 255 + 255 * (1 - alpha / 255)
    assert np.abs(load(picture) - expected).max() <= 1.5


def test_transparent_palette_is_composited_on_white(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.putpixel((1, 0), 1)
    path = tmp_path / "a.png"
    picture.save(path, transparency=0)
    np.testing.assert_array_equal(load(path)[0], [[255, 255, 255], [0, 0, 200]])


def test_cmyk():
    picture = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    np.testing.assert_array_equal(load(picture)[0, 0], [255, 0, 0])


def test_one_bit_and_ycbcr_and_lab(tmp_path):
    assert load(Image.new("1", (2, 2), 1)).min() == 255
    pixels = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    converted = load(Image.fromarray(pixels).convert("YCbCr"))
    assert np.abs(converted.astype(int) - pixels).max() <= 2
    white = load(Image.new("LAB", (2, 2), (255, 128, 128)))
    assert white.min() >= 250


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 32768, 65535, 300]], np.uint16)
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path)
    expected = np.floor(values / 257 + 0.5)
    for source in (path, Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        np.testing.assert_array_equal(load(source)[..., 1], expected)
    big_endian = tmp_path / "a.tiff"
    Image.fromarray(values).save(big_endian)
    np.testing.assert_array_equal(load(big_endian, grey=True)[..., 0], expected)


def test_float_greys_from_0_to_1():
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(load(Image.fromarray(values))[0, :, 0], [0, 128, 255])
    for bad in (np.array([[0.0, 2.0]], np.float32), np.array([[np.nan, 0.0]], np.float32)):
        with pytest.raises(ImageError, match="from 0 to 1"):
            load(Image.fromarray(bad))
    with pytest.raises(ImageError, match="from 0 to 65535"):
        load(Image.fromarray(np.array([[70000]], np.int32)))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert load(tmp_path / name)[0, 0].argmax() == 0


# Bad images


def error_of(source):
    with pytest.raises(ImageError) as caught:
        load(source)
    assert caught.value.fix
    return caught.value.problem


def test_missing_folder_empty_and_text(tmp_path):
    assert "does not exist" in error_of(tmp_path / "no.png")
    assert "folder" in error_of(tmp_path)
    (tmp_path / "empty.jpg").touch()
    assert "is empty" in error_of(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("not an image, just words\n" * 30)
    assert "not an image" in error_of(tmp_path / "text.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_truncated(tmp_path, suffix, share):
    buffer = io.BytesIO()
    Image.fromarray(noise(60, 80)).save(buffer, {"jpg": "jpeg", "tiff": "tiff"}.get(suffix, suffix))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of some truncated TIFF headers
        assert str(path) in error_of(path)


def test_damaged_bytes_never_escape_as_another_exception(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "a"
    failed = 0
    for form in ("jpeg", "png", "gif", "webp", "bmp", "tiff"):
        buffer = io.BytesIO()
        Image.fromarray(noise(20, 30)).save(buffer, form)
        for _ in range(25):
            data = np.frombuffer(buffer.getvalue(), np.uint8).copy()
            where = rng.integers(0, len(data), 8)
            data[where] = rng.integers(0, 256, 8)
            path.write_bytes(data.tobytes())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    load(path)
                except ImageError:
                    failed += 1
    assert failed > 20


def test_zero_size():
    assert "no pixels" in error_of(np.zeros((0, 5, 3), np.uint8))
    assert "0x5" in error_of(Image.new("RGB", (0, 5)))
    with pytest.raises(ImageError, match="0x4"):
        prepare(np.zeros((4, 0, 3), np.uint8), spec())


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 3), bool), "bool"),
        (np.zeros((4, 4, 4), np.uint8), r"\[4, 4, 4\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\[2, 4, 4, 3\]"),
        (np.zeros(4, np.uint8), r"\[4\]"),
    ],
)
def test_wrong_arrays(array, words):
    with pytest.raises(ImageError, match=words):
        load(array)


def test_other_objects_are_refused():
    assert "dict is not an image" in error_of({})
    assert "NoneType" in error_of(None)


def test_decompression_bomb_is_an_error_that_names_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "big.png"
    Image.new("L", (150, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    # Pillow only warns here; the suite makes that an error, a user's process does not.
    assert "too large" in error_of(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "limit 10000" in error_of(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)  # Pillow itself raises
    assert "too large" in error_of(path)
    with pytest.raises(ImageError, match="BACKLIT_MAX_PIXELS"):
        load(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load(path).shape == (100, 150, 3)


def test_environment_sets_the_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    for text, limit in (("", 5), ("many", 5), ("0", 5), ("1234", 1234)):
        monkeypatch.setenv(loading.LIMIT_VARIABLE, text)
        loading._limit_from_environment()
        assert limit == Image.MAX_IMAGE_PIXELS


# Preparing, and the way back


@pytest.mark.parametrize(("how", "filter_"), [("bilinear", 2), ("bicubic", 3)])
def test_stretch_is_pillows_resize(how, filter_):
    pixels = noise(70, 41)
    prepared = prepare(pixels, spec(32, 24, how=how))
    expected = np.asarray(Image.fromarray(pixels).resize((24, 32), Image.Resampling(filter_)))
    np.testing.assert_array_equal(prepared.frame, expected)
    np.testing.assert_array_equal(prepared.views, expected[None])
    assert (prepared.width, prepared.height) == (41, 70)


@pytest.mark.parametrize(("height", "width"), [(70, 41), (41, 70), (37, 37), (10, 200)])
def test_crop_by_hand(height, width):
    # Shorter side to 37, the other rounded down, then the centre 32 of it (torchvision's rules).
    size = (37 * width // height, 37) if height < width else (37, 37 * height // width)
    picture = Image.fromarray(noise(height, width))
    resized = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    top, left = round((size[1] - 32) / 2), round((size[0] - 32) / 2)
    prepared = prepare(np.asarray(picture), spec(32, 32, "crop", fraction=32 / 37))
    np.testing.assert_array_equal(prepared.frame, resized[top : top + 32, left : left + 32])


def test_ten_views_of_a_crop_are_cut_from_the_central_square():
    pixels = noise(50, 80)
    prepared = prepare(pixels, spec(28, 28, "crop"), crops=10)
    resized = np.asarray(Image.fromarray(pixels).resize((51, 32), Image.Resampling.BILINEAR))
    frame = resized[:, 10:42]
    np.testing.assert_array_equal(prepared.frame, frame)
    np.testing.assert_array_equal(prepared.views[3], frame[4:, 4:])
    np.testing.assert_array_equal(prepared.views[8], frame[4:, 4:][:, ::-1])


def test_a_grey_network_gets_grey_views_and_boxes_keep_the_colours():
    pixels = noise(40, 40)
    prepared = prepare(pixels, spec(20, 16, channels=1), crops=2)
    assert prepared.views.shape == (2, 20, 16, 1)
    luma = prepared.frame @ np.array([0.299, 0.587, 0.114])
    assert np.abs(prepared.views[0, ..., 0] - luma).max() <= 1.0
    grey = pixels[..., :1]
    np.testing.assert_array_equal(
        prepare(grey, spec(20, 16, channels=1)).views[0, ..., 0],
        prepare(grey, spec(20, 16, channels=1)).frame[..., 1],
    )


def test_whole_frame_is_the_whole_image():
    for height, width in [(7, 1000), (1, 1), (333, 500), (32, 32)]:
        prepared = prepare(noise(height, width), spec(32, 24))
        assert prepared.box_to_original((0, 0, 24, 32)) == (0, 0, width, height)
        assert prepared.mask_to_original(np.ones((32, 24), bool)).all()


def test_boxes_are_rounded_outward_and_clipped():
    prepared = prepare(noise(96, 240), spec(32, 24))  # 3 and 10 pixels per frame pixel
    assert prepared.box_to_original((1, 2, 4, 5)) == (10, 6, 40, 15)
    assert prepared.box_to_original((1.05, 2.1, 4.05, 5.1)) == (10, 6, 41, 16)
    assert prepared.box_to_original((-3, -3, 99, 99)) == (0, 0, 240, 96)
    small = prepare(noise(4, 4), spec(32, 32))
    assert small.box_to_original((9, 9, 10, 10)) == (1, 1, 2, 2)
    assert small.box_to_original((32, 32, 32, 32)) == (3, 3, 4, 4)


def test_rounding_errors_do_not_grow_a_box():
    # 84 of 224 frame pixels are exactly 15 of 40, but 84 / (224 / 40) is a little above.
    prepared = prepare(noise(40, 40), spec(224, 224))
    assert 84 / prepared.scale_x > 15
    assert prepared.box_to_original((28, 28, 84, 84)) == (5, 5, 15, 15)


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize(("height", "width"), [(300, 200), (123, 457), (90, 90)])
def test_a_drawn_rectangle_comes_back(resize, count, height, width):
    picture = Image.new("L", (width, height))
    box = (width // 2 - 15, height // 2 - 20, width // 2 + 18, height // 2 + 12)
    ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    prepared = prepare(load(picture), spec(64, 64, resize), count)
    mask = prepared.frame[..., 0] > 127
    ys, xs = np.nonzero(mask)
    back = prepared.box_to_original((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    per_pixel = 1 / np.array([prepared.scale_x, prepared.scale_y] * 2)
    assert (np.abs(np.array(back) - box) <= per_pixel + 1).all()
    original = prepared.mask_to_original(mask)
    truth = np.asarray(picture) > 0
    assert original.shape == (height, width)
    assert (original & truth).sum() / (original | truth).sum() > 0.85
    ys, xs = np.nonzero(original)
    own = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert (np.abs(np.array(own) - back) <= 1).all()
    heat = prepared.map_to_original(mask.astype(np.float32))
    assert ((heat > 0.5) & truth).sum() / ((heat > 0.5) | truth).sum() > 0.85


def test_what_a_crop_cut_off_is_outside_the_mask_and_the_map():
    prepared = prepare(noise(100, 300), spec(32, 32, "crop", fraction=1.0))
    mask = prepared.mask_to_original(np.ones((32, 32), bool))
    assert mask[:, 101:199].all()
    assert not mask[:, :99].any()
    assert not mask[:, 201:].any()
    heat = prepared.map_to_original(np.ones((32, 32), np.float32))
    assert heat[:, 101:199].min() == 1.0
    assert heat[:, :99].max() == 0.0


def test_boxes_of_a_rotated_photograph_are_those_of_the_upright_image(tmp_path):
    upright = Image.new("L", (60, 100))
    ImageDraw.Draw(upright).rectangle((10, 70, 29, 89), fill=255)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    prepared = prepare(load(path), spec(100, 60))
    assert (prepared.width, prepared.height) == (60, 100)
    ys, xs = np.nonzero(prepared.frame[..., 0])
    box = prepared.box_to_original((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    assert box == (10, 70, 30, 90)
