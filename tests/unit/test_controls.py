"""Masks of control methods keep the properties that they name, and randomise all others."""

import copy
from collections import Counter

import pytest
import torch
from maskalign import controls, models, pruning
from maskalign.controls import Start, drawn, erk, fan, random_permutation, shuffled, uniform
from maskalign.graph import derive
from maskalign.seeds import generator
from maskalign.symmetry import permute
from nets import randomise

IMAGE = torch.zeros(2, 3, 8, 8, dtype=torch.double)
METHODS = {f.__name__: f for f in (shuffled, fan, uniform, erk, random_permutation)}


def network():
    return randomise(models.ResNet20(10, blocks=(1, 1), channels=6))


NET = network()
SYMMETRY = derive(NET, IMAGE)
NAMES = models.prunable(NET, ["*shortcut*"])
WEIGHTS = NET.state_dict()
MASK = pruning.prune(WEIGHTS, pruning.full_mask(WEIGHTS, NAMES), 0.7)


def start(seed=0):
    return Start(NET, lambda: SYMMETRY, generator("control", seed))


def layers(mask):
    return {name: int(m.sum()) for name, m in mask.items()}


def total(mask):
    return sum(layers(mask).values())


def same(one, other):
    return all(torch.equal(m, other[name]) for name, m in one.items())


@pytest.mark.parametrize("name", METHODS)
def test_every_mask_has_names_shapes_and_weights_of_the_given_one(name):
    before = {k: m.clone() for k, m in MASK.items()}
    found = METHODS[name](MASK, start())
    assert type(found) is dict
    assert [(k, m.shape, m.dtype) for k, m in found.items()] == [
        (k, m.shape, torch.bool) for k, m in MASK.items()
    ]
    assert total(found) == total(MASK)
    assert same(MASK, before)
    assert all(not torch.equal(m, MASK[k]) for k, m in found.items())


@pytest.mark.parametrize("name", METHODS)
def test_a_mask_is_a_function_of_the_generator(name):
    first, again, other = (METHODS[name](MASK, start(seed)) for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_an_empty_or_full_mask_stays_so(name, kept):
    given = {k: torch.full_like(m, bool(kept)) for k, m in MASK.items()}
    assert same(METHODS[name](given, start()), given)


@pytest.mark.parametrize("method", [shuffled, uniform, erk])
def test_every_place_of_a_layer_is_as_probable(method):
    given = {"a": torch.tensor([[True, True, False], [False, False, False]])}
    counts = sum(method(given, start(seed))["a"].int() for seed in range(300))
    assert counts.sum() == 600
    assert (counts - 100).abs().max() < 33  # four standard deviations


def test_shuffled_keeps_the_number_of_weights_of_every_layer():
    assert layers(shuffled(MASK, start())) == layers(MASK)


def test_fan_keeps_the_margins_of_every_layer():
    found = fan(MASK, start())
    for name, m in MASK.items():
        for axes in ((1, 2), (0, 2), (0, 1)):
            box = (x.reshape(*m.shape[:2], -1).sum(axes) for x in (m, found[name]))
            assert torch.equal(*box)


def test_uniform_gives_every_layer_the_global_density_rounded_by_largest_remainder():
    sizes, kept = {"a": 10, "b": 10, "c": 7, "d": 3}, 10
    given = {name: torch.zeros(size, dtype=torch.bool) for name, size in sizes.items()}
    given["a"][:] = True
    # Shares 10/3, 10/3, 7/3, 1: of equal remainders, that of the first layer is rounded up.
    assert layers(uniform(given, start())) == {"a": 4, "b": 3, "c": 2, "d": 1}
    assert kept == total(given)
    given["b"][:4] = True  # shares 14/3, 14/3, 3.27, 1.4
    assert layers(uniform(given, start())) == {"a": 5, "b": 5, "c": 3, "d": 1}


def empty(**shapes):
    return {name: torch.zeros(shape, dtype=torch.bool) for name, shape in shapes.items()}


def kept(mask, number):
    """Return the mask with the first entries kept."""
    entries = torch.arange(sum(m.numel() for m in mask.values())) < number
    parts = entries.split([m.numel() for m in mask.values()])
    return {k: part.view(mask[k].shape) for k, part in zip(mask, parts, strict=True)}


def test_erk_densities_by_hand():
    """Densities per scale: 22/288, 30/72 (a convolution of 4 x 2 kernels) and 12/20."""
    shapes = {"conv": (8, 8, 3, 3), "wide": (8, 16, 4, 2), "head": (10, 2)}
    given = kept(empty(**shapes), 64)
    # Sums of shapes are 22, 30 and 12, so at 64 weights the scale is 1.
    assert layers(erk(given, start())) == {"conv": 22, "wide": 30, "head": 12}


def test_erk_makes_layers_dense_and_scales_the_rest_again():
    """Sums 22, 12 and 6, sizes 576, 20 and 8.

    With 60 weights the scale is 60/40: head would keep 18 of 20, tiny 9 of 8. So tiny keeps 8 and
    the scale is 52/34 = 1.529: head would keep 18.35. With 66 it is 66/40, then 58/34 = 1.706:
    head would keep 20.5 of 20, though at the first scale it fitted (19.8). So conv keeps the rest.
    """
    shapes = {"conv": (8, 8, 3, 3), "head": (10, 2), "tiny": (4, 2)}
    assert layers(erk(kept(empty(**shapes), 60), start())) == {"conv": 34, "head": 18, "tiny": 8}
    assert layers(erk(kept(empty(**shapes), 66), start())) == {"conv": 38, "head": 20, "tiny": 8}


def test_erk_and_uniform_are_exact_at_every_total():
    shapes = {"conv": (5, 3, 3, 3), "norm": (5,), "head": (4, 5), "one": (1, 1)}
    given = empty(**shapes)
    size = sum(m.numel() for m in given.values())
    for number in range(size + 1):
        for method in (erk, uniform):
            assert total(method(kept(given, number), start())) == number


def test_a_random_permutation_reorders_channels_of_all_layers_alike():
    """The network that the permuted mask belongs to computes the same."""
    found = random_permutation(MASK, start())
    assert layers(found) == layers(MASK)
    images = torch.randn(4, 3, 8, 8, generator=generator("images"), dtype=torch.double)
    outputs = {}
    for seed in range(2):
        perms = controls.symmetry.shuffled(SYMMETRY, generator("control", seed))
        moved = copy.deepcopy(NET)
        moved.load_state_dict(pruning.apply(found, permute(SYMMETRY, perms, WEIGHTS)))
        outputs[seed] = moved(images)
    masked = copy.deepcopy(NET)
    masked.load_state_dict(pruning.apply(MASK, WEIGHTS))
    assert torch.allclose(outputs[0], masked(images), rtol=1e-9)
    assert not torch.allclose(outputs[1], masked(images), rtol=1e-2)


def test_random_permutations_of_a_group_are_all_as_probable():
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    symmetry, g = derive(net, torch.zeros(2, 2)), generator("permutations")
    given = {"0.weight": torch.tensor([[True, True], [True, False], [False, False]])}
    counts = Counter()
    for _ in range(300):
        found = random_permutation(given, Start(net, lambda: symmetry, g))
        counts[tuple(found["0.weight"].sum(1).tolist())] += 1
    assert len(counts) == 6
    assert all(abs(count - 50) < 26 for count in counts.values())


def test_the_symmetry_is_derived_only_where_it_is_needed():
    def refuse():
        raise AssertionError("a trace")

    for method in (shuffled, fan, uniform, erk):
        found = method(MASK, Start(NET, refuse, generator("control")))
        assert found.keys() == MASK.keys()
    with pytest.raises(AssertionError, match="a trace"):
        random_permutation(MASK, Start(NET, refuse, generator("control")))


# -- a function named by its path ------------------------------------------------------------------

GIVEN = {"a": torch.tensor([True, True, False]), "b": torch.ones(2, 3).bool()}
FLIPPED = {"a": torch.tensor([False, True, True]), "b": torch.ones(2, 3).bool()}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return a function that writes a module with a mask function ``make``."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, body):
        (tmp_path / f"{name}.py").write_text(f"import torch\ndef make(mask, start):\n    {body}\n")
        return f"{name}:make"

    return write


def test_a_function_is_called_with_the_mask_and_its_start(made):
    path = made("turned", "start.seen.append(mask); return {k: m.flip(0) for k, m in mask.items()}")
    begin = start()
    object.__setattr__(begin, "seen", [])
    assert same(drawn(path, GIVEN, begin), FLIPPED)
    assert begin.seen == [GIVEN]
    assert same(drawn("maskalign.controls:erk", MASK, start()), erk(MASK, start()))


DIFFERS = "the mask differs from the mask it was given: "


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("return None", "returns a NoneType, must return a mask"),
        ("return list(mask)", "returns a list, must return a mask"),
        ("return mask | {'a': [True]}", "'a' is a list, must be a tensor of torch.bool"),
        (
            "return mask | {'a': 1.0 * mask['a']}",
            "'a' is torch.float32, must be a tensor of torch.bool",
        ),
        ("return {'a': mask['a']}", f"{DIFFERS}'b' is missing, must be [2, 3]"),
        ("return mask | {'c': mask['a']}", f"{DIFFERS}'c' is [3], must be missing"),
        ("return mask | {'b': mask['b'].T}", f"{DIFFERS}'b' is [3, 2], must be [2, 3]"),
        (
            "return mask | {'a': ~mask['a']}",
            "keeps 7 weights, must keep as many as the mask it was given, 8",
        ),
        (
            "mask['a'][:] = True; return mask",
            "keeps 9 weights, must keep as many as the mask it was given, 8",
        ),
    ],
    ids=range(9),
)
def test_what_a_function_returns_is_checked(made, request, body, line):
    path = made(f"wrong{request.node.callspec.id.replace('-', '')}", body)
    with pytest.raises(ValueError) as error:
        drawn(path, {k: m.clone() for k, m in GIVEN.items()}, start())
    assert str(error.value) == f"{path}: {line}"


def test_a_functions_own_error_is_left_as_it_is(made):
    with pytest.raises(ZeroDivisionError):
        drawn(made("failing", "1 / 0"), GIVEN, start())
    with pytest.raises(
        ValueError, match=r"^maskalign.controls:nothing: module .* has no 'nothing'"
    ):
        drawn("maskalign.controls:nothing", GIVEN, start())
