"""Colour maps: as even for the eye as they claim, for every eye."""

import cv2
import numpy as np
import pytest
from backlit.runtime.drawing import colormaps
from backlit.runtime.errors import OptionError

# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0; on linear RGB.
BLINDNESS = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
    "none": np.eye(3),
}
JET = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_JET)[0, :, ::-1]


def linear(colours):
    """IEC 61966-2-1: sRGB 0..255 as light."""
    c = colours / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(light):
    """CIELAB 1976 of linear sRGB, white D65."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = light @ to_xyz.T / to_xyz.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def seen(colours, kind):
    return lab(np.clip(linear(colours.astype(float)) @ np.array(BLINDNESS[kind]).T, 0, 1))


def arms():
    """The two halves of the diverging map, from white outward."""
    table = colormaps.table("blue-orange")
    return table[128:0:-1], table[128:]


def evenness(colours):
    """How far the lightness is from a straight line, in L*, and its span."""
    lightness = lab(linear(colours.astype(float)))[:, 0]
    place = np.arange(len(lightness))
    line = np.polyval(np.polyfit(place, lightness, 1), place)
    return np.abs(lightness - line).max(), abs(lightness[-1] - lightness[0])


@pytest.mark.parametrize("name", colormaps.SEQUENTIAL)
def test_lightness_grows_evenly(name):
    off, span = evenness(colormaps.table(name))
    assert span > 75
    assert off < 5
    lightness = lab(linear(colormaps.table(name).astype(float)))[:, 0]
    # A step of a tenth of the scale is as much in the dark as in the light, within a factor of 2.
    steps = lightness[25::25] - lightness[:-25:25]
    assert steps.min() > 0.5 * span / 10.2
    assert steps.max() < 2 * span / 10.2


def test_each_arm_is_even_and_both_are_alike():
    for arm in arms():
        steps = np.linalg.norm(np.diff(lab(linear(arm.astype(float)))[::14], axis=0), axis=1)
        assert steps.max() / steps.min() < 1.2  # 8 bits are that coarse
    below, above = (lab(linear(arm.astype(float))) for arm in arms())
    assert np.abs(below[:, 0] - above[:, 0]).max() < 1
    far = [np.linalg.norm(arm[-1] - arm[0]) for arm in (below, above)]
    assert max(far) / min(far) < 1.2
    assert min(far) > 70


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("name", colormaps.SEQUENTIAL)
def test_the_colour_blind_see_the_same_order(name, kind):
    lightness = seen(colormaps.table(name), kind)[:, 0]
    assert (np.diff(lightness[::8]) > 0).all()
    assert lightness[-1] - lightness[0] > 70


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_colour_blind_see_the_sign(kind):
    below, above = (seen(arm, kind) for arm in arms())
    apart = np.linalg.norm(below - above, axis=1)
    assert (np.diff(apart[::8]) > 0).all()
    assert apart[32] > 20  # a quarter of the scale; 2 to 3 is what people just notice
    assert apart[-1] > 80
    for arm in (below, above):
        assert (np.diff(arm[::8, 0]) < 0).all()


def test_the_checks_above_can_fail():
    off, _ = evenness(JET)
    assert off > 30
    assert (np.diff(seen(JET, "deuteranopia")[::8, 0]) < 0).any()
    red, green = np.array([[200, 30, 30]]), np.array([[30, 130, 30]])
    far = {kind: np.linalg.norm(seen(red, kind) - seen(green, kind)) for kind in BLINDNESS}
    assert far["none"] > 100 > 3 * far["protanopia"]


def test_white_is_nothing_and_the_ends_are_known():
    table = colormaps.table("blue-orange")
    assert np.ptp(table[128]) <= 1
    assert table[128].min() > 240
    low, high = table[1].astype(int), table[255].astype(int)
    assert low[2] - low[0] > 100  # blue
    assert high[0] - high[2] > 100  # orange
    np.testing.assert_array_equal(table[0], table[1])
    inferno = colormaps.table("inferno").astype(int)
    np.testing.assert_array_equal(inferno[[0, 255]], [[0, 0, 4], [252, 255, 164]])
    np.testing.assert_array_equal(
        colormaps.table("viridis")[[0, 255]], [[68, 1, 84], [253, 231, 37]]
    )
    np.testing.assert_array_equal(colormaps.table("grey")[77], [77] * 3)


def test_values_become_colours():
    values = np.array([[-2, -1, -0.5, 0, 0.5, 1, 2]])
    table = colormaps.table("blue-orange")
    np.testing.assert_array_equal(
        colormaps.colours(values, "blue-orange")[0], table[[1, 1, 64, 128, 192, 255, 255]]
    )
    for name in colormaps.SEQUENTIAL:
        expected = colormaps.table(name)[[255, 255, 128, 0, 128, 255, 255]]
        np.testing.assert_array_equal(colormaps.colours(values, name)[0], expected)


def test_there_is_no_other():
    with pytest.raises(OptionError, match="no colour map 'jet'") as caught:
        colormaps.table("jet")
    assert "cividis" in caught.value.fix
    with pytest.raises(ValueError, match="read-only"):
        colormaps.table("inferno")[0] = 1
