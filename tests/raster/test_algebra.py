"""Products and equations of fits: right, and the same bits for any number of threads."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scenes import by_threads, same_bits

from softras.raster.algebra import Factor, cosine_and_sine, exponential, product, root, sparse_product

RANDOM = np.random.default_rng(0)
SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 1), (1, 1)),
    ((700, 0), (0, 3)),
    ((0, 4), (4, 2)),
    ((9, 600), (600, 70)),
    ((7, 3, 4), (4, 4)),
    ((4, 4), (6, 5, 4, 33)),
    ((6, 1, 3, 4), (5, 4, 4)),
]


def numbers(*shape, dtype=torch.float64):
    return torch.from_numpy(RANDOM.normal(size=shape)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a, b", SHAPES)
def test_products_are_those_of_matrices(a, b, dtype):
    left, right = numbers(*a, dtype=dtype), numbers(*b, dtype=dtype)
    expected = left.double() @ right.double()
    tolerance = {"atol": 1e-4 if dtype == torch.float32 else 1e-12, "rtol": 0}
    torch.testing.assert_close(product(left, right).double(), expected, **tolerance)
    swapped = left.mT.contiguous().mT, right.mT.contiguous().mT  # the same numbers at other places
    torch.testing.assert_close(product(*swapped).double(), expected, **tolerance)


def test_products_are_differentiable_and_transformed():
    a, b = numbers(5, 3, 4), numbers(4, 2)
    assert torch.autograd.gradcheck(product, (a.requires_grad_(), b.requires_grad_()))
    torch.testing.assert_close(torch.func.vmap(product, (0, None))(a, b), a @ b)


def test_any_number_of_threads_gives_the_same_bits():
    rows, dense = numbers(9000, 60, dtype=torch.float32), numbers(2000, 300)
    sparse = sp.random(4000, 2000, 0.02, "csr", random_state=0)
    entries = [
        torch.as_tensor(x) for x in (sparse.indptr.astype(np.int64), sparse.indices.astype(np.int64), sparse.data)
    ]
    first, *others = by_threads(lambda: (product(rows.T, rows), sparse_product(*entries, dense)), (1, 2, 3, 7))
    assert all(same_bits(first, other) for other in others)
    np.testing.assert_allclose(first[0], rows.double().T @ rows.double(), atol=0.01)
    np.testing.assert_allclose(first[1], sparse @ dense.numpy(), atol=1e-12)


@pytest.mark.parametrize("size", [1, 3, 40, 151])
def test_equations_are_solved(size):
    half = RANDOM.normal(size=(size, size + 5))
    matrix, right = half @ half.T, RANDOM.normal(size=(size, 3))
    factor = Factor(matrix)
    np.testing.assert_allclose(matrix @ factor.solve(right), right, atol=1e-8)
    np.testing.assert_allclose(matrix @ factor.solve(right[:, 0]), right[:, 0], atol=1e-8)
    with pytest.raises(np.linalg.LinAlgError):
        Factor(matrix - 2 * np.trace(matrix) * np.eye(size))


def test_functions_of_one_number():
    x = torch.linspace(-9, 9, 501, dtype=torch.float64)
    cosine, sine = cosine_and_sine(x)
    torch.testing.assert_close((cosine, sine, exponential(x)), (x.cos(), x.sin(), x.exp()), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(root(x.square()), x.abs(), rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("depth", "size"), [(1, 1), (5, 3), (300, 16), (700, 37), (1000, 130)])
def test_a_matrix_times_its_own_transpose_is_right_and_symmetric_to_the_bit(dtype, depth, size):
    """Its half above the diagonal alone is computed."""
    rows = torch.randn(2, depth, size, dtype=dtype, generator=torch.Generator().manual_seed(size))
    for matrix in (rows[0], rows):
        found = product(matrix.mT, matrix)
        torch.testing.assert_close(found, (matrix.double().mT @ matrix.double()).to(dtype), rtol=1e-5, atol=1e-4)
        assert torch.equal(found, found.mT)
