"""The metrics, against figures worked out by hand."""

from __future__ import annotations

import math
import warnings
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from backlit.runtime.evaluation import metrics, sweep

T = len(sweep.SCORE_THRESHOLDS)


def at(threshold: float) -> int:
    return round(threshold * 100)


def test_box_iou() -> None:
    first = [(0, 0, 4, 4), (10, 10, 12, 12)]
    second = [(0, 0, 4, 4), (2, 2, 6, 6), (4, 0, 8, 4), (1, 1, 1, 3)]
    expected = [[1, 4 / 28, 0, 0], [0, 0, 0, 0]]  # they touch; no area
    np.testing.assert_allclose(metrics.box_iou(first, second), expected, rtol=1e-15)
    assert metrics.box_iou([], second).shape == (0, 4)
    assert metrics.box_iou(first, []).shape == (2, 0)
    assert metrics.box_iou([(1, 1, 1, 1)], [(1, 1, 1, 1)]) == 0


def test_best_iou() -> None:
    assert metrics.best_iou((0, 0, 4, 4), [(2, 2, 6, 6), (0, 0, 4, 2)]) == 0.5
    assert metrics.best_iou(None, [(0, 0, 4, 4)]) == 0
    assert metrics.best_iou((0, 0, 4, 4), []) == 0


def test_top_k_errors() -> None:
    right = [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    for error in (metrics.top_k_classification_error, metrics.top_k_localization_error):
        assert [error(right, k) for k in (1, 2, 3, 5)] == [0.75, 0.5, 0.25, 0.25]
        assert math.isnan(error(np.zeros((0, 5), bool), 1))


def test_gt_known_accuracy_counts_an_iou_at_the_threshold() -> None:
    ious = [0.5, 0.49999, 0.0, 0.7]
    assert metrics.gt_known_accuracy(ious) == 0.5
    np.testing.assert_array_equal(
        metrics.accuracy_curve(ious, (0.0, 0.3, 0.5, 0.7, 0.71)), [1, 0.75, 0.5, 0.25, 0]
    )
    assert math.isnan(metrics.gt_known_accuracy([]))


@pytest.mark.parametrize("metric", [metrics.cor_loc, metrics.pointing_game])
def test_class_metrics_are_means_of_means(metric: object) -> None:
    hits, classes = [1, 0, 0, 0, 1], [7, 7, 7, 7, 2]
    assert metrics.class_means(hits, classes) == {2: 1.0, 7: 0.25}
    assert metric(hits, classes) == 0.625  # type: ignore[operator] # and not 2 of 5
    assert math.isnan(metric([], []))  # type: ignore[operator]


def test_peak() -> None:
    values = np.zeros((4, 6), np.float32)
    values[2, 5] = values[3, 1] = 2  # the first of equals in reading order
    assert metrics.peak(values) == (5.5, 2.5)
    assert metrics.peak(np.full((3, 3), 2.0)) is None
    values[0, 0] = math.nan
    assert metrics.peak(values) is None


def test_pointing_hit() -> None:
    box = (100, 100, 110, 120)  # pixels 100..109 and 100..119

    def hit(column: int, row: int, tolerance: float = 15) -> bool:
        return metrics.pointing_hit((column + 0.5, row + 0.5), [box], tolerance)

    assert hit(105, 110, 1)
    assert hit(109, 119, 1)
    assert not hit(110, 119, 1)  # one pixel beside it: not nearer than 1
    assert hit(86, 110)
    assert not hit(85, 110)
    assert hit(109 + 8, 119 + 12)  # sqrt(208) < 15
    assert not hit(109 + 9, 119 + 12)  # 15
    far = (0, 0, 1, 1)
    assert metrics.pointing_hit((105.5, 110.5), [far, box])
    assert not metrics.pointing_hit((105.5, 110.5), [far])
    assert not metrics.pointing_hit((105.5, 110.5), [])
    assert not metrics.pointing_hit(None, [box])


def test_boxes_in_map_cuts_off_fractions() -> None:
    # 500x375 to 224x224: the first pixel (111, 108) and the last (441, 193) of a box of ILSVRC are
    # int(49.7), int(64.5), int(197.6), int(115.3).
    box = (111, 108, 442, 194)
    assert sweep.boxes_in_map([box], (500, 375), (224, 224)) == ((49, 64, 198, 116),)
    assert sweep.boxes_in_map([(3, 3, 4, 4)], (500, 500), (5, 5)) == ((0, 0, 1, 1),)
    exact = sweep.boxes_in_map([(180, 0, 361, 10)], (640, 10), (224, 10))
    assert exact == ((63, 0, 127, 10),)  # 180 * 224 / 640 = 63 and 360 * 224 / 640 = 126
    same = ((0, 0, 10, 10), (2, 3, 4, 5))
    assert sweep.boxes_in_map(same, (10, 10), (10, 10)) == same


def test_box_sweep_of_two_levels() -> None:
    score = np.zeros((10, 12))
    score[2:6, 1:5] = 0.5  # 127 of 255: foreground up to a threshold of .49 (124)
    score[3:5, 2:4] = 1
    largest, best = sweep.box_sweep(score, [(1, 2, 6, 7)])  # its box, one pixel larger
    assert largest.dtype == best.dtype == np.float32
    assert largest.shape == best.shape == (T,)
    np.testing.assert_array_equal(largest, best)
    np.testing.assert_array_equal(largest[: at(0.5)], 1)
    np.testing.assert_allclose(largest[at(0.5) :], 9 / 25)


def test_box_sweep_scales_the_map() -> None:
    score = np.zeros((10, 12), np.float32)
    score[2:6, 1:5] = 0.5
    score[3:5, 2:4] = 1
    boxes = [(1, 2, 6, 7)]
    for other in (score * 1e-6 + 0.25, score.astype(np.float64) * 300 - 7):
        np.testing.assert_array_equal(sweep.box_sweep(other, boxes), sweep.box_sweep(score, boxes))


def test_box_sweep_does_not_leave_the_map() -> None:
    score = np.zeros((6, 8))
    score[4:, 5:] = 1
    assert sweep.box_sweep(score, [(5, 4, 8, 6)])[0].min() == 1


def test_box_sweep_largest_and_any_contour() -> None:
    score = np.zeros((40, 40))
    score[2:22, 2:22] = 1
    score[30:35, 30:35] = 0.8
    small, large = (30, 30, 36, 36), (2, 2, 23, 23)
    largest, best = sweep.box_sweep(score, [small])
    assert largest.max() == 0
    np.testing.assert_array_equal(best[: at(0.8)], 1)
    np.testing.assert_array_equal(best[at(0.8) :], 0)
    largest, best = sweep.box_sweep(score, [small, large])  # one of the true boxes is enough
    np.testing.assert_array_equal(largest, 1)
    np.testing.assert_array_equal(best, 1)


def test_box_sweep_counts_the_contours_of_holes() -> None:
    score = np.ones((30, 30))
    score[10:15, 10:15] = 0
    # The hole's contour runs through the pixels around it: 9..15, and one more.
    largest, best = sweep.box_sweep(score, [(9, 9, 17, 17)])
    np.testing.assert_allclose(largest, 64 / 900)
    np.testing.assert_array_equal(best, 1)


def test_box_sweep_measures_areas_with_holes_filled() -> None:
    score = np.zeros((60, 60))
    score[1:21, 1:21] = 1
    score[2:20, 2:20] = 0  # a ring of 76 pixels around an area of 19 x 19
    score[30:40, 30:40] = 1  # 100 pixels
    largest, _ = sweep.box_sweep(score, [(1, 1, 22, 22)])
    np.testing.assert_array_equal(largest, 1)


@pytest.mark.parametrize("value", [0.0, 3.0, math.nan, math.inf])
def test_box_sweep_without_contrast_or_boxes(value: float) -> None:
    score = np.full((5, 5), value)
    score[2, 2] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for largest, best in (
            sweep.box_sweep(score, [(0, 0, 5, 5)]),
            sweep.box_sweep(np.eye(5), []),
        ):
            assert largest.tolist() == best.tolist() == [0] * T


def test_box_sweep_against_every_threshold_by_itself() -> None:
    """The levels that are skipped as equal are equal: all 100, from the definition."""
    generator = np.random.default_rng(5)
    for sigma in (2, 8):
        score = cv2.GaussianBlur(generator.standard_normal((64, 80)), (0, 0), sigma)
        boxes = [(10, 10, 40, 50), (30, 5, 70, 30)]
        image = ((score - score.min()) / np.ptp(score) * 255).astype(np.uint8)
        expected: tuple[list[float], list[float]] = ([], [])
        for threshold in np.arange(0, 1, 0.01):
            mask = (image > int(threshold * 255)).astype(np.uint8)
            contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            for wanted, chosen in zip(
                expected, ([max(contours, key=cv2.contourArea)], contours), strict=True
            ):
                found = []
                for x, y, w, h in map(cv2.boundingRect, chosen):
                    box = (x, y, min(x + w + 1, 80), min(y + h + 1, 64))
                    found.append(metrics.best_iou(box, boxes))
                wanted.append(max(found))
        np.testing.assert_allclose(sweep.box_sweep(score, boxes), expected, rtol=1e-6)


def test_box_sweep_looks_for_contours_once_per_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """And compares all boxes at once: thresholds between the same two levels have one mask."""
    masks, compared, find, iou = [], [], cv2.findContours, metrics.box_iou

    def find_contours(mask: npt.NDArray[np.uint8], *how: int) -> Any:
        masks.append(mask.tobytes())
        return find(mask, *how)

    def box_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> metrics.Floats:
        compared.append(len(np.asarray(a)))
        return iou(a, b)

    monkeypatch.setattr(cv2, "findContours", find_contours)
    monkeypatch.setattr(sweep, "box_iou", box_iou)
    score = np.repeat(np.linspace(0, 1, 8).astype(np.float32)[None], 8, axis=0)
    sweep.box_sweep(score, [(2, 0, 8, 8)])
    assert len(masks) == len(set(masks)) == 7  # above each level but the highest
    assert compared == [7]


def test_max_box_acc_takes_one_threshold_for_all_images() -> None:
    sweeps = np.zeros((4, T), np.float32)
    sweeps[0, 10:30] = 0.5
    sweeps[1, 20:40] = 0.9
    sweeps[2, 80] = 0.9
    sweeps[3] = 0.49
    assert sweep.max_box_acc(sweeps) == 0.5  # at .20 to .29; each at its best would be .75
    curve = sweep.score_threshold_curve(sweeps, 0.5)
    assert curve[[0, 10, 20, 30, 40, 80]].tolist() == [0, 0.25, 0.5, 0.25, 0, 0.25]


def test_max_box_acc_v2_takes_a_threshold_per_iou() -> None:
    sweeps = np.zeros((2, T), np.float32)
    sweeps[:, 5] = 0.3
    sweeps[0, 50] = 0.5
    sweeps[1, 60] = 0.7
    # IoU .3: both at .05; .5: one; .7: one.
    assert sweep.max_box_acc_v2(sweeps) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert math.isnan(sweep.max_box_acc_v2(np.zeros((0, T))))
    assert math.isnan(sweep.max_box_acc(np.zeros((0, T))))


def test_a_float32_iou_at_the_threshold_is_right() -> None:
    for iou in metrics.IOU_THRESHOLDS:
        assert sweep.score_threshold_curve(np.full((1, T), iou, np.float32), iou).min() == 1


def test_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    hits = np.arange(400) < 240
    low, high = metrics.bootstrap(metrics.gt_known_accuracy, hits, resamples=4000)
    half = 1.96 * math.sqrt(0.6 * 0.4 / 400)
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.006)
    again = metrics.bootstrap(metrics.gt_known_accuracy, hits, resamples=4000)
    assert again == (low, high)
    few = {seed: metrics.bootstrap(np.mean, np.arange(50.0), seed=seed) for seed in (0, 1)}
    assert few[0] != few[1]
    narrow = metrics.bootstrap(metrics.gt_known_accuracy, hits, confidence=0.5)
    assert low < narrow[0] < 0.6 < narrow[1] < high


def test_bootstrap_draws_rows_together() -> None:
    ones = np.ones(20)
    hits, classes = np.repeat([1, 0], 20), np.repeat([4, 5], 20)
    assert metrics.bootstrap(metrics.cor_loc, hits, classes) == (0.5, 0.5)  # 1 and 0, whoever
    assert metrics.bootstrap(metrics.cor_loc, ones, ones) == (1, 1)
    sweeps = np.zeros((20, T), np.float32)
    sweeps[:10, 3] = 1
    low, high = metrics.bootstrap(sweep.max_box_acc, sweeps)
    assert 0.2 < low < 0.5 < high < 0.8


def test_bootstrap_of_nothing_is_nan() -> None:
    low, high = metrics.bootstrap(metrics.gt_known_accuracy, np.zeros(0))
    assert math.isnan(low)
    assert math.isnan(high)
