"""Packed linear layers: the same products, only within, and only where they are worth it."""

import pytest
import torch

from plaudit.engines import packing
from plaudit.engines.packing import LEAST_WEIGHTS, MOST_ROWS, PATIENCE, packed_linears

pytestmark = pytest.mark.skipif(not packing._available(), reason="this torch has no oneDNN packing")


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.small = torch.nn.Linear(512, 300), torch.nn.Linear(8, 8, bias=False)

    def forward(self, rows):
        return self.wide(rows)


def packed(layer):
    return isinstance(vars(layer).get("forward"), packing._Packed) and layer.forward.packed is not None


@pytest.mark.parametrize("rows", [1, 8, 33, MOST_ROWS])
@pytest.mark.parametrize("bias", [True, False])
def test_products_agree(rows, bias):
    model, given = Model(), torch.randn(rows, 512, generator=torch.Generator().manual_seed(1))
    if not bias:
        model.wide.bias = None
    with torch.no_grad(), packed_linears(model):
        found = [model(given) for _ in range(PATIENCE + 3)]
        assert packed(model.wide)
        other = model(given[:1].expand(5, -1))
    expected = torch.nn.functional.linear(
        given.double(), model.wide.weight.double(), None if not bias else model.wide.bias.double()
    )
    for one in found:
        torch.testing.assert_close(one.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other.double(), expected[:1].expand(5, -1), atol=1e-5, rtol=1e-5)


def test_shapes_with_leading_dimensions():
    model, given = Model(), torch.randn(1, 6, 512)
    with torch.no_grad(), packed_linears(model):
        for _ in range(PATIENCE + 1):
            found = model(given)
    assert found.shape == (1, 6, 300)
    torch.testing.assert_close(found, model(given), atol=1e-5, rtol=1e-5)


def test_nothing_stays_behind_and_new_weights_are_seen():
    model, given = Model(), torch.randn(4, 512)
    for _ in range(2):
        with torch.no_grad(), packed_linears(model):
            for _ in range(PATIENCE + 1):
                found = model(given)
        assert "forward" not in vars(model.wide)
        torch.testing.assert_close(found, model(given), atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            model.wide.weight.mul_(-2.0)


def test_it_is_left_after_an_error():
    model = Model()
    with pytest.raises(RuntimeError), packed_linears(model):
        raise RuntimeError
    assert "forward" not in vars(model.wide)


def test_what_is_not_packed():
    model = Model()
    assert model.small.weight.numel() < LEAST_WEIGHTS
    with torch.no_grad(), packed_linears(model):
        assert "forward" not in vars(model.small)
        for _ in range(PATIENCE + 1):
            model(torch.randn(MOST_ROWS + 1, 512))
        assert not packed(model.wide)
        model(torch.randn(2, 512))
        assert not packed(model.wide), "a few steps are not worth it"
    with packed_linears(model):
        for _ in range(PATIENCE + 1):
            model(torch.randn(2, 512)).sum().backward()
        assert not packed(model.wide)
    assert model.wide.weight.grad is not None
    double = Model().double()
    with packed_linears(double):
        assert "forward" not in vars(double.wide)


def test_a_large_model_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(packing, "MOST_BYTES", 1000)
    model = Model()
    with packed_linears(model):
        assert "forward" not in vars(model.wide)
