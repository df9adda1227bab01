"""What users do to a network after it was built: fused modules do as plain ones do, or say why they cannot."""

import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import parametrizations, prune

from nasfast.errors import NasfastError
from nasfast.nn import cells
from nasfast.nn.fused import FusedCell, FusedMixedOp
from nasfast.nn.fused_partial import FusedPartialCell, FusedPartialMixedOp

CELL = (2, 2, 6, 6, 8, True, False)
PAIRS = {
    "mixed op": (cells.MixedOp, FusedMixedOp, (8, 1), [(3, 8, 6, 6), (8,)], "_ops"),
    "partial mixed op": (cells.PartialMixedOp, FusedPartialMixedOp, (16, 2), [(3, 16, 6, 6), (8,)], "_ops"),
    "cell": (cells.Cell, FusedCell, CELL, [(3, 6, 8, 8), (3, 6, 8, 8), (5, 8)], "_ops.3._ops"),
    "partial cell": (
        *(cells.PartialCell, FusedPartialCell, CELL),
        *([(3, 6, 8, 8), (3, 6, 8, 8), (5, 8), (5,)], "_ops.3._ops"),
    ),
}


@pytest.fixture(params=PAIRS)
def case(request):
    """(plain, fused, inputs, name of a bank of candidates), in float64."""
    plain_class, fused_class, arguments, shapes, bank = PAIRS[request.param]
    torch.manual_seed(0)
    plain, fused = plain_class(*arguments).double(), fused_class(*arguments).double()
    fused.load_state_dict(plain.state_dict())
    return plain, fused, [torch.rand(shape, dtype=torch.float64) for shape in shapes], bank


def step(module, inputs):
    out = module(*inputs)
    wanted = [p for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(out.sin().sum(), wanted, allow_unused=True)
    return [out, *gradients, *(buffer.clone() for buffer in module.buffers())]


def assert_same(plain, fused, inputs):
    for a, b in zip(step(fused, inputs), step(plain, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def norms(module):
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def untracked(norm):
    norm.track_running_stats = False


def without_statistics(norm):
    norm.track_running_stats = False
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def cumulative(norm):
    norm.momentum = None


def other_values(norm):
    norm.eps, norm.momentum = 1e-2, 0.7


def without_counter(norm):
    norm.num_batches_tracked = None


@pytest.mark.parametrize("change", [untracked, without_statistics, cumulative, other_values, without_counter])
def test_settings_of_batchnorm_are_followed(case, change):
    plain, fused, inputs, _ = case
    for module in (plain, fused):
        for norm in norms(module):
            change(norm)
    for training in (True, True, False):
        plain.train(training)
        fused.train(training)
        assert_same(plain, fused, inputs)


def test_cumulative_averages_go_on_from_each_count():
    plain, fused = cells.MixedOp(6, 1).double(), FusedMixedOp(6, 1).double()
    for i, norm in enumerate(norms(plain)):
        norm.momentum = None
        norm.num_batches_tracked.fill_(i)
    fused.load_state_dict(plain.state_dict())
    for norm in norms(fused):
        norm.momentum = None
    assert_same(plain, fused, [torch.rand(2, 6, 4, 4).double(), torch.rand(8).double()])


@pytest.mark.parametrize(
    ("setting", "value", "values"),
    [
        ("training", False, "training=False .*training=True"),
        ("eps", 1e-3, "eps=0.001 .*eps=1e-05"),
        ("momentum", 0.5, "momentum=0.5 .*momentum=0.1"),
        ("momentum", None, "momentum=None .*momentum=0.1"),
        ("track_running_stats", False, "track_running_stats=False .*track_running_stats=True"),
    ],
)
def test_batchnorms_that_differ_are_refused_by_name(case, setting, value, values):
    _, fused, inputs, bank = case
    setattr(fused.get_submodule(f"{bank}.1.1"), setting, value)
    parts = values.split(" .*")
    with pytest.raises(NasfastError, match="needs all its BatchNorms to have the same settings") as error:
        fused(*inputs)
    assert all(part in str(error.value) for part in parts)
    assert f"{bank}.1.1 has {parts[0]}" in str(error.value)
    assert "fused=False" in str(error.value)


def test_statistics_in_some_batchnorms_only_are_refused(case):
    _, fused, inputs, bank = case
    fused.get_submodule(f"{bank}.1.1").running_mean = None
    with pytest.raises(NasfastError, match=rf"needs running_mean .* {bank}.1.1 has none"):
        fused.eval()(*inputs)


def test_an_empty_batch_counts(case):
    plain, fused, inputs, _ = case
    empty = [x[:0] if x.dim() == 4 else x for x in inputs]
    plain(*empty)
    fused(*empty)
    for (name, a), b in zip(fused.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms(fused))


def new_pointwise(module, bank):
    torch.manual_seed(5)
    module.get_submodule(f"{bank}.4.op")[2] = nn.Conv2d(*[width(module, bank)] * 2, 1, bias=False).double()


def new_norm(module, bank):
    norm = nn.BatchNorm2d(width(module, bank), affine=False).double()
    norm.running_mean.fill_(0.3)
    module.get_submodule(f"{bank}.1")[1] = norm


def spectral(module, bank):
    torch.manual_seed(5)
    parametrizations.spectral_norm(module.get_submodule(f"{bank}.4.op.2"))


def weight_norm(module, bank):
    parametrizations.weight_norm(module.get_submodule(f"{bank}.6.op.1"))


def one_weight_for_two(module, bank):
    module.get_submodule(f"{bank}.5.op.2").weight = module.get_submodule(f"{bank}.4.op.2").weight


def one_layer_for_two(module, bank):
    module.get_submodule(f"{bank}.7.op")[3] = module.get_submodule(f"{bank}.6.op.3")


def one_layer_twice_in_a_candidate(module, bank):
    module.get_submodule(f"{bank}.4.op")[6] = module.get_submodule(f"{bank}.4.op.2")


def plain_tensor(module, bank):
    conv = module.get_submodule(f"{bank}.4.op.2")
    weight = conv.weight.detach() * 2
    del conv.weight
    conv.weight = weight


def some_frozen(module, bank):
    for i, parameter in enumerate(module.parameters()):
        parameter.requires_grad_(i % 3 == 0)


def assigned(module, bank):
    state = {name: value * 2 for name, value in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def width(module, bank):
    return module.get_submodule(f"{bank}.4.op.2").out_channels


@pytest.mark.parametrize(
    "change",
    [
        *(new_pointwise, new_norm, spectral, weight_norm, one_weight_for_two, one_layer_for_two),
        *(one_layer_twice_in_a_candidate, plain_tensor, some_frozen, assigned),
    ],
)
def test_changes_that_keep_the_structure_are_followed(case, change):
    plain, fused, inputs, bank = case
    fused(*inputs)
    plain(*inputs)
    for module in (plain, fused):
        change(module, bank)
    assert_same(plain, fused, inputs)
    assert_same(plain.eval(), fused.eval(), inputs)


def another_kernel(module, bank):
    module.get_submodule(f"{bank}.4.op")[1] = nn.Conv2d(*[width(module, bank)] * 2, 5, padding=2, bias=False)


def another_activation(module, bank):
    module.get_submodule(f"{bank}.4.op")[0] = nn.SiLU()


def another_stride(module, bank):
    module.get_submodule(f"{bank}.4.op.5").stride = (2, 2)


def another_pool(module, bank):
    module.get_submodule(f"{bank}.2.0").count_include_pad = True


def a_bias(module, bank):
    module.get_submodule(f"{bank}.4.op")[2] = nn.Conv2d(*[width(module, bank)] * 2, 1)


def affine(module, bank):
    module.get_submodule(f"{bank}.1")[1] = nn.BatchNorm2d(width(module, bank))


def no_candidate(module, bank):
    del module.get_submodule(bank)[7]


def one_more_layer(module, bank):
    module.get_submodule(f"{bank}.4.op").append(nn.Dropout(0.5))


def synchronised(module, bank):
    module.get_submodule(f"{bank}.1")[1] = nn.SyncBatchNorm(width(module, bank), affine=False)


@pytest.mark.parametrize(
    ("change", "place", "found"),
    [
        (another_kernel, "4.op.1", "Conv2d.*kernel_size=[(]5, 5[)]"),
        (another_activation, "4.op.0", "SiLU"),
        (another_stride, "4.op.5", "stride=[(]2, 2[)]"),
        (another_pool, "2.0", "count_include_pad=True"),
        (a_bias, "4.op.2", "bias=True"),
        (affine, "1.1", "affine=True"),
        (no_candidate, "7", ""),
        (one_more_layer, "", "Dropout"),
        (synchronised, "1.1", "SyncBatchNorm"),
    ],
)
def test_another_structure_is_refused_by_name(case, change, place, found):
    _, fused, inputs, bank = case
    fused(*inputs)
    change(fused, bank)
    for module in (fused, copy.deepcopy(fused)):
        with pytest.raises(NasfastError, match=rf"(?s){bank}[.]{place}.*was changed: found .*{found}.*fused=False"):
            module(*inputs)


def hook(module, bank):
    module.get_submodule(f"{bank}.1").register_forward_hook(lambda *_: None)


def pre_hook(module, bank):
    module.get_submodule(f"{bank}.0").register_forward_pre_hook(lambda *_: None)


def backward_hook(module, bank):
    module.get_submodule(f"{bank}.4.op.2").register_full_backward_hook(lambda *_: None)


def pruned(module, bank):
    prune.l1_unstructured(module.get_submodule(f"{bank}.4.op.2"), "weight", 0.5)


def own_forward(module, bank):
    candidate = module.get_submodule(f"{bank}.3")
    candidate.forward = lambda x: 2 * x


@pytest.mark.parametrize("change", [hook, pre_hook, backward_hook, pruned, own_forward])
def test_what_wants_a_candidate_called_is_refused(case, change):
    _, fused, inputs, bank = case
    fused(*inputs)
    change(fused, bank)
    with pytest.raises(NasfastError, match=rf"{bank}[.]\S+ has a hook or a forward of its own"):
        fused(*inputs)


def test_a_pruned_layer_runs_once_pruning_is_made_permanent():
    plain, fused = cells.MixedOp(6, 1).double(), FusedMixedOp(6, 1).double()
    fused.load_state_dict(plain.state_dict())
    for module in (plain, fused):
        prune.l1_unstructured(module._ops[4].op[2], "weight", 0.5)
        prune.remove(module._ops[4].op[2], "weight")
    assert_same(plain, fused, [torch.rand(2, 6, 4, 4).double(), torch.rand(8).double()])


def test_hooks_on_the_module_itself_are_called(case):
    _, fused, inputs, _ = case
    seen = []
    fused.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    assert [fused(*inputs).shape] == seen


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_watch_their_own_layers(case, clone):
    plain, fused, inputs, bank = case
    fused(*inputs)
    plain(*inputs)
    twin = clone(fused)
    hook(fused, bank)
    assert_same(plain, twin, inputs)
    hook(twin, bank)
    with pytest.raises(NasfastError, match="has a hook"):
        twin(*inputs)


def test_a_layer_set_before_copying_is_seen_by_the_copy(case):
    plain, fused, inputs, bank = case
    for module in (plain, fused):
        new_pointwise(module, bank)
    assert_same(plain, copy.deepcopy(fused), inputs)


def replica(module):
    """What nn.DataParallel makes of a module on each device: copies whose parameters are plain tensors."""
    copies = {part: part._replicate_for_data_parallel() for part in module.modules()}
    for part, own in copies.items():
        for name, child in part._modules.items():
            own._modules[name] = None if child is None else copies[child]
        for name, parameter in part._parameters.items():
            setattr(own, name, None if parameter is None else parameter.detach() * 2)
        own._buffers = {name: None if b is None else b.clone() for name, b in part._buffers.items()}
    return copies[module]


def test_replicas_of_data_parallel_use_their_own_weights(case):
    plain, fused, inputs, _ = case
    fused(*inputs)
    plain(*inputs)
    before = copy.deepcopy(fused.state_dict())
    torch.testing.assert_close(replica(fused)(*inputs), replica(plain)(*inputs))
    assert all(torch.equal(value, before[name]) for name, value in fused.state_dict().items())
    assert_same(plain, fused, inputs)


def test_distributed_data_parallel_gives_the_same_gradients(case, tmp_path):
    plain, fused, inputs, _ = case
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(fused)
        for module in (plain, wrapped):
            for _ in range(2):
                module(*inputs).sin().sum().backward()
            nn.utils.clip_grad_norm_(module.parameters(), 0.5)
    finally:
        dist.destroy_process_group()
    for a, b in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_functional_calls_read_the_given_buffers(case):
    plain, fused, inputs, _ = case
    state = {name: value * 2 + 1 for name, value in plain.state_dict().items()}
    plain.eval()
    fused.eval()
    call = torch.func.functional_call
    torch.testing.assert_close(call(fused, state, tuple(inputs)), call(plain, state, tuple(inputs)))


def test_a_dtype_without_kernels_is_refused(case):
    _, fused, inputs, _ = case
    with pytest.raises(RuntimeError, match="must be float32, float64 or bfloat16, got Half"):
        fused.half()(*(x.half() for x in inputs))


@pytest.mark.parametrize(
    ("change", "message"), [(hook, "has a hook"), (another_activation, "SiLU"), (new_pointwise, "call it once")]
)
def test_compilation_refuses_what_it_would_not_see(case, change, message):
    _, fused, inputs, bank = case
    change(fused, bank)
    with pytest.raises(RuntimeError, match=f"NasfastError: .*{message}"):  # as torch.compile passes it on
        torch.compile(fused, backend="eager", fullgraph=True)(*inputs)


def test_a_layer_replaced_before_compilation_is_compiled_after_one_call(case):
    plain, fused, inputs, bank = case
    for module in (plain, fused):
        new_pointwise(module, bank)
        module(*(x[:0] if x.dim() == 4 else x for x in inputs))
    torch.compiler.reset()
    assert_same(plain, torch.compile(fused, backend="eager", fullgraph=True), inputs)
