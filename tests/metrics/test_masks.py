"""Metrics of masks: against scikit-learn and MONAI, by hand, and where there is nothing to measure."""

import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn import metrics

from lossbench.metrics.masks import dice_score, hausdorff_95, intersection_over_union, small_object_recall

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.metrics import compute_hausdorff_distance


def blobs(seed, n=12, side=24, share=0.75):
    """Masks of smooth shapes, some at the image's edge."""
    noise = np.random.default_rng(seed).random((n, side, side))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2))
    return smooth > np.quantile(smooth, share, axis=(1, 2), keepdims=True)


PREDICTED, TRUE = blobs(0), blobs(1, share=0.85)
EMPTY = np.zeros_like(TRUE)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(intersection_over_union, metrics.jaccard_score), (dice_score, metrics.f1_score)]
)
def test_overlaps_are_scikit_learns(ours, theirs):
    expected = [theirs(t.ravel(), p.ravel()) for p, t in zip(PREDICTED, TRUE, strict=True)]
    assert ours(PREDICTED, TRUE) == pytest.approx(expected)
    assert 0 < min(expected) < max(expected) < 1


@pytest.mark.parametrize("overlap", [intersection_over_union, dice_score])
def test_overlap_of_empty_masks(overlap):
    assert overlap(EMPTY, EMPTY).tolist() == [1] * len(EMPTY)
    assert overlap(PREDICTED, EMPTY).tolist() == overlap(EMPTY, TRUE).tolist() == [0] * len(EMPTY)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI's, of itself
def test_boundaries_are_as_far_apart_as_monai_says():
    batch = [torch.from_numpy(masks)[:, None] for masks in (PREDICTED, TRUE)]
    theirs = compute_hausdorff_distance(*batch, percentile=95, include_background=True)
    each = [hausdorff_95(p[None], t[None]) for p, t in zip(PREDICTED, TRUE, strict=True)]
    assert each == pytest.approx(theirs.flatten().tolist())
    assert hausdorff_95(PREDICTED, TRUE) == pytest.approx(theirs.mean().item())
    whole = compute_hausdorff_distance(*batch, include_background=True)
    assert (theirs < whole).any()  # so that the percentile matters


@pytest.mark.parametrize("shift", [(0, 1), (3, 0), (3, 4)])
def test_a_shifted_pixel_is_as_far_as_it_was_moved(shift):
    true = np.zeros((1, 20, 20), bool)
    true[0, 8, 8] = True
    assert hausdorff_95(np.roll(true, shift, (1, 2)), true) == pytest.approx(np.hypot(*shift))


def test_boundaries_are_symmetric_and_agree_with_themselves():
    assert hausdorff_95(PREDICTED, TRUE) == pytest.approx(hausdorff_95(TRUE, PREDICTED))
    assert hausdorff_95(TRUE, TRUE) == 0


def test_where_nothing_is_predicted_the_boundary_is_a_diagonal_away():
    flat = np.ones((2, 30, 40), bool)
    assert hausdorff_95(~flat, flat) == 50


def test_images_without_an_object_have_no_boundary_to_miss():
    true = np.concatenate([TRUE, EMPTY])
    predicted = np.concatenate([PREDICTED, PREDICTED])
    assert hausdorff_95(predicted, true) == hausdorff_95(PREDICTED, TRUE)
    assert hausdorff_95(PREDICTED, EMPTY) == 0


def objects():
    """Two images: areas 4 and 30; 6, 6 (joined at a corner: 12) and 40. The median is 21, so small are 4 and 12."""
    true = np.zeros((2, 16, 16), bool)
    true[0, 0:2, 0:2] = True
    true[0, 5:10, 5:11] = True
    true[1, 0:2, 0:3] = True
    true[1, 2:4, 3:6] = True
    true[1, 8:13, 6:14] = True
    return true


@pytest.mark.parametrize(
    ("image", "rows", "columns", "recall"),
    [
        (0, slice(0, 2), slice(0, 2), 0.5),
        (0, slice(0, 2), slice(0, 1), 0.5),  # half of it is enough
        (0, slice(0, 1), slice(0, 1), 0.0),
        (1, slice(0, 2), slice(0, 3), 0.5),  # half of two that touch at a corner, which are one
        (1, slice(0, 2), slice(0, 2), 0.0),
        (1, slice(8, 13), slice(6, 14), 0.0),  # a large one
        (0, slice(0, 10), slice(0, 11), 0.5),
    ],
)
def test_small_objects_are_found_by_half_their_pixels(image, rows, columns, recall):
    true = objects()
    predicted = np.zeros_like(true)
    predicted[image, rows, columns] = True
    assert small_object_recall(predicted, true) == recall


def test_small_objects_count_by_image():
    true = np.concatenate([objects(), np.zeros((1, 16, 16), bool)])
    true[0, 12:14, 0:2] = true[0, 12:14, 4:6] = True  # the median is 4 now: three of the first image are small,
    true[1, 14:16, 0:2] = True  # and one of the second
    predicted = true.copy()
    predicted[0, 11:] = False
    assert small_object_recall(predicted, true) == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize("masks", [EMPTY, EMPTY[:1], EMPTY[:, :1, :1]])
def test_where_there_are_no_objects_none_is_missed(masks):
    assert small_object_recall(masks, masks) == 1
    assert small_object_recall(~masks, masks) == 1
    assert small_object_recall(masks, ~masks) == 0
    assert hausdorff_95(masks, masks) == 0
