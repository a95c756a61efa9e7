"""What people do with a model after patching it: copy, save, move, train, compile, load."""

from __future__ import annotations

import copy
import io
import pickle

import blackwell_compat as bc
import pytest
import torch
from patching_models import (
    CausalConv1d,
    Counted,
    LoRACompatibleLinear,
    Mixed,
    Vocoder,
    close,
    is_one_graph,
    mixed_input,
    twin,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def patched_pair():
    torch.manual_seed(0)
    model = Mixed()
    plain = twin(model)
    bc.patch_model(model)
    return model, plain


def classes(model):
    return [type(m) for m in model.modules()]


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m)), "torch.save": saved}
COPIES["pickle protocol 0"] = lambda m: pickle.loads(pickle.dumps(m, protocol=0))


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_patched_and_its_own(how, monkeypatch):
    model, plain = patched_pair()
    other = COPIES[how](model)
    assert classes(other) == classes(model)
    counted = Counted(monkeypatch)
    close(other(mixed_input()), plain(mixed_input()))
    assert len(counted.ops) == 5
    with torch.no_grad():
        other.lin.weight.zero_()
    close(model(mixed_input()), plain(mixed_input()))
    bc.unpatch_model(other)
    assert classes(other) == classes(plain)
    assert classes(model) != classes(plain)


def test_forwards_that_somebody_kept_work_after_unpatching():
    """accelerate and diffusers put a function of their own on the layer, which calls the one that they found there."""
    model, plain = patched_pair()
    for layer in model.modules():
        layer.forward = layer.forward
    close(model(mixed_input()), plain(mixed_input()))
    bc.unpatch_model(model)
    close(model(mixed_input()), plain(mixed_input()))


def test_a_vocoder_that_is_copied_stays_channels_last():
    model = Vocoder().eval()
    x = torch.randn(1, 6, 9)
    want = model(x)
    bc.patch_model(model)
    other = copy.deepcopy(model)
    assert other.conv_pre(x).stride(1) == 1
    assert other(x).is_contiguous()
    close(other(x), want, layers=12)
    bc.unpatch_model(other)
    assert not other._forward_hooks
    assert "_compat_channels_last" not in vars(other.conv_pre)


def test_pickle_of_a_subclass_needs_only_the_subclass():
    layer = CausalConv1d(3, 3, 2)
    bc.patch_model(layer)
    data = pickle.dumps(layer)
    assert b"CompatCausal" not in data
    assert type(pickle.loads(data)) is type(layer)


def test_one_class_for_all_layers_of_a_class_and_it_goes_with_them():
    import gc
    import weakref

    class Local(nn.Linear):
        pass

    a, b = Local(2, 2), Local(2, 2)
    bc.patch_model(nn.ModuleList([a, b]))
    assert type(a) is type(b)
    gone = weakref.ref(type(a))
    del a, b, Local
    gc.collect()
    assert gone() is None


def test_state_dict_goes_both_ways():
    model, plain = patched_pair()
    other = Mixed()
    assert model.state_dict().keys() == plain.state_dict().keys()
    other.load_state_dict(model.state_dict())
    close(other(mixed_input()), plain(mixed_input()))
    fresh = Mixed()
    want = fresh(mixed_input())
    model(mixed_input())  # packed by now
    model.load_state_dict(fresh.state_dict())
    close(model(mixed_input()), want)
    assigned = Mixed()
    want = assigned(mixed_input())
    model.load_state_dict(assigned.state_dict(), assign=True)
    close(model(mixed_input()), want)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_to_another_dtype(dtype):
    model, plain = patched_pair()
    model(mixed_input())
    x = mixed_input().to(dtype)
    got, want = model.to(dtype)(x), plain.to(dtype)(x)
    assert got.dtype == dtype
    # both round each layer's result to `dtype`; six layers, values of about 1
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(got, want, rtol=16 * eps, atol=16 * eps)
    close(model.float()(mixed_input()), plain.float()(mixed_input()), layers=4)


def test_to_meta_and_back_on_the_cpu():
    model, _ = patched_pair()
    assert model.to("meta")(mixed_input().to("meta")).is_meta
    model.to_empty(device="cpu")
    with torch.no_grad():
        [p.fill_(0.1) for p in model.parameters()]
    plain = Mixed()
    plain.load_state_dict(model.state_dict())
    close(model(mixed_input()), plain(mixed_input()))


def test_train_and_eval_reach_what_is_inside():
    model, _ = patched_pair()
    assert not model.eval().lin.training
    assert model.train().causal.training
    model.requires_grad_(False)
    assert not model.conv.weight.requires_grad


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_training_equals_the_unpatched_run(optimizer):
    model, plain = patched_pair()
    target = torch.randn(2, 10, 3)
    losses = []
    for one in (model, plain):
        o = optimizer(one.parameters(), lr=0.01)
        run = []
        for _ in range(5):
            o.zero_grad()
            loss = (one(mixed_input()) - target).square().mean()
            loss.backward()
            o.step()
            run.append(loss.item())
        losses.append(run)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-1] < losses[0][0]
    # AdamW divides by the root of tiny second moments, which enlarges roundings of the gradient
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_patching_between_two_steps_keeps_the_optimizer():
    torch.manual_seed(0)
    model = Mixed()
    plain = twin(model)
    for one in (model, plain):
        o = torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9)
        for step in range(4):
            if one is model and step == 2:
                bc.patch_model(model)
            o.zero_grad()
            one(mixed_input()).square().mean().backward()
            o.step()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        close(a, b)


@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_compile_in_one_graph(dynamic):
    model, plain = patched_pair()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for length in (10, 14):
        x = torch.randn(2, length, 12)
        close(compiled(x), plain(x))


@pytest.mark.parametrize("form", ["none", "hook", "parametrization"])
def test_torch_compile_of_a_vocoder_in_one_graph(form):
    from test_weight_norm import FORMS

    torch.manual_seed(0)
    model = Vocoder(FORMS.get(form)).eval()
    x = torch.randn(1, 6, 9)
    with torch.no_grad():
        want, fullgraph = model(x), is_one_graph(model, lambda compiled: compiled(x))
        bc.patch_model(model)
        close(model(x), want, layers=12)
        torch._dynamo.reset()
        got = torch.compile(model, fullgraph=fullgraph, backend="aot_eager")(x)
    assert got.is_contiguous()
    close(got, want, layers=12)


def test_patching_what_is_compiled_already():
    torch.manual_seed(0)
    model = Mixed()
    want = model(mixed_input())
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    close(compiled(mixed_input()), want)
    assert len(bc.patch_model(compiled).patched) == 5
    close(compiled(mixed_input()), want)
    bc.unpatch_model(compiled)
    close(compiled(mixed_input()), want)


def test_torch_export():
    model, plain = patched_pair()
    exported = torch.export.export(model, (mixed_input(),))
    close(exported.module()(mixed_input()), plain(mixed_input()))
    assert "blackwell_compat" in str(exported.graph)


def test_torch_compile_of_subclasses_in_one_graph():
    torch.manual_seed(0)
    model = nn.Sequential(LoRACompatibleLinear(4, 6, lora_layer=nn.Linear(4, 6)), nn.Linear(6, 6))
    x = torch.randn(3, 4)
    want = model(x)
    bc.patch_model(model)
    torch._dynamo.reset()
    close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), want)


def test_autocast_as_unpatched():
    model, plain = patched_pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, want = model(mixed_input()), plain(mixed_input())
    assert got.dtype == want.dtype == torch.bfloat16
    torch.testing.assert_close(got, want, rtol=0.1, atol=0.1)


def test_jit_trace_and_functional_call():
    model, plain = patched_pair()
    traced = torch.jit.trace(model, mixed_input())
    close(traced(mixed_input()), plain(mixed_input()))
    params = {k: v.detach() * 2 for k, v in model.named_parameters()}
    got = torch.func.functional_call(model, params, (mixed_input(),))
    close(got, torch.func.functional_call(plain, params, (mixed_input(),)))


def test_jit_script_says_what_to_do():
    model, _ = patched_pair()
    with pytest.raises(RuntimeError, match=r"torch.jit.script: CompatLinear is patched.*call unpatch_model"):
        torch.jit.script(model)


@pytest.mark.parametrize("weight_norm", [None, torch.nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_fx_takes_a_patched_layer_as_one_node(weight_norm, monkeypatch):
    layers = nn.Conv1d(4, 6, 3), nn.ConvTranspose1d(6, 5, 4, 2), nn.Linear(10, 3)
    model = nn.Sequential(*(weight_norm(layer) if weight_norm else layer for layer in layers))
    x = torch.randn(2, 4, 6)
    want = model(x)
    bc.patch_model(model)
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["0", "1", "2"]
    counted = Counted(monkeypatch)
    close(traced(x), want)
    assert len(counted.calls) == 3
    close(model(x), want)


def test_fx_traces_into_subclasses():
    model = nn.Sequential(LoRACompatibleLinear(4, 6, lora_layer=nn.Linear(4, 6)), CausalConv1d(3, 2, 3))
    x = torch.randn(3, 4)
    want = model(x)
    bc.patch_model(model)
    close(torch.fx.symbolic_trace(model)(x), want)


def flops(model, backward):
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        y = model(torch.ones(2, 4, 6, requires_grad=backward))
        if backward:
            y.sum().backward()
    return counter.get_total_flops()


def test_flop_counter_counts_as_unpatched():
    model = nn.Sequential(nn.Conv1d(4, 6, 3), nn.ConvTranspose1d(6, 5, 4, 2), nn.Linear(10, 3))
    forward, both = flops(model, backward=False), flops(model, backward=True)
    bc.patch_model(model)
    assert [flops(model, backward=False), flops(model, backward=True)] == [forward, both]
    bc.patch_model(model, free_original=True)
    assert flops(model, backward=False) == forward > 0


def test_threads_get_bit_identical_results():
    from concurrent.futures import ThreadPoolExecutor

    model = Vocoder(nn.utils.parametrizations.weight_norm).eval()
    bc.patch_model(model)
    x = torch.randn(1, 6, 9)

    def run(_):
        with torch.no_grad():
            return model(x)

    want = run(0)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(run, range(32)):
            assert torch.equal(got, want)
