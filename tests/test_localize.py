import concurrent.futures
import dataclasses

import cv2
import numpy as np
import pytest
from backlit.runtime.boxes.geometry import centred_box, iou, mask_box
from backlit.runtime.boxes.localize import largest_component, localize_maps
from backlit.runtime.boxes.recipes import RECIPES, get_recipe
from backlit.runtime.errors import OptionError

SIDE = 160


def scene(seed, box, side=SIDE, spiky=True):
    """A bright textured ellipse on a dark textured ground, and the map of a network that saw it."""
    rng = np.random.default_rng(seed)
    x0, y0, x1, y1 = box
    rows, columns = np.indices((side, side)) + 0.5
    across = (columns - (x0 + x1) / 2) / ((x1 - x0) / 2)
    down = (rows - (y0 + y1) / 2) / ((y1 - y0) / 2)
    inside = across**2 + down**2 <= 1
    ground = np.array([[30, 60, 90], [50, 90, 60]])[rng.integers(0, 2, (side, side))]
    thing = np.array([[220, 170, 60], [240, 120, 90]])[rng.integers(0, 2, (side, side))]
    frame = np.where(inside[..., None], thing, ground) + rng.normal(0, 8, (side, side, 3))
    blob = np.exp(-(across**2 + down**2))
    # A gradient is spiky: exponential spikes, stronger on the object, some everywhere.
    saliency = (0.15 + blob) * rng.exponential(size=blob.shape) if spiky else blob
    return (
        np.clip(frame, 0, 255).astype(np.uint8),
        saliency.astype(np.float32)[None],
        (round(x0), round(y0), round(x1), round(y1)),
    )


BOXES = [(40, 40, 120, 120), (8, 20, 88, 100), (90, 90, 152, 152), (20, 100, 70, 150)]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("seed", [0, 1])
def test_default_finds_objects_of_several_sizes_anywhere(box, seed):
    frame, maps, truth = scene(seed, box)
    [(found, mask)] = localize_maps(frame, maps, RECIPES["default"])
    assert iou(found, truth) > 0.8
    assert mask.shape == frame.shape[:2]
    assert mask_box(mask) == found
    if box != BOXES[0]:
        assert iou(centred_box(SIDE, SIDE), truth) < 0.5


@pytest.mark.parametrize("name", ["paper", "textbook"])
@pytest.mark.parametrize("box", BOXES[:3])
def test_bare_recipes_find_what_a_smooth_map_shows(name, box):
    frame, maps, truth = scene(2, box, spiky=False)
    [(found, _)] = localize_maps(frame, maps, RECIPES[name])
    assert iou(found, truth) > 0.8


@pytest.mark.parametrize("box", BOXES)
def test_threshold_finds_the_place(box):
    frame, maps, truth = scene(3, box)
    [(found, _)] = localize_maps(frame, maps, RECIPES["threshold"])
    assert iou(found, truth) > 0.5


def test_the_cut_follows_the_image_and_the_threshold_does_not():
    frame, maps, _ = scene(4, BOXES[1])
    other = np.ascontiguousarray(frame[::-1, ::-1])
    for name, same in (("threshold", True), ("default", False)):
        masks = [localize_maps(each, maps, RECIPES[name])[0][1] for each in (frame, other)]
        assert (masks[0] == masks[1]).all() == same


def test_every_map_gets_its_own_box():
    left_frame, left, left_box = scene(5, (10, 60, 70, 120))
    right_frame, right, right_box = scene(6, (90, 30, 150, 90))
    frame = np.where(np.arange(SIDE)[None, :, None] < SIDE // 2, left_frame, right_frame)
    found = localize_maps(frame, np.concatenate([left, right]), RECIPES["default"])
    assert [iou(found[0][0], left_box) > 0.7, iou(found[1][0], right_box) > 0.7] == [True, True]
    assert localize_maps(frame, np.zeros((0, SIDE, SIDE), np.float32), RECIPES["default"]) == []


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_answer_every_time_and_from_every_thread(name):
    side = 96
    boxes = [(20, 20, 70, 70), (40, 10, 90, 60)]
    scenes = [scene(seed, boxes[seed % 2], side) for seed in range(6)]

    def masks(one):
        return [mask for _, mask in localize_maps(one[0], one[1], RECIPES[name])]

    alone = [masks(one) for one in scenes]
    cv2.setRNGSeed(99)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(masks, scenes * 2))
    for index, result in enumerate(together):
        np.testing.assert_array_equal(result, alone[index % len(alone)])


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, np.inf])
def test_a_map_that_says_nothing_has_no_box(name, value):
    frame, _, _ = scene(7, BOXES[0])
    maps = np.full((1, SIDE, SIDE), value, np.float32)
    [(box, mask)] = localize_maps(frame, maps, RECIPES[name])
    assert box is None
    assert mask.shape == (SIDE, SIDE)
    assert not mask.any()


@pytest.mark.parametrize("name", RECIPES)
def test_damaged_pixels_do_not_move_the_box(name):
    frame, maps, _ = scene(8, BOXES[0])
    zeroed, damaged = maps.copy(), maps.copy()
    zeroed[0, 10, 10:40] = 0
    damaged[0, 10, 10:25], damaged[0, 10, 25:40] = np.nan, np.inf
    expected = localize_maps(frame, zeroed, RECIPES[name])[0]
    found = localize_maps(frame, damaged, RECIPES[name])[0]
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3), (9, 4), (300, 20)])
def test_odd_sizes(name, shape):
    rng = np.random.default_rng(9)
    frame = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    maps = rng.exponential(size=(2, *shape)).astype(np.float32)
    for box, mask in localize_maps(frame, maps, RECIPES[name]):
        assert mask.shape == shape
        assert mask_box(mask) == box
        # One pixel has no contrast; any other map has, and its peak is foreground.
        assert (box is None) == (shape == (1, 1))


@pytest.mark.parametrize("name", ["default", "paper", "textbook"])
def test_one_colour_leaves_the_map_to_decide(name):
    frame, maps, truth = scene(10, BOXES[0])
    [(box, _)] = localize_maps(np.full_like(frame, 128), maps, RECIPES[name])
    assert box is not None
    if name == "default":
        assert iou(box, truth) > 0.5


def test_grey_frames():
    frame, maps, truth = scene(11, BOXES[1])
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    found = [localize_maps(each, maps, RECIPES["default"])[0] for each in (grey, grey[..., None])]
    assert iou(found[0][0], truth) > 0.8
    assert found[0][0] == found[1][0]


def test_the_cut_is_one_piece():
    frame, maps, _ = scene(12, BOXES[0])
    for recipe in RECIPES.values():
        [(_, mask)] = localize_maps(frame, maps, recipe)
        assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] == 2


def test_inputs_are_left_alone():
    frame, maps, _ = scene(13, BOXES[0])
    kept = frame.copy(), maps.copy()
    for recipe in RECIPES.values():
        localize_maps(frame, maps, recipe)
    np.testing.assert_array_equal(frame, kept[0])
    np.testing.assert_array_equal(maps, kept[1])


def test_maps_must_lie_over_the_frame():
    frame = np.zeros((8, 9, 3), np.uint8)
    for shape in ((1, 9, 8), (8, 9), (1, 1, 8, 9)):
        with pytest.raises(OptionError, match="do not lie over"):
            localize_maps(frame, np.ones(shape, np.float32), RECIPES["default"])


def test_the_paper_is_the_paper():
    paper = RECIPES["paper"]
    assert (paper.crops, paper.foreground, paper.background) == (10, 0.95, 0.30)
    assert (paper.power, paper.smoothing, paper.iterations, paper.side) == (1.0, 0.0, 0, None)
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {n: n for n in RECIPES}


def test_recipes_by_name():
    own = dataclasses.replace(RECIPES["default"], name="own", iterations=2)
    assert get_recipe(own) is own
    assert get_recipe("paper") is RECIPES["paper"]
    with pytest.raises(
        OptionError, match="choose one of: default, pixels, paper, textbook, threshold"
    ):
        get_recipe("papre")


def test_largest_component():
    mask = np.zeros((8, 8), np.bool_)
    mask[0, 0:3] = True
    mask[4, 4] = mask[5, 5] = mask[6, 6] = mask[7, 7] = True
    expected = np.zeros_like(mask)
    np.fill_diagonal(expected[4:, 4:], True)
    np.testing.assert_array_equal(largest_component(mask), expected)
    mask[7, 7] = False
    # Three against three: the first in reading order.
    expected[:] = False
    expected[0, 0:3] = True
    np.testing.assert_array_equal(largest_component(mask), expected)
    assert largest_component(np.ones((3, 4), np.bool_)).all()
    assert not largest_component(np.zeros((3, 4), np.bool_)).any()


def test_mask_box():
    mask = np.zeros((10, 20), np.bool_)
    assert mask_box(mask) is None
    mask[3, 5] = mask[7, 16] = True
    assert mask_box(mask) == (5, 3, 17, 8)


def test_iou_is_the_share_of_pixels():
    rng = np.random.default_rng(14)
    for _ in range(200):
        corners = np.sort(rng.integers(0, 13, (2, 2, 2)), axis=1)
        boxes = [(int(c[0, 0]), int(c[0, 1]), int(c[1, 0]), int(c[1, 1])) for c in corners]
        drawn = np.zeros((2, 12, 12), np.bool_)
        for picture, (x0, y0, x1, y1) in zip(drawn, boxes, strict=True):
            picture[y0:y1, x0:x1] = True
        both = drawn.any(axis=0).sum()
        expected = drawn.all(axis=0).sum() / both if both else 0.0
        assert iou(*boxes) == pytest.approx(expected)
        assert iou(boxes[1], boxes[0]) == iou(*boxes)
    assert iou(None, (0, 0, 4, 4)) == iou((0, 0, 4, 4), None) == 0.0


def test_centred_box():
    assert centred_box(100, 200) == (10, 20, 90, 180)
    assert centred_box(227, 227) == (22, 22, 204, 204)
    assert centred_box(1, 3, 1.0) == (0, 0, 1, 3)
    assert centred_box(1, 1, 0.1) == (0, 0, 1, 1)
    for fraction in (0.0, -1.0, 1.5):
        with pytest.raises(OptionError, match="not a share"):
            centred_box(10, 10, fraction)
