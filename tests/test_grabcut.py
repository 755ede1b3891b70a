import concurrent.futures

import cv2
import numpy as np
import pytest
from backlit.runtime.boxes import grabcut
from backlit.runtime.maps.evidence import evidence, otsu_threshold
from sklearn.mixture import GaussianMixture

BG, FG, PROBABLE_BG, PROBABLE_FG = cv2.GC_BGD, cv2.GC_FGD, cv2.GC_PR_BGD, cv2.GC_PR_FGD


def noisy_scene(seed, side=48):
    """Two regions whose colours overlap: the mixtures decide, and k-means' start decides them."""
    rng = np.random.default_rng(seed)
    disc = np.hypot(*(np.indices((side, side)) - side / 2)) < side / 3
    palette = rng.integers(0, 256, (8, 3))
    inside, outside = rng.integers(0, 6, (side, side)), rng.integers(2, 8, (side, side))
    frame = palette[np.where(disc, inside, outside)] + rng.normal(0, 18, (side, side, 3))
    trimap = np.where(disc, PROBABLE_FG, PROBABLE_BG).astype(np.uint8)
    trimap[side // 2 - 4 : side // 2 + 4, side // 2 - 4 : side // 2 + 4] = FG
    trimap[:4] = BG
    return np.clip(frame, 0, 255).astype(np.uint8), trimap


def test_quantile_seeds_are_exactly_the_ranks():
    ranks = np.random.default_rng(0).permutation(1000).reshape(20, 50).astype(np.float32)
    trimap = grabcut.quantile_seeds(ranks, 0.95, 0.30)
    np.testing.assert_array_equal(trimap == FG, ranks >= 950)
    np.testing.assert_array_equal(trimap == BG, ranks < 300)
    np.testing.assert_array_equal(trimap == PROBABLE_BG, (ranks >= 300) & (ranks < 950))
    middle = grabcut.quantile_seeds(ranks, 0.95, 0.30, middle="foreground")
    np.testing.assert_array_equal(middle == PROBABLE_FG, trimap == PROBABLE_BG)


def test_quantile_seeds_where_ties_hide_a_quantile():
    mostly_zero = np.zeros((10, 10), np.float32)
    mostly_zero[2, 3] = 1
    trimap = grabcut.quantile_seeds(mostly_zero)
    assert np.argwhere(trimap == FG).tolist() == [[2, 3]]
    assert (trimap == BG).sum() == 99
    mostly_one = 1 - mostly_zero
    trimap = grabcut.quantile_seeds(mostly_one)
    assert (trimap == FG).sum() == 99
    assert np.argwhere(trimap == BG).tolist() == [[2, 3]]
    assert not (grabcut.quantile_seeds(np.full((4, 4), 7, np.float32)) == FG).any()


def test_otsu_threshold_splits_where_the_variance_between_is_largest():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0.25, 0.08, 3000), rng.normal(0.7, 0.1, 1000)])
    values = np.clip(values, 0, 1).astype(np.float32).reshape(50, 80)
    steps = np.round(values * 255)

    def between(threshold):
        upper = steps > threshold
        share = upper.mean()
        return share * (1 - share) * (steps[upper].mean() - steps[~upper].mean()) ** 2

    best = max(range(20, 240), key=between)
    assert otsu_threshold(values) * 255 == pytest.approx(best, abs=1e-9)


def test_otsu_seeds_follow_the_size_of_the_object():
    def blob(sigma):
        rows, columns = np.indices((100, 100)) - 50
        return np.exp(-(rows**2 + columns**2) / (2 * sigma**2)).astype(np.float32)

    counts = {}
    for sigma in (6, 12, 24):
        values = blob(sigma)
        trimap = grabcut.otsu_seeds(values, foreground=0.3, background=0.8)
        threshold = otsu_threshold(values)
        certain = threshold + 0.3 * (1 - threshold)
        np.testing.assert_array_equal(trimap == FG, values >= certain)
        np.testing.assert_array_equal(trimap == BG, values <= 0.8 * threshold)
        middle = (trimap == PROBABLE_FG) | (trimap == PROBABLE_BG)
        np.testing.assert_array_equal(trimap[middle] == PROBABLE_FG, values[middle] > threshold)
        counts[sigma] = (trimap == FG).sum()
    assert counts[12] > 3 * counts[6]
    assert counts[24] > 3 * counts[12]


def test_otsu_seeds_of_a_map_without_contrast():
    assert not (grabcut.otsu_seeds(np.zeros((5, 5), np.float32)) == FG).any()


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_cut_does_not_depend_on_the_random_state_it_finds(iterations):
    frame, trimap = noisy_scene(3)
    results = []
    for seed in range(6):
        cv2.setRNGSeed(1000 + seed)
        before = trimap.copy()
        results.append(grabcut.cut(frame, trimap, iterations))
        np.testing.assert_array_equal(trimap, before)
    assert 0 < results[0].mean() < 1
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("iterations", [0, 1])
def test_cut_is_the_same_from_many_threads(iterations):
    scenes = [noisy_scene(seed) for seed in range(12)]
    alone = [grabcut.cut(*scene, iterations) for scene in scenes]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda scene: grabcut.cut(*scene, iterations), scenes * 3))
    for index, mask in enumerate(together):
        np.testing.assert_array_equal(mask, alone[index % len(alone)])


def test_frozen_mixtures_segment_as_scikit_learn_mixtures_of_the_seeds():
    rng = np.random.default_rng(4)
    side = 64
    rows, columns = np.indices((side, side))
    disc = np.hypot(rows - 30, columns - 36) < 18
    inside = np.array([[200, 60, 40], [180, 160, 30]])[rng.integers(0, 2, (side, side))]
    outside = np.array([[40, 90, 180], [60, 140, 70]])[rng.integers(0, 2, (side, side))]
    frame = np.where(disc[..., None], inside, outside) + rng.normal(0, 12, (side, side, 3))
    frame = np.clip(frame, 0, 255).astype(np.uint8)
    trimap = np.full((side, side), PROBABLE_BG, np.uint8)
    trimap[26:34, 32:40] = FG
    trimap[:, :10] = BG
    likelihood = [
        GaussianMixture(2, random_state=0)
        .fit(frame[trimap == seed])
        .score_samples(frame.reshape(-1, 3).astype(float))
        for seed in (FG, BG)
    ]
    expected = (likelihood[0] > likelihood[1]).reshape(side, side)
    mask = grabcut.cut(frame, trimap, iterations=0)
    assert (mask == expected).mean() > 0.99
    assert (mask == disc).mean() > 0.99


def test_frozen_mixtures_ignore_the_middle():
    frame, trimap = noisy_scene(5)
    middle = (trimap == PROBABLE_FG) | (trimap == PROBABLE_BG)
    as_foreground, as_background = trimap.copy(), trimap.copy()
    as_foreground[middle], as_background[middle] = PROBABLE_FG, PROBABLE_BG
    frozen = [grabcut.cut(frame, each, 0) for each in (trimap, as_foreground, as_background)]
    np.testing.assert_array_equal(frozen[0], frozen[1])
    np.testing.assert_array_equal(frozen[0], frozen[2])
    refitted = [grabcut.cut(frame, each, 1) for each in (as_foreground, as_background)]
    assert (refitted[0] != refitted[1]).any()


def test_seeds_stay_what_they_are():
    frame, trimap = noisy_scene(6)
    for iterations in (0, 1, 2):
        mask = grabcut.cut(frame, trimap, iterations)
        assert mask[trimap == FG].all()
        assert not mask[trimap == BG].any()


@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_cut_without_both_sides_keeps_the_start(iterations):
    frame, _ = noisy_scene(7)
    for only in (FG, BG, PROBABLE_FG, PROBABLE_BG):
        mask = grabcut.cut(frame, np.full(frame.shape[:2], only, np.uint8), iterations)
        assert (mask == (only in (FG, PROBABLE_FG))).all()


@pytest.mark.parametrize("iterations", [0, 1])
@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2), (3, 5)])
def test_cut_of_tiny_and_of_flat_images(iterations, shape):
    frame = np.full((*shape, 3), 90, np.uint8)
    trimap = np.full(shape, PROBABLE_FG, np.uint8)
    trimap[0, 0], trimap[-1, -1] = FG, BG
    mask = grabcut.cut(frame, trimap, iterations)
    assert mask[0, 0]
    assert not mask[-1, -1]


@pytest.mark.parametrize("iterations", [0, 1])
def test_grey_is_cut_as_its_three_equal_channels(iterations):
    frame, trimap = noisy_scene(8)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    expected = grabcut.cut(np.repeat(grey[..., None], 3, axis=2), trimap, iterations)
    np.testing.assert_array_equal(grabcut.cut(grey, trimap, iterations), expected)
    np.testing.assert_array_equal(grabcut.cut(grey[..., None], trimap, iterations), expected)


def test_evidence_scales_to_one_whatever_the_gradient_is_worth():
    rng = np.random.default_rng(9)
    saliency = rng.exponential(size=(30, 40)).astype(np.float32)
    plain = evidence(saliency, 0.5, 0.05)
    assert plain.min() == 0
    assert plain.max() == 1
    for scale in (1e-30, 1e-12, 1e12, 1e30):
        np.testing.assert_allclose(
            evidence((saliency * scale).astype(np.float32), 0.5, 0.05), plain, atol=1e-5
        )
    np.testing.assert_allclose(evidence(-saliency, 0.5, 0.05), plain, atol=1e-6)
    np.testing.assert_allclose(
        evidence(saliency, 0.5, 0.0),
        (lambda r: (r - r.min()) / (r.max() - r.min()))(np.sqrt(saliency / saliency.max())),
        atol=1e-5,
    )


def test_the_blur_is_relative_to_each_side():
    impulse = np.zeros((101, 201), np.float32)
    impulse[50, 100] = 1
    spread = evidence(impulse, 1.0, 0.04).astype(float)
    for axis, side in ((0, 101), (1, 201)):
        profile = spread.sum(axis=1 - axis)
        offset = np.arange(side) - side // 2
        deviation = np.sqrt((profile * offset**2).sum() / profile.sum())
        assert deviation == pytest.approx(0.04 * side, rel=0.03)


def test_outside_the_image_there_is_no_evidence():
    spikes = np.ones((60, 60), np.float32)
    spikes[30, 30] = 2
    blurred = evidence(spikes, 1.0, 0.1)
    assert blurred[0].max() < 0.6
    assert blurred[30, 30] > 0.95


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (16, 16)])
def test_a_constant_map_is_no_evidence(value, shape):
    result = evidence(np.full(shape, value, np.float32), 0.5, 0.05)
    assert not result.any()


def test_nan_and_infinity_count_as_zero():
    rng = np.random.default_rng(10)
    saliency = rng.exponential(size=(20, 20)).astype(np.float32)
    clean, dirty = saliency.copy(), saliency.copy()
    clean[3:6, 4:9] = 0
    dirty[3, 4:9], dirty[4, 4:9], dirty[5, 4:9] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(evidence(dirty, 0.5, 0.05), evidence(clean, 0.5, 0.05))


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [((224, 224), 64, (64, 64)), ((100, 200), 50, (25, 50)), ((200, 1), 20, (20, 1))],
)
def test_shrink_averages_by_area(shape, side, expected):
    rng = np.random.default_rng(11)
    frame = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    values = rng.random(shape, dtype=np.float32)
    small, coarse = grabcut.shrink(frame, values, side)
    assert small.shape == (*expected, 3)
    assert coarse.shape == expected
    if shape[1] > 1:
        assert coarse.mean() == pytest.approx(values.mean(), abs=1e-3)
        assert small.mean() == pytest.approx(frame.mean(), abs=0.5)


def test_shrink_never_enlarges():
    frame, values = np.zeros((20, 30, 3), np.uint8), np.ones((20, 30), np.float32)
    for side in (None, 30, 64):
        small, coarse = grabcut.shrink(frame, values, side)
        assert small is frame
        assert coarse is values


def test_enlarge_keeps_a_rectangle_where_it_is():
    mask = np.zeros((16, 16), np.bool_)
    mask[4:10, 3:13] = True
    large = grabcut.enlarge(mask, 64, 96)
    expected = np.zeros((64, 96), np.bool_)
    expected[16:40, 18:78] = True
    assert (large == expected).mean() > 0.995
