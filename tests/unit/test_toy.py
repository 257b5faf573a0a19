"""The toy of Figures 1 and 12 is a real run that shows the effect."""

import numpy as np
import pytest
from maskalign import toy


@pytest.fixture(scope="module")
def ends():
    return toy.run().groupby("model").last()


def test_swapping_the_weights_leaves_the_loss():
    w = np.random.default_rng(0).normal(size=(20, 2))
    np.testing.assert_allclose(toy.loss(w), toy.loss(w[:, ::-1]), rtol=1e-12)


def test_gradient_is_that_of_the_loss():
    w, h = np.array([0.7, 1.9]), 1e-6
    steps = h * np.eye(2)
    numeric = [(toy.loss(w + s) - toy.loss(w - s)) / (2 * h) for s in steps]
    np.testing.assert_allclose(toy.gradient(w), numeric, rtol=1e-6)


def test_a_and_b_end_in_different_basins(ends):
    a, b = ends.loc["dense_a", ["w1", "w2"]], ends.loc["dense_b", ["w1", "w2"]]
    np.testing.assert_allclose(a, b[::-1], atol=1e-6)
    assert ends.loc["dense_a", "loss"] < 1e-9


def test_naive_gets_stuck_where_lth_and_permuted_do_not(ends):
    assert ends.loc["naive", "loss"] > 0.1
    assert ends.loc["permuted", "loss"] < 1e-9
    assert ends.loc["lth", "loss"] < 1e-9


def test_naive_has_stopped_and_not_only_run_out_of_steps():
    paths = toy.run()
    naive = paths[paths.model == "naive"].loss.to_numpy()
    assert naive[-50] - naive[-1] < 1e-9


def test_the_mask_never_lets_a_weight_move():
    paths = toy.run()
    assert (paths[paths.model == "naive"].w2 == 0).all()
    assert (paths[paths.model == "permuted"].w1 == 0).all()


def test_matching_finds_a_swap():
    assert toy.match(np.array([2.0, 0.1]), np.array([0.1, 2.0])) == [1, 0]
    assert toy.match(np.array([2.0, 0.1]), np.array([2.0, 0.1])) == [0, 1]


def test_every_path_begins_where_the_method_says():
    paths = toy.run()
    begins, ends = (
        getattr(paths.groupby("model")[["w1", "w2"]], how)() for how in ("first", "last")
    )
    kept = ends.loc["dense_a"].abs() == ends.loc["dense_a"].abs().max()
    assert begins.loc["dense_a"].tolist() == list(toy.A)
    assert begins.loc["lth"].tolist() == (kept * np.array(toy.A)).tolist()
    assert begins.loc["naive"].tolist() == (kept * np.array(toy.B)).tolist()
    assert begins.loc["permuted"].tolist() == (kept[::-1].to_numpy() * np.array(toy.B)).tolist()
    assert ends.loc["pruned_a"].tolist() == (kept * ends.loc["dense_a"]).tolist()
