"""Search spaces: rows and texts, counts, canonical forms, costs against published tables, networks, drawings."""

import json
import pickle
import zlib
from itertools import permutations
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from nasfast.errors import NasfastError, SpaceError
from nasfast.report import architecture_svg
from nasfast.report.cells import Arc
from nasfast.spaces.base import Space
from nasfast.spaces.cells import CellSpace, darts, enas_micro, nasnet
from nasfast.spaces.enas_macro import MultiBranchSpace, enas_macro
from nasfast.spaces.genotype import Genotype
from nasfast.spaces.genotype_network import DerivedNetwork, count_parameters
from nasfast.spaces.graph import Builder
from nasfast.spaces.mobilenet import MobileNetSpace
from nasfast.spaces.nasbench201 import TASKS, NASBench201
from nasfast.spaces.nasbench_macro import NASBenchMacro
from nasfast.spaces.operations import Classifier, conv_bn
from nasfast.spaces.registry import SPACES, make_space
from nasfast.supernets.shared import SharedNetwork
from nasfast.supernets.wiring import whole_graph
from tests.helpers.paths import GOLDEN

DATA = GOLDEN
SMALL = {
    "nasbench201": lambda: NASBench201(channels=4, cells=1),
    "nasbench-macro": NASBenchMacro,
    "mobilenet": lambda: MobileNetSpace(((8, 1), (16, 2)), depths=(1, 2), kernels=(3, 5), expansions=(1, 2)),
    "enas-macro": lambda: enas_macro(layers=6, branches=2, channels=4),
    "enas-micro": lambda: enas_micro(layers=3, channels=4),
    "nasnet": lambda: nasnet(layers=3, channels=4),
    "nasnet-macro": lambda: MultiBranchSpace(
        3, 1, 4, CellSpace("nasnet", ("skip_connect", "sep_conv_3x3"), 2, "any", "unused")
    ),
    "darts": lambda: darts(layers=3, channels=4),
}
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=SMALL)
def space(request):
    return SMALL[request.param]()


@pytest.fixture(scope="module")
def nb201():
    with np.load(DATA / "nasbench201_slice.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def macro():
    return json.loads((DATA / "nasbench_macro_slice.json").read_text())["archs"]


def generator(seed=0):
    return np.random.default_rng(seed)


def test_every_registered_space_is_tested():
    assert set(SMALL) == set(SPACES)
    for name in SPACES:
        assert make_space(name).name == name


def test_rows_are_sampled_mutated_and_crossed_within_the_space(space):
    rows = space.sample(generator(), 50)
    assert rows.shape == (50, len(space.decisions))
    assert (space.check(rows) == rows).all()
    assert (space.sample(generator(), 50) == rows).all()
    draw = generator(1)
    for row, other in zip(rows, rows[::-1], strict=True):
        child = space.mutate(draw, row)
        assert (child != row).sum() == 1
        assert (space.check(child)[0] == child).all()
        mixed = space.crossover(draw, row, other)
        assert ((mixed == row) | (mixed == other)).all()
    near = space.neighbours(rows[0])
    assert len(near) == (space.sizes - 1).sum()
    assert ((near != rows[0]).sum(1) == 1).all()
    assert len({tuple(row) for row in near.tolist()}) == len(near)


def test_every_value_is_reached_and_evenly(space):
    rows = space.sample(generator(), 6000)
    for at, size in enumerate(space.sizes.tolist()):
        counts = np.bincount(rows[:, at], minlength=size)
        assert len(counts) == size
        assert np.abs(counts / 6000 - 1 / size).max() < 0.04


def test_covering_rows_meet_every_operation(space):
    """So that every child finds its weights in the shared network."""

    def operations(graph):
        return {(node.weights, node.op) for node in graph.nodes if node.weights}

    met = set().union(*(operations(whole_graph(space, row, 7, 3)) for row in space.covering_rows()))
    for row in space.sample(generator(3), 200):
        assert operations(space.graph(row, num_classes=7)) <= met
    network = SharedNetwork(space, num_classes=7).eval()
    for row in space.sample(generator(4), 3):
        assert network(IMAGES, row).shape == (2, 7)


def test_text_form_and_back(space):
    for row in space.sample(generator(), 30):
        text = space.decode(row)
        assert (space.encode(text) == row).all()
        assert space.decode(space.encode(text)) == text


def test_network_has_the_cost_that_was_counted(space):
    for row in space.sample(generator(), 3):
        torch.manual_seed(0)
        network = space.build(row, num_classes=7).eval()
        assert sum(p.numel() for p in network.parameters()) == space.cost(row, 7).params
        with torch.no_grad():
            out = network(IMAGES)
        assert out.shape == (2, 7)
        assert torch.isfinite(out).all()


# NAS-Bench-201 counts as its tables do; they are what it is compared with.
@pytest.mark.parametrize("space", [name for name in SMALL if name != "nasbench201"], indirect=True)
def test_multiply_adds_are_those_of_the_network_that_runs(space):
    """Counted again by hooks on the convolutions and linear layers of a network that runs on images."""
    row = space.sample(generator(5), 1)[0]
    counted = 0

    def count(layer, inputs, out):
        nonlocal counted
        counted += out.numel() * layer.weight[0].numel()

    network = space.build(row).eval()
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(IMAGES[:1])
    assert counted == space.cost(row, size=16).flops


def test_architectures_share_weights_by_name(space):
    draw = generator(2)
    row = space.sample(draw, 1)[0]
    child = space.mutate(draw, row)
    one, other = space.build(row), space.build(child)
    shared = set(one.state_dict()) & set(other.state_dict())
    assert any(name.startswith("ops.stem/") for name in shared)
    nodes = [{n.weights: n.op for n in space.graph(r).nodes if n.weights} for r in (row, child)]
    for name in set(nodes[0]) & set(nodes[1]):
        if nodes[0][name] == nodes[1][name]:
            keys = [key for key in one.state_dict() if key.startswith(f"ops.{name}.")]
            assert all(one.state_dict()[key].shape == other.state_dict()[key].shape for key in keys)


def test_spaces_can_be_pickled(space):
    again = pickle.loads(pickle.dumps(space))
    row = space.sample(generator(), 1)[0]
    assert again.decode(row) == space.decode(row)
    assert again.canonical(row) == space.canonical(row)


def test_every_architecture_is_drawn_whole(space):
    for row in space.sample(generator(), 5):
        drawings = architecture_svg(space, row)
        pictures = space.picture(row)
        assert len(drawings) == len(pictures)
        for svg, picture in zip(drawings, pictures, strict=True):
            assert svg.count('class="op ') == len([Arc(s, t, (n,)) for n, s, t in picture.arcs])
            assert svg.count('class="state') == len(picture.states)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("nasbench201", 15_625),
        ("nasbench-macro", 6_561),
        ("darts", (1 * 3 * 6 * 10 * 7**8) ** 2),
        ("enas-macro", 6**12 * 2**66),
        ("enas-micro", (4 * 9 * 16 * 25 * 5**8) ** 2),
    ],
)
def test_counts_of_the_papers(name, count):
    assert make_space(name).count() == count


def test_macro_has_3969_different_functions():
    space = NASBenchMacro()
    rows = space.all_rows()
    assert len(rows) == 6561
    assert len({space.canonical(row) for row in rows}) == 3969


def test_macro_costs_are_the_published_ones(macro):
    space = NASBenchMacro()
    assert len(macro) > 60
    for text, (*_, params, flops) in macro.items():
        cost = space.cost(space.encode(text))
        assert (cost.params, cost.flops) == (params, flops), text


def test_nasbench201_classes_are_the_published_ones(nb201):
    """Same number of classes over all cells, and the stored classes of the slice are told apart in the same way."""
    space = NASBench201()
    assert len({space.canonical(row) for row in space.all_rows()}) == 6466
    forms = [space.canonical(space.encode(str(text))) for text in nb201["arch_str"]]
    classes = nb201["iso_class"].tolist()
    assert len(set(classes)) < len(classes)
    assert len(set(zip(forms, classes, strict=True))) == len(set(forms)) == len(set(classes))


def test_nasbench201_strings_and_codes_are_the_published_ones(nb201):
    space = NASBench201()
    for text, codes in zip(nb201["arch_str"].tolist(), nb201["ops"], strict=True):
        assert (space.encode(text) == codes).all()
        assert space.decode(codes) == text


def test_nasbench201_costs_are_the_published_ones(nb201):
    space = NASBench201()
    for data, (classes, size) in TASKS.items():
        for i, codes in enumerate(nb201["ops"]):
            cost = space.cost(codes, classes, size=size)
            assert cost.params == round(nb201[f"params_m_{data}"][i] * 1e6)
            assert cost.flops == round(nb201[f"flops_m_{data}"][i] * 1e6)


def _seed_by_form(space, row):
    """A cell whose weights depend on the operation and on the expression it reads, and on nothing else."""
    graph = space.cell_graph(row)
    values, forms = [IMAGES.new_zeros(0)] * len(graph.nodes), [""] * len(graph.nodes)
    values[0] = torch.randn(2, space.channels, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    for i, node in enumerate(graph.nodes):
        if node.kind == "sum":
            values[i] = sum(values[j] for j in node.inputs)
            forms[i] = "+".join(sorted(forms[j] for j in node.inputs))
        elif node.op is not None:
            (j,) = node.inputs
            zero = node.op.is_zero or forms[j] == "#"
            forms[i] = "#" if zero else forms[j] if node.op.is_identity else f"({forms[j]}){node.op.name}"
            if zero:
                values[i] = torch.zeros_like(values[0])
            elif node.op.is_identity:
                values[i] = values[j]
            else:
                module = graph.operations[node.op.name](
                    node.op.c_in, node.op.c_out, 1, **dict(node.op.settings)
                ).double()
                draw = torch.Generator().manual_seed(zlib.crc32(forms[i].encode()))
                for p in module.parameters():
                    p.data = torch.randn(p.shape, generator=draw).double()
                values[i] = module(values[j]).detach()
    return values[-1]


def test_equal_forms_are_equal_functions():
    """Cells of one class give the same outputs once equal expressions have equal weights; others do not."""
    space = NASBench201(channels=3)
    rows = space.sample(generator(3), 1500)
    classes = {}
    for row in rows:
        classes.setdefault(space.canonical(row), []).append(row)
    several = [members for members in classes.values() if len(members) > 1 and "@" in space.canonical(members[0])]
    assert len(several) > 20
    for members in several[:25]:
        outputs = [_seed_by_form(space, row) for row in members[:3]]
        assert all(torch.allclose(outputs[0], out, atol=1e-9) for out in outputs[1:])
    singles = [_seed_by_form(space, members[0]) for members in several[:25]]
    assert not torch.allclose(singles[0], singles[1], atol=1e-3)


def test_form_sees_what_the_published_string_does_not():
    space = NASBench201()
    rows = [
        space.encode("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|skip_connect~2|"),
        space.encode("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"),
    ]
    assert space.canonical(rows[0]) != space.canonical(rows[1])
    assert space.cell_graph(rows[0]).form() == space.cell_graph(rows[1]).form()


def test_form_tells_one_result_used_twice_from_two_equal_operations():
    forms = []
    for shared in (True, False):
        net = Builder({"conv": conv_bn}, 4)
        one = net.op("conv", net.input, at="a")
        other = one if shared else net.op("conv", net.input, at="b")
        x = net.sum([net.op("conv", one, at="c"), net.op("conv", other, at="d")])
        forms.append(net.graph(x).form())
    assert forms[0] != forms[1]


def test_form_does_not_depend_on_the_order_of_nodes_and_summands():
    forms = set()
    for order in permutations(range(3)):
        net = Builder({"conv": conv_bn, "pool": conv_bn, "mix": conv_bn}, 4)
        made = {}
        for i in order:
            made[i] = net.op(("conv", "pool", "mix")[i], net.input, at=f"place{order[i]}")
        sums = net.sum([made[order[0]], net.sum([made[order[2]], made[order[1]]])])
        dead = net.op("conv", made[0], at="dead")
        assert dead > 0
        forms.add(net.graph(net.op("identity", sums, at="end")).form())
    assert len(forms) == 1


def test_order_of_a_concatenation_counts_unless_it_is_said_not_to():
    def form(names, ordered):
        net = Builder({"conv": conv_bn, "pool": conv_bn}, 4)
        return net.graph(net.concat([net.op(n, net.input, at=n) for n in names], ordered)).form()

    assert form(("conv", "pool"), True) != form(("pool", "conv"), True)
    assert form(("conv", "pool"), False) == form(("pool", "conv"), False)


def _cells(*normal):
    reduce = [("max_pool_3x3", source) for _ in range(4) for source in (0, 1)]
    return Genotype(normal, range(2, 6), reduce, range(2, 6))


def test_renumbered_nodes_of_a_cell_are_one_architecture():
    space = darts(layers=3, channels=4)
    convs = [("sep_conv_3x3", 0), ("sep_conv_5x5", 1)]
    skips = [("skip_connect", 0), ("skip_connect", 1)]

    def tail(first, second):
        return [("dil_conv_3x3", first), ("skip_connect", 1), ("skip_connect", 0), ("dil_conv_3x3", second)]

    form, other, renumbered, swapped = (
        space.canonical(space.encode(_cells(*edges)))
        for edges in (
            [*convs, *skips, *tail(2, 3)],
            [*convs, *skips, *tail(3, 2)],
            [*skips, *convs, *tail(3, 2)],
            [("sep_conv_3x3", 1), ("sep_conv_5x5", 0), *skips, *tail(2, 3)],
        )
    )
    assert form == renumbered
    assert len({form, other, swapped}) == 3


def test_unused_blocks_of_a_chain_do_not_count():
    space = SMALL["mobilenet"]()
    row = space.row_of({d.name: d.values[0] for d in space.decisions})
    same = space.row_of(space.choices(row) | {"stage0.block1.kernel": 5})
    other = space.row_of(space.choices(row) | {"stage0.block0.kernel": 5})
    assert space.canonical(row) == space.canonical(same) != space.canonical(other)
    assert space.cost(row) == space.cost(same) != space.cost(other)


def test_published_genotypes_are_read_and_written():
    published = json.loads((DATA / "published_genotypes.json").read_text())["genotypes"]
    for name in ("NASNet", "AmoebaNet"):
        space = nasnet()
        assert space.genotype(space.encode(published[name])) == Genotype.parse(published[name])
    for name in ("DARTS_V1", "DARTS_V2", "PC_DARTS_cifar"):
        space = darts()
        row = space.encode(published[name])
        again = space.genotype(row)
        for cell in ("normal", "reduce"):
            pairs = [getattr(g, cell) for g in (again, Genotype.parse(published[name]))]
            for node in range(4):
                assert sorted(pairs[0][2 * node : 2 * node + 2]) == sorted(pairs[1][2 * node : 2 * node + 2])
        assert (space.encode(space.decode(row)) == row).all()


def test_darts_network_is_the_derived_network():
    published = json.loads((DATA / "published_genotypes.json").read_text())["genotypes"]["DARTS_V2"]
    space = darts(layers=4, channels=4)
    row = space.encode(published)
    derived = DerivedNetwork(4, 10, 4, False, space.genotype(row)).eval()
    own = space.build(row).eval()
    assert count_parameters(derived) == space.cost(row).params
    with torch.no_grad():
        for theirs, ours in zip(derived.parameters(), own.parameters(), strict=True):
            ours.copy_(theirs)
        assert torch.equal(derived(IMAGES)[0], own(IMAGES))


class Doubling(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 2.0))

    def forward(self, x):
        return x * self.scale


class TwoLayers(Space):
    operations: ClassVar = {"conv": conv_bn, "mine": lambda c_in, c_out, stride: Doubling(c_in), "head": Classifier}

    def __init__(self):
        super().__init__(
            "two-layers", {"width": (4, 8), "first": ("conv", "mine"), "second": ("conv", "mine", "identity")}
        )

    def wire(self, choices, net):
        x = net.op("conv", net.input, choices["width"], at="stem")
        for place in ("first", "second"):
            x = net.op(choices[place], x, at=place)
        return net.op("head", x, net.num_classes, at="head")


def test_space_of_ones_own():
    space = TwoLayers()
    assert space.count() == 12
    row = space.encode("width=8 first=mine second=identity")
    assert space.decode(row) == "width=8 first=mine second=identity"
    network = space.build(row, 5)
    assert network(IMAGES).shape == (2, 5)
    cost = space.cost(row, 5)
    assert cost.params == 3 * 8 * 9 + 16 + 8 + 8 * 5 + 5
    assert cost.flops == 3 * 8 * 9 * 32 * 32 + 8 * 5
    assert len({space.canonical(r) for r in space.all_rows()}) == 12
    assert len(architecture_svg(space, row)) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.check([0, 1, 3]), "second must be 0 to 2, got 3"),
        (lambda s: s.check([0, 1]), "row of 3 integers"),
        (lambda s: s.check([0.0, 1.0, 1.0]), "row of 3 integers, got float64"),
        (lambda s: s.encode("width=8 first=mine"), "second is missing; expected one of conv, mine, identity"),
        (
            lambda s: s.encode("width=8 first=mine second=pool"),
            "second must be one of conv, mine, identity, got 'pool'",
        ),
        (lambda s: s.encode("width=8 first=mine second=conv third=conv"), "has no decision 'third'"),
        (lambda s: s.encode("width=8 width=4 first=mine second=conv"), "width is given twice"),
    ],
)
def test_what_is_no_architecture_is_named(call, message):
    with pytest.raises(SpaceError, match=message):
        call(TwoLayers())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nasbench201", "|nor_conv_3x3~0|", r"expected \|op~0\|\+"),
        ("nasbench201", "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", r"expected \|op~0\|"),
        ("nasbench201", "|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|", "nor_conv_1x1"),
        ("nasbench-macro", "2221221", "8 digits of 0, 1, 2"),
        ("nasbench-macro", "22212213", "8 digits of 0, 1, 2"),
        ("darts", "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], normal_concat=[2], "
                  "reduce=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], reduce_concat=[2])", "must have 4 nodes, got 1"),
        ("darts", "import os", "expected Genotype"),
        ("nasnet-macro", "layer0.skip0=1", r"expected skips, then Genotype"),
    ],
)  # fmt: skip
def test_text_of_another_space_is_refused(name, text, message):
    with pytest.raises(NasfastError, match=message):
        make_space(name).encode(text)


def test_unknown_space_suggests_the_near_one():
    with pytest.raises(SpaceError, match="did you mean nasbench201"):
        make_space("nasbench-201")


def test_wiring_that_cannot_be_is_named():
    net = Builder({"conv": conv_bn}, 3)
    x = net.op("conv", net.input, 8, at="a")
    with pytest.raises(SpaceError, match="b: unknown operation 'pool'; expected one of conv"):
        net.op("pool", x, at="b")
    with pytest.raises(SpaceError, match="equal channels, got"):
        net.sum([net.input, x])
    with pytest.raises(SpaceError, match="identity keeps channels and size"):
        net.op("identity", x, 16, at="c")
    with pytest.raises(SpaceError, match="too many to list"):
        make_space("darts").all_rows()
