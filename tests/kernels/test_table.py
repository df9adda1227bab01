"""nasfast.kernels.table.table_embedding: against its definition and its twin, gradients, contracts, fakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nasfast.errors import ConfigError, NasfastError
from nasfast.kernels.reference_table import embed_table
from nasfast.kernels.table import TableLayout, table_embedding

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
LAYOUTS = {
    "numbers": TableLayout((4, 1, 7), (1, 0, 2)),
    "categories": TableLayout((0, 0, 0, 0), (1, 3, 2, 9)),
    "both": TableLayout((0, 48, 5, 0, 12, 1, 3), (4, 1, 0, 2, 1, 3, 0)),
    "one feature": TableLayout((3,), (1,)),
    "many": TableLayout((6,) * 29, (1,) * 29),
    "more rows than a cache holds": TableLayout((500, 0, 700), (400, 1500, 1)),
}


@dataclass
class Case:
    """Arguments of a call, seeded by its sizes."""

    layout: TableLayout
    groups: int = 2
    members: int = 3
    width: int = 20
    table: int = 11
    batch: int | None = 5
    shared: bool = False

    def arguments(self, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(3)
        sizes = torch.tensor(self.layout.sizes)
        number = torch.rand(self.table, self.layout.features, dtype=torch.float64, generator=generator)
        bins = (number * sizes).long()
        bins[0], bins[-1] = 0, sizes - 1
        fractions = torch.rand(bins.shape, dtype=torch.float64, generator=generator)

        def normal(*shape: int) -> Tensor:
            return torch.randn(self.groups, *shape, dtype=torch.float64, generator=generator).to(dtype)

        rows = None
        if self.batch is not None:
            shape = (self.batch,) if self.shared else (self.groups, self.batch)
            rows = torch.randint(self.table, shape, generator=generator)
        return {
            "weights": normal(self.layout.rows, self.width).requires_grad_(),
            "bins": bins.short(),
            "fractions": fractions.to(dtype),
            "scales": normal(self.members, self.layout.features).requires_grad_(),
            "layout": self.layout,
            "rows": rows,
        }


def results(function: Callable[..., Tensor], arguments: dict[str, Any]) -> list[Tensor]:
    """Output, and the gradients of weights and scales for a fixed one of the output."""
    out = function(**arguments)
    grad = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).to(out)
    return [out.detach(), *torch.autograd.grad(out, [arguments["weights"], arguments["scales"]], grad)]


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, e in zip(found, expected, strict=True):
        scale = float(e.abs().max()) if e.numel() else 1.0
        torch.testing.assert_close(a.double(), e.double(), rtol=0, atol=tolerance * max(scale, 1.0))


def by_definition(
    weights: Tensor, bins: Tensor, fractions: Tensor, scales: Tensor, layout: TableLayout, rows: Tensor | None
) -> Tensor:
    def value(group: Tensor, row: int, feature: int) -> Tensor:
        own = group[layout.offsets[feature] :]
        bin = int(bins[row, feature])
        if bin >= layout.increments[feature]:
            return own[bin]
        return own[:bin].sum(0) + fractions[row, feature] * own[bin]

    def output(group: Tensor, scale: Tensor, row: int) -> Tensor:
        return sum((scale[:, f, None] * value(group, row, f) for f in range(layout.features)), torch.zeros(()))

    groups, everything = len(weights), list(range(len(bins)))
    taken = [everything] * groups if rows is None else rows.expand(groups, rows.shape[-1]).tolist()
    return torch.stack([torch.stack([output(weights[g], scales[g], r) for r in taken[g]]) for g in range(groups)])


@pytest.mark.parametrize("case", [{}, {"shared": True}, {"batch": None}], ids=str)
@pytest.mark.parametrize("name", ["numbers", "categories", "both", "one feature"])
def test_the_twin_is_the_definition(name: str, case: dict[str, Any]) -> None:
    arguments = Case(LAYOUTS[name], **case).arguments()
    assert_near(results(embed_table, arguments), results(by_definition, arguments), 1e-13)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", [{}, {"shared": True}, {"batch": None}, {"batch": 1, "groups": 1}], ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_values_and_gradients_are_the_twin_s(name: str, case: dict[str, Any], dtype: torch.dtype, isa: str) -> None:
    made = Case(LAYOUTS[name], **case)
    expected = results(embed_table, made.arguments())
    assert_near(results(table_embedding, made.arguments(dtype)), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("width", [1, 7, 8, 9, 15, 16, 17, 48])
def test_every_rest_of_the_width(width: int, dtype: torch.dtype, isa: str) -> None:
    made = Case(LAYOUTS["both"], width=width)
    expected = results(embed_table, made.arguments())
    assert_near(results(table_embedding, made.arguments(dtype)), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("members", range(1, 20))
def test_every_number_of_members(members: int, dtype: torch.dtype, isa: str) -> None:
    made = Case(LAYOUTS["both"], members=members, batch=37)
    expected = results(embed_table, made.arguments())
    assert_near(results(table_embedding, made.arguments(dtype)), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("features", range(1, 15))
def test_every_number_of_features(features: int, dtype: torch.dtype, isa: str) -> None:
    made = Case(TableLayout((3,) * features, (1,) * features))
    expected = results(embed_table, made.arguments())
    assert_near(results(table_embedding, made.arguments(dtype)), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("members", [1, 50])
def test_batches_of_several_pieces(members: int) -> None:
    made = Case(LAYOUTS["numbers"], members=members, table=50, batch=2100 if members == 1 else 170, width=17)
    arguments = made.arguments()
    assert_near(results(table_embedding, arguments), results(embed_table, arguments), 1e-11)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("name", ["both", "many"])
def test_the_same_bits_for_any_number_of_threads(
    name: str, groups: int, dtype: torch.dtype, threads: Callable[[int], None]
) -> None:
    arguments = Case(LAYOUTS[name], groups, members=5, width=40, table=300, batch=270).arguments(dtype)
    threads(1)
    expected = results(table_embedding, arguments)
    for count in (2, 3, 7, 16):
        threads(count)
        for a, e in zip(results(table_embedding, arguments), expected, strict=True):
            assert torch.equal(a, e)


@pytest.mark.parametrize("fractions", [torch.float32, torch.float64], ids=str)
def test_fractions_of_either_type(fractions: torch.dtype) -> None:
    for dtype in TOLERANCE:
        arguments = Case(LAYOUTS["both"]).arguments(dtype)
        arguments["fractions"] = arguments["fractions"].to(fractions)
        assert_near(results(table_embedding, arguments), results(embed_table, arguments), 2e-6)


def test_other_layouts_of_memory() -> None:
    made = Case(LAYOUTS["both"]).arguments()
    expected = results(table_embedding, made)
    turned = {name: made[name].detach().mT.contiguous().mT.requires_grad_() for name in ("weights", "scales")}
    turned["rows"] = made["rows"].T.contiguous().T
    found = table_embedding(**made | turned)
    assert torch.equal(found, expected[0])
    grad = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    strided = grad.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    for a, e in zip(
        torch.autograd.grad(found, [turned["weights"], turned["scales"]], strided), expected[1:], strict=True
    ):
        assert torch.equal(a, e)


@pytest.mark.parametrize("wanted", ["weights", "scales"])
def test_one_gradient_alone(wanted: str) -> None:
    arguments = Case(LAYOUTS["both"]).arguments()
    _, weights, scales = results(table_embedding, arguments)
    other = {"weights": "scales", "scales": "weights"}[wanted]
    arguments[other] = arguments[other].detach()
    out = table_embedding(**arguments)
    grad = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    (found,) = torch.autograd.grad(out, [arguments[wanted]], grad)
    assert torch.equal(found, {"weights": weights, "scales": scales}[wanted])
    assert not table_embedding(**arguments | {wanted: arguments[wanted].detach()}).requires_grad


def test_gradcheck() -> None:
    arguments = Case(TableLayout((3, 0, 2), (1, 2, 0)), members=2, width=3).arguments()

    def forward(weights: Tensor, scales: Tensor) -> Tensor:
        return table_embedding(**arguments | {"weights": weights, "scales": scales})

    assert torch.autograd.gradcheck(forward, (arguments["weights"], arguments["scales"]))


@pytest.mark.parametrize("function", [table_embedding, embed_table])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_what_is_not_finite_stays_where_it_is(function: Callable[..., Tensor], dtype: torch.dtype) -> None:
    layout = TableLayout((2, 0), (2, 3))
    bins = torch.tensor([[2, 1], [1, 1]], dtype=torch.int16)
    fractions = torch.tensor([[float("nan"), float("inf")], [0.5, float("nan")]], dtype=dtype)
    weights = torch.tensor([1.0, 2, 3, float("nan"), float("inf"), 5, float("nan")], dtype=dtype).view(1, 7, 1)
    scales = torch.ones(1, 1, 2, dtype=dtype)
    assert function(weights, bins, fractions, scales, layout).flatten().tolist() == [8, 7]
    weights[0, 0] = float("inf")
    assert function(weights, bins, fractions, scales, layout).flatten().tolist() == [8, float("inf")]


@pytest.mark.parametrize("case", [{"batch": 0}, {"groups": 0}, {"members": 0}, {"width": 0}], ids=str)
def test_nothing_to_compute(case: dict[str, Any]) -> None:
    arguments = Case(LAYOUTS["both"], **case).arguments()
    for found, expected in zip(results(table_embedding, arguments), results(embed_table, arguments), strict=True):
        assert found.shape == expected.shape
        assert not found.any()


def test_no_more_than_the_inputs_is_kept() -> None:
    arguments = Case(LAYOUTS["both"]).arguments()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        table_embedding(**arguments)
    given = {t.data_ptr() for t in arguments.values() if isinstance(t, Tensor)}
    assert len(kept) == 5
    assert {t.data_ptr() for t in kept} == given


BAD = {
    "weights of integers": (
        {"weights": torch.zeros(2, 12, 4, dtype=torch.int32)},
        "weights must be float32 or float64",
    ),
    "too many weights": ({"weights": torch.zeros(2, 16, 4)}, r"weights must be .* \[groups, 15, width\]"),
    "weights of one group": ({"weights": torch.zeros(15, 4)}, "weights must be"),
    "int64 bins": ({"bins": torch.zeros(6, 3, dtype=torch.int64)}, r"bins must be contiguous int16 \[rows, 3\]"),
    "bins of two features": ({"bins": torch.zeros(6, 2, dtype=torch.int16)}, "bins must be"),
    "strided bins": ({"bins": torch.zeros(3, 6, dtype=torch.int16).T}, "bins must be contiguous"),
    "half fractions": (
        {"fractions": torch.zeros(6, 3, dtype=torch.float16)},
        r"fractions must be .* float32 or float64",
    ),
    "few fractions": ({"fractions": torch.zeros(5, 3)}, r"fractions must be .* \[6, 3\], as the bins"),
    "fractions with a gradient": ({"fractions": torch.zeros(6, 3, requires_grad=True)}, "fractions have no gradient"),
    "scales of another type": (
        {"scales": torch.ones(2, 2, 3, dtype=torch.float64)},
        r"scales must be float32 \[2, members, 3\]",
    ),
    "scales of three groups": ({"scales": torch.ones(3, 2, 3)}, r"scales must be .*\[2, members, 3\]"),
    "int32 rows": ({"rows": torch.zeros(2, 5, dtype=torch.int32)}, r"rows must be int64 \[batch\] or \[2, batch\]"),
    "rows of three groups": ({"rows": torch.zeros(3, 5, dtype=torch.int64)}, "rows must be int64"),
    "a scalar row": ({"rows": torch.zeros((), dtype=torch.int64)}, "rows must be int64"),
}
OUT_OF_RANGE = {
    "a negative row": ({"rows": torch.tensor([0, -1])}, "rows must be 0 to 5.*, got -1"),
    "a row too many": ({"rows": torch.tensor([[0, 1], [6, 7]])}, "rows must be 0 to 5.*, got 6"),
    "a negative bin": (
        {"bins": torch.tensor([[0, 0, 0]] * 5 + [[0, -1, 0]], dtype=torch.int16)},
        "bins must be 0 to 0.*got -1",
    ),
    "a bin too large": (
        {"bins": torch.tensor([[0, 0, 9]] + [[5, 0, 0]] * 5, dtype=torch.int16)},
        "bins must be 0 to 8.*got 9",
    ),
}


def small() -> dict[str, Any]:
    return Case(LAYOUTS["numbers"], members=2, width=4, table=6).arguments(torch.float32)


@pytest.mark.parametrize("function", [table_embedding, embed_table])
@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments_are_named(name: str, function: Callable[..., Tensor]) -> None:
    changed, message = BAD[name]
    with pytest.raises(RuntimeError, match=f"table_embedding: {message}"):
        function(**small() | changed)


@pytest.mark.parametrize("function", [table_embedding, embed_table])
@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_numbers_out_of_range_are_named(name: str, function: Callable[..., Tensor]) -> None:
    changed, message = OUT_OF_RANGE[name]
    arguments = small() | {"rows": None} | changed
    with pytest.raises(IndexError, match=f"table_embedding: {message}"):
        function(**arguments)


def test_the_first_bad_bin_is_named_for_any_number_of_threads(threads: Callable[[int], None]) -> None:
    arguments = Case(LAYOUTS["numbers"], table=2000, batch=None).arguments()
    arguments["bins"][[700, 1500, 1999], [2, 1, 0]] = -7
    for count in (1, 4):
        threads(count)
        with pytest.raises(IndexError, match="bins must be 0 to 8 for feature 2, got -7 in row 700"):
            table_embedding(**arguments)


def test_the_backward_checks_again() -> None:
    """Its inputs may have changed since the forward."""
    arguments = small()
    out = table_embedding(**arguments)
    with torch.no_grad():
        arguments["bins"].data.fill_(100)
    with pytest.raises(IndexError, match="bins must be 0 to"):
        out.sum().backward()


@pytest.mark.parametrize(
    ("increments", "lookups", "message"),
    [
        ((), (), "at least one feature, got 0 and 0"),
        ((1, 2), (1,), "got 2 and 1"),
        ((1, 0), (0, 0), "1 to 32768 rows, got 0 increments and 0 lookups for feature 1"),
        ((-1,), (2,), "got -1 increments and 2 lookups for feature 0"),
        ((32768,), (1,), "got 32768 increments"),
    ],
)
def test_a_wrong_layout_is_refused(increments: tuple[int, ...], lookups: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"table layout: .*{message}"):
        TableLayout(increments, lookups)
    empty = torch.zeros(0, len(increments), dtype=torch.int16)
    with pytest.raises(RuntimeError, match="table_embedding: layout must"):
        torch.ops.nasfast.table_embedding(
            torch.zeros(1, 1, 1), empty, empty.float(), torch.zeros(1, 1, len(increments)), None, increments, lookups
        )


def test_the_largest_feature() -> None:
    made = Case(TableLayout((0,), (32768,)), width=2, batch=None)
    arguments = made.arguments()
    assert arguments["bins"].max() == 32767
    assert_near(results(table_embedding, arguments), results(embed_table, arguments), 1e-12)


@pytest.mark.parametrize("name", ["bins", "fractions", "scales", "rows"])
def test_all_on_one_device(name: str) -> None:
    arguments = small()
    arguments[name] = arguments[name].to("meta")
    with pytest.raises(NasfastError, match=f"table_embedding: {name} must be on cpu, as the weights, got meta"):
        table_embedding(**arguments)


def test_other_devices_take_the_twin() -> None:
    arguments = {name: t.to("meta") if isinstance(t, Tensor) else t for name, t in small().items()}
    out = table_embedding(**arguments)
    assert (out.device.type, out.shape) == ("meta", (2, 5, 2, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_values_and_gradients_on_cuda() -> None:
    arguments = Case(LAYOUTS["both"]).arguments()
    there = {
        name: t.detach().cuda().requires_grad_(t.requires_grad) if isinstance(t, Tensor) else t
        for name, t in arguments.items()
    }
    found = [t.cpu() for t in results(table_embedding, there)]
    assert_near(found, results(table_embedding, arguments), 1e-12)


def test_a_second_derivative_is_refused_and_the_twin_has_one() -> None:
    arguments = small()
    wanted = [arguments["weights"]]
    with pytest.raises(RuntimeError, match="table_embedding: cannot be differentiated twice"):
        torch.autograd.grad(table_embedding(**arguments).sum(), wanted, create_graph=True)
    (first,) = torch.autograd.grad(embed_table(**arguments).sum(), wanted, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), [arguments["scales"]])
    assert second.any()


@pytest.mark.parametrize("function", [table_embedding, embed_table])
def test_autocast_changes_nothing(function: Callable[..., Tensor]) -> None:
    arguments = small()

    def under_autocast(**arguments: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return function(**arguments)

    for a, e in zip(results(under_autocast, arguments), results(function, arguments), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, e)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = arguments | {"scales": arguments["scales"].bfloat16()}
        assert function(**narrow).dtype == torch.float32
        wide = Case(LAYOUTS["numbers"]).arguments()
        assert function(**wide).dtype == torch.float64


def op_arguments(arguments: dict[str, Any]) -> tuple:
    layout = arguments["layout"]
    tensors = [arguments[name] for name in ("weights", "bins", "fractions", "scales", "rows")]
    return (*tensors, list(layout.increments), list(layout.lookups))


@pytest.mark.parametrize("case", [{}, {"shared": True}, {"batch": None}, {"batch": 0}], ids=str)
def test_opcheck(case: dict[str, Any]) -> None:
    arguments = op_arguments(Case(LAYOUTS["both"], **case).arguments(torch.float32))
    torch.library.opcheck(torch.ops.nasfast.table_embedding.default, arguments)
    plain = [t.detach() if isinstance(t, Tensor) else t for t in arguments]
    torch.library.opcheck(torch.ops.nasfast._table_embedding_forward.default, tuple(plain))
    grad = torch.ones_like(torch.ops.nasfast._table_embedding_forward(*plain))
    for wanted in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(torch.ops.nasfast._table_embedding_backward.default, (grad, *plain, *wanted))


def test_a_gradient_of_another_shape_is_refused() -> None:
    plain = [t.detach() if isinstance(t, Tensor) else t for t in op_arguments(small())]
    with pytest.raises(RuntimeError, match=r"grad must be \[2, 5, 2, 4\], got \[2, 5, 2, 3\]"):
        torch.ops.nasfast._table_embedding_backward(torch.zeros(2, 5, 2, 3), *plain, True, True)


def test_torch_compile_takes_it_whole() -> None:
    arguments = small()
    layout = arguments["layout"]

    def step(weights: Tensor, scales: Tensor, rows: Tensor) -> Tensor:
        out = table_embedding(weights, arguments["bins"], arguments["fractions"], scales.exp(), layout, rows)
        return out.relu().sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    wanted = [arguments["weights"], arguments["scales"]]
    for rows in (arguments["rows"], arguments["rows"][:, :3]):
        found = torch.autograd.grad(compiled(*wanted, rows), wanted)
        for a, e in zip(found, torch.autograd.grad(step(*wanted, rows), wanted), strict=True):
            torch.testing.assert_close(a, e)


@pytest.mark.parametrize("case", [{}, {"batch": None}], ids=str)
def test_it_counts_as_its_twin(case: dict[str, Any]) -> None:
    def counted(function: Callable[..., Tensor], wanted: tuple[str, ...]) -> list[int]:
        arguments = Case(LAYOUTS["both"], **case).arguments()
        for name in ("weights", "scales"):
            arguments[name].requires_grad_(name in wanted)
        flops = []
        with FlopCounterMode(display=False) as counter:
            out = function(**arguments)
        flops.append(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter:
            out.sum().backward()
        return [*flops, counter.get_total_flops()]

    for wanted in (("weights", "scales"), ("weights",), ("scales",)):
        found = counted(table_embedding, wanted)
        assert found == counted(embed_table, wanted)
        assert min(found) > 0
