import numpy as np
import pytest
from backlit.runtime.contract import ImageInput
from backlit.runtime.errors import OptionError
from backlit.runtime.images import crops


def spec(height=224, width=224, fraction=0.875):
    return ImageInput("uint8", "NHWC", 3, height, width, crop_fraction=fraction)


def test_frame_is_the_input_for_one_and_two_views_and_larger_for_ten():
    assert crops.frame_size(spec(), 1) == (224, 224)
    assert crops.frame_size(spec(), 2) == (224, 224)
    assert crops.frame_size(spec(), 10) == (256, 256)
    assert crops.frame_size(spec(120, 200, 0.8), 10) == (150, 250)
    assert crops.frame_size(spec(7, 5, 1.0), 10) == (7, 5)


@pytest.mark.parametrize("count", [0, 3, 5, 11, -1])
def test_other_numbers_of_views_are_refused(count):
    with pytest.raises(OptionError, match=f"crops={count}"):
        crops.frame_size(spec(), count)


def test_ten_views_are_corners_centre_and_their_mirrors():
    frame = np.arange(6 * 9 * 1, dtype=np.uint8).reshape(6, 9, 1)
    views = crops.cut(frame, 4, 5, 10)
    starts = [(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)]
    for index, (y, x) in enumerate(starts):
        expected = frame[y : y + 4, x : x + 5]
        np.testing.assert_array_equal(views[index], expected)
        np.testing.assert_array_equal(views[index + 5], expected[:, ::-1])
    assert len(views) == 10


@pytest.mark.parametrize("count", [1, 2, 10])
def test_maps_cut_from_one_map_assemble_to_it(count):
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((11, 10)).astype(np.float32)
    height, width = (8, 7) if count == 10 else (11, 10)
    views = crops.cut(whole[..., None], height, width, count)[..., 0]
    np.testing.assert_allclose(crops.assemble(views, 11, 10), whole, atol=1e-7)


def test_average_is_over_the_views_that_cover_a_pixel():
    maps = np.zeros((10, 3, 3), np.float32)
    maps[0] = 9.0  # upper left
    maps[5] = 3.0  # its mirror image, put back at the upper left
    mean = crops.assemble(maps, 4, 4)
    # (0,0) is covered by the upper left view, the centre (0,0) and their mirrors.
    assert mean[0, 0] == pytest.approx((9 + 3) / 4)
    # (3,3) is covered by the lower right view alone.
    assert mean[3, 3] == 0.0
    # (1,1) is covered by all.
    assert mean[1, 1] == pytest.approx(12 / 10)


def test_mirrored_map_is_turned_back():
    maps = np.zeros((2, 2, 3), np.float32)
    maps[1, 0, 0] = 1.0
    expected = np.zeros((2, 3), np.float32)
    expected[0, 2] = 0.5
    np.testing.assert_array_equal(crops.assemble(maps, 2, 3), expected)


def test_pixels_that_no_view_covers_are_zero():
    mean = crops.assemble(np.ones((10, 2, 2), np.float32), 7, 7)
    assert mean[0, 0] == 1.0
    assert mean[3, 0] == 0.0
    assert np.isfinite(mean).all()
