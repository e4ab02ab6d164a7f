import numpy as np

from sare_jax.curation.windows import Windows, object_scores, window_boxes, window_grid


def test_grid_and_boxes_of_a_coco_image():
    windows = Windows()
    assert window_grid(640, 480, windows) == (7, 11)  # 10 × 14 patches
    boxes = window_boxes(640, 480, windows)
    assert len(boxes) == 77
    assert boxes[0] == (0, 0, 192, 192)
    assert boxes[1] == (48, 0, 240, 192)
    assert boxes[-1] == (480, 288, 640, 480)  # the last column of patches is 16 pixels wide


def test_images_smaller_than_a_window_have_none():
    assert window_grid(144, 480, Windows()) == (0, 0)
    assert window_boxes(144, 480, Windows()) == []
    assert window_grid(145, 145, Windows()) == (1, 1)


def test_object_scores_against_the_definition():
    rng = np.random.default_rng(0)
    windows, grid = Windows(patch=8, window=3, top_patches=4), (4, 2)
    scores = rng.standard_normal((8, 5)).astype(np.float32)
    expected = []
    for o in range(5):
        patches = []
        for y in range(6):
            for x in range(4):
                over = [
                    scores[r * 2 + c, o]
                    for r in range(4)
                    for c in range(2)
                    if 0 <= y - r < 3 and 0 <= x - c < 3
                ]
                patches.append(np.mean(over))
        expected.append(np.mean(sorted(patches)[-4:]))
    np.testing.assert_allclose(object_scores(scores, grid, windows), expected, rtol=1e-6)


def test_one_window_gives_its_own_score():
    scores = np.array([[3.0, -1.0]], np.float32)
    np.testing.assert_array_equal(object_scores(scores, (1, 1), Windows()), scores[0])
