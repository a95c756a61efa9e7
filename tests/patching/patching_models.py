"""Layers and models as real packages write them, small; and the comparison of a model before and after patch_model."""

from __future__ import annotations

import copy

import torch
import torch._dynamo
import torch.nn.functional as F
from torch import nn


class CausalConv1d(nn.Conv1d):
    """As Chatterbox' (s3gen, matcha): no padding of its own, pads on the left, then calls the layer's forward."""

    def __init__(self, in_channels, out_channels, kernel_size):
        super().__init__(in_channels, out_channels, kernel_size, padding=0)
        self.causal_padding = (kernel_size - 1, 0)

    def forward(self, x):
        x = F.pad(x, self.causal_padding)
        return super().forward(x)


class LoRACompatibleLinear(nn.Linear):
    """As diffusers' (models/lora.py)."""

    def __init__(self, *args, lora_layer=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.lora_layer = lora_layer

    def forward(self, hidden_states, scale=1.0):
        if self.lora_layer is None:
            return super().forward(hidden_states)
        return super().forward(hidden_states) + scale * self.lora_layer(hidden_states)


class FunctionalLinear(nn.Linear):
    """As loralib's Linear: its own forward calls F.linear, so ours is never reached."""

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class OwnConvForward(nn.Conv1d):
    def _conv_forward(self, input, weight, bias):
        return F.conv1d(input, weight, bias, 1, 1)


class Resampler(nn.Module):
    """Calls the op as a function, as Kokoro's and Chatterbox' resampling and STFT do."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(1, 1, 4))
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return F.conv1d(x, self.kernel)

    def spectrum(self, x):
        return torch.stft(x, 16, return_complex=True)


class ResBlock(nn.Module):
    def __init__(self, channels, weight_norm=None):
        super().__init__()
        wrap = weight_norm or (lambda layer: layer)
        self.convs1 = nn.ModuleList(wrap(nn.Conv1d(channels, channels, 3, padding=d, dilation=d)) for d in (1, 3))
        self.convs2 = nn.ModuleList(wrap(nn.Conv1d(channels, channels, 3, padding=1)) for _ in (1, 3))

    def forward(self, x):
        for c1, c2 in zip(self.convs1, self.convs2):  # noqa: B905  (as it is written there)
            xt = F.leaky_relu(x, 0.1)
            xt = c1(xt)
            xt = c2(F.leaky_relu(xt, 0.1))
            x = xt + x
        return x


class Vocoder(nn.Module):
    """HiFi-GAN's generator, as Piper, XTTS and VITS have it."""

    def __init__(self, weight_norm=None):
        super().__init__()
        wrap = weight_norm or (lambda layer: layer)
        self.num_kernels = 2
        self.conv_pre = wrap(nn.Conv1d(6, 16, 7, padding=3))
        self.ups = nn.ModuleList([wrap(nn.ConvTranspose1d(16, 8, 8, 4, padding=2))])
        self.resblocks = nn.ModuleList(ResBlock(8, weight_norm) for _ in range(2))
        self.conv_post = nn.Conv1d(8, 1, 7, padding=3)

    def forward(self, x):
        x = self.conv_pre(x)
        for i, up in enumerate(self.ups):
            x = F.leaky_relu(x, 0.1)
            x = up(x)
            xs = None
            for j in range(self.num_kernels):
                if xs is None:
                    xs = self.resblocks[i * self.num_kernels + j](x)
                else:
                    xs += self.resblocks[i * self.num_kernels + j](x)
            x = xs / self.num_kernels
        return torch.tanh(self.conv_post(F.leaky_relu(x)))


class Mixed(nn.Module):
    """One of each layer that patch_model knows, in a chain."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(12, 16)
        self.conv = nn.Conv1d(16, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose1d(8, 6, 4, stride=2, padding=1)
        self.causal = CausalConv1d(6, 6, 3)
        self.norm = nn.LayerNorm(6)
        self.out = nn.Linear(6, 3)

    def forward(self, x):  # (N, L, 12)
        x = self.lin(x).transpose(1, 2)
        x = self.causal(self.up(torch.relu(self.conv(x))))
        return self.out(self.norm(x.transpose(1, 2)))


def mixed_input():
    return torch.randn(2, 10, 12, generator=torch.Generator().manual_seed(3))


def close(got, want, layers=4):
    """float32 after a few layers: both sum in float32 in another order, so a few roundings a layer."""
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * max(1, layers // 4))


def snapshot(model):
    """All that patch_model could leave behind: classes, hooks, attributes, devices, values."""
    return {
        name: (
            type(m),
            {k: type(v) for k, v in m._forward_hooks.items()},
            {k: type(v) for k, v in m._forward_pre_hooks.items()},
            dict(m._forward_hooks_always_called),
            dict(m._forward_pre_hooks_with_kwargs),
            sorted(vars(m)),
            {k: (id(p), p.device, p._version) for k, p in m._parameters.items() if p is not None},
        )
        for name, m in model.named_modules()
    }


def twin(model):
    return copy.deepcopy(model)


class Counted:
    """Counts the calls of our ops in a block, by replacing what the layers call."""

    def __init__(self, monkeypatch):
        import blackwell_compat.patching.layers as layers

        self.calls = []
        for op in ("compat_linear", "compat_conv1d", "compat_conv_transpose1d"):
            inner = getattr(layers, op)
            monkeypatch.setattr(layers, op, self.wrap(op, inner))

    def wrap(self, op, inner):
        def run(*args, **kwargs):
            self.calls.append((op, args[1]))
            return inner(*args, **kwargs)

        return run

    @property
    def ops(self):
        return [op for op, _ in self.calls]


def is_one_graph(model, run):
    """Whether an unpatched model compiles in one graph, as a patched one then has to. In torch 2.4 it does not where
    weight_norm is a hook."""
    torch._dynamo.reset()
    try:
        run(torch.compile(model, fullgraph=True, backend="eager"))
    except torch._dynamo.exc.Unsupported:
        return False
    return True
