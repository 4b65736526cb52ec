import torch

from backlit.plots.grid import corners_around, grid_points


def test_grid_points_go_row_by_row_from_the_bottom() -> None:
    points = grid_points(((0, 10), (2, 12)), resolution=3)
    assert points.tolist() == [[x, y] for y in (10, 11, 12) for x in (0, 1, 2)]


def test_corners_contain_the_points_with_a_margin_and_the_square() -> None:
    points = torch.tensor([[-3.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    (left, bottom), (right, top) = corners_around(points)
    # x: 5 % of a width of 4 on either side; y: the square is larger.
    assert torch.allclose(torch.tensor([left, bottom, right, top]), torch.tensor([-3.2, -1.0, 1.2, 1.0]))
