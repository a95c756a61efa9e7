"""free_original: a patched layer whose weight exists only in packed form, and the way back."""

from __future__ import annotations

import itertools
import types
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from blackwell_compat import _C
from blackwell_compat.patching.classes import _make, _names, base_of, patched_class
from blackwell_compat.patching.fold import PLAIN, weight_norm_hooks
from blackwell_compat.patching.layers import (
    CompatConv1d,
    CompatConvTranspose1d,
    CompatLinear,
    CompatTransposedLinear,
)

# Layers of torch that hand the weights of their layers to one function at each call: each would unpack them
READERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
NOTES = ("_compat_packed", "_compat_parameter", "_compat_size", "_compat_options")
Ops: Any = torch.ops.blackwell_compat


def _pack(module: nn.Module, weight: torch.Tensor, options: tuple[int, ...]) -> torch.Tensor:
    if isinstance(module, CompatConv1d):
        return Ops.compat_conv1d_pack(weight, *options)  # type: ignore[no-any-return]
    if isinstance(module, CompatConvTranspose1d):
        return Ops.compat_conv_transpose1d_pack(weight, options[0])  # type: ignore[no-any-return]
    stored = weight.t() if isinstance(module, CompatTransposedLinear) else weight
    return Ops.compat_linear_pack(stored)  # type: ignore[no-any-return]


def _unpack(module: FreedWeight) -> torch.Tensor:
    """The weight, bit for bit, as a fresh contiguous tensor."""
    packed, size, options = module._compat_packed, module._compat_size, module._compat_options
    if isinstance(module, CompatConv1d):
        return Ops.compat_conv1d_unpack(packed, size, *options)  # type: ignore[no-any-return]
    if isinstance(module, CompatConvTranspose1d):
        return Ops.compat_conv_transpose1d_unpack(packed, size, options[0])  # type: ignore[no-any-return]
    if isinstance(module, CompatTransposedLinear):
        return Ops.compat_linear_unpack(packed, size[1], size[0]).t().contiguous()  # type: ignore[no-any-return]
    return Ops.compat_linear_unpack(packed, *size)  # type: ignore[no-any-return]


class FreedWeight(nn.Module):
    """Stands before the class of a patched layer. While `_compat_packed` is set, `_parameters["weight"]` is None and
    keeps the place; the Parameter object itself waits in `_compat_parameter`, without its values."""

    # Else the compiler of torch 2.4 reads `_parameters["weight"]` where code says `weight`, past the property below
    torchdynamo_force_dynamic = True

    _compat_packed: torch.Tensor | None = None
    _compat_parameter: nn.Parameter
    _compat_size: tuple[int, ...]
    _compat_options: tuple[int, ...]

    @property
    def weight(self) -> Any:
        """A copy. Outside inference mode PyTorch refuses to write to it: the write would be lost. Assign instead."""
        weight = self._parameters.get("weight")
        if weight is not None or self._compat_packed is None:
            return weight
        if torch.compiler.is_compiling():
            return _unpack(self)
        with torch.inference_mode():
            return _unpack(self)

    @weight.setter
    def weight(self, value: Any) -> None:  # no Parameter: register_parameter takes those
        self._compat_refuse()

    def __delattr__(self, name: str) -> None:
        if name == "weight" and self._compat_packed is not None:
            self._compat_refuse()
        super().__delattr__(name)

    def _compat_refuse(self) -> None:
        raise RuntimeError(
            f"{type(self).__name__}: patch_model(free_original=True) keeps this weight in packed form only; "
            "call unpatch_model before deleting or parametrizing it"
        )

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        if name != "weight":
            return super().register_parameter(name, param)
        thaw(self)
        try:
            return super().register_parameter(name, param)
        finally:
            freeze(self)

    def _compat_repack(self) -> None:
        """Somebody changed the layer's dilation, groups or stride, on which the packed form depends."""
        thaw(self)
        freeze(self)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        thaw(self)
        try:
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        finally:
            freeze(self)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self._compat_packed is None:
            return super()._save_to_state_dict(destination, prefix, keep_vars)
        own: Any = OrderedDict()
        own._metadata = getattr(destination, "_metadata", OrderedDict())
        super()._save_to_state_dict(own, prefix, keep_vars)
        earlier = {prefix + name for name in itertools.takewhile(lambda name: name != "weight", self._parameters)}
        with torch.inference_mode(False):
            weight = _unpack(self)
        for key in [key for key in own if key in earlier]:
            destination[key] = own.pop(key)
        destination[prefix + "weight"] = weight
        destination.update(own)
        return None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        thaw(self)
        try:
            super()._load_from_state_dict(*args, **kwargs)
        finally:
            freeze(self)


class FreedLayer(FreedWeight):
    """For the layers of torch, which can be initialised again; transformers' Conv1D cannot."""

    def reset_parameters(self) -> None:
        thaw(self)
        try:
            super().reset_parameters()  # type: ignore[misc]
        finally:
            freeze(self)


class FreedLinear(FreedLayer, CompatLinear):
    _compat_original = nn.Linear


class FreedConv1d(FreedLayer, CompatConv1d):
    _compat_original = nn.Conv1d


class FreedConvTranspose1d(FreedLayer, CompatConvTranspose1d):
    _compat_original = nn.ConvTranspose1d


STATIC: dict[type[nn.Module], type[FreedWeight]] = {
    CompatLinear: FreedLinear,
    CompatConv1d: FreedConv1d,
    CompatConvTranspose1d: FreedConvTranspose1d,
}
# By the id of the patched class, which each keeps alive
_made: weakref.WeakValueDictionary[int, type[nn.Module]] = weakref.WeakValueDictionary()


def _freed_class(patched: type[nn.Module]) -> type[nn.Module]:
    if patched in STATIC:
        return STATIC[patched]
    if id(patched) not in _made:
        mixin = FreedWeight if issubclass(patched, CompatTransposedLinear) else FreedLayer
        made = _make(vars(patched)["_compat_original"], (mixin, patched), _new_freed)
        _made[id(patched)] = made
        return made
    return _made[id(patched)]


def _new_freed(cls: type[nn.Module], *args: Any) -> nn.Module:
    """What a pickle of such a layer calls."""
    made = _freed_class(patched_class(cls))
    return made.__new__(made, *args)


def is_freed(module: nn.Module) -> bool:
    return isinstance(module, FreedWeight) and module._compat_packed is not None


def freed_bytes(module: nn.Module) -> int:
    """Bytes of the weight that a layer no longer has."""
    return 4 * torch.Size(module._compat_size).numel() if is_freed(module) else 0  # type: ignore[arg-type]


def _tensor_refusal(t: torch.Tensor) -> str | None:
    if type(t) not in PLAIN or t.layout is not torch.strided or t.is_inference():
        return "the weight is no plain tensor"
    if t.dtype is not torch.float32 or t.device.type != "cpu":
        return f"the weight is {t.dtype} on {t.device}; only float32 on the CPU is packed for good"
    if t.numel() == 0:
        return "the weight is empty"
    if not t.is_contiguous() or t.untyped_storage().nbytes() != t.nbytes:
        return "the weight is a view of something larger, which would stay"
    return None


def _layer_refusal(module: nn.Module, cls: type[nn.Module]) -> str | None:
    if weight_norm_hooks(module) or "parametrizations" in module._modules:
        return "its parameters are not the weight itself (weight_norm or another parametrization)"
    options = (getattr(module, "groups", 1), *getattr(module, "dilation", (1,)))
    if issubclass(cls, CompatConvTranspose1d) and options != (1, 1):
        return "a transposed convolution with groups or dilation is computed by ATen, from the weight itself"
    return None


def _reads_weight(module: nn.Module) -> bool:
    """Whether a forward of the user's between his class and the layer names `weight`."""
    base = base_of(type(module))
    for owner in type(module).__mro__:
        if owner is base:
            break
        function = vars(owner).get("forward")
        ours = owner.__module__.startswith("blackwell_compat.")
        if isinstance(function, types.FunctionType) and not ours and "weight" in _names(function.__code__):
            return True
    return False


class Sharing:
    """Which tensors of a model are used under more than one name or in more than one module."""

    def __init__(self, model: nn.Module) -> None:
        self.names: dict[int, list[str]] = {}
        self.read: set[int] = set()
        for prefix, module in model.named_modules(remove_duplicate=False):
            if isinstance(module, READERS):
                self.read.update(id(child) for child in module.children())
            for key, t in (*module._parameters.items(), *module._buffers.items()):
                if t is not None and not nn.parameter.is_lazy(t) and t.layout is torch.strided:
                    name = f"{prefix}.{key}" if prefix else key
                    self.names.setdefault(t.untyped_storage()._cdata, []).append(name)

    def refusal(self, name: str, module: nn.Module, new_class: type[nn.Module] | None) -> str | None:
        """Why the weight of a layer is kept that is patched, or gets `new_class`; None where it can go."""
        weight = module._parameters.get("weight")
        refusal = _layer_refusal(module, new_class or type(module))
        if refusal is not None or weight is None:
            return refusal or "the weight is no parameter"
        return self.use(name, module, {"weight": weight}) or _tensor_refusal(weight)

    def use(self, name: str, module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> str | None:
        """Who reads `tensors`, by their names in a layer, past the layer's own call; None: nobody."""
        if isinstance(module, NonDynamicallyQuantizableLinear):
            return "nn.MultiheadAttention reads the weight at each call"
        if _reads_weight(module):
            return "its own forward reads the weight"
        if id(module) in self.read:
            return "the module above reads the weight at each call"
        own = {f"{name}.{key}" if name else key for key in tensors}
        for t in tensors.values():
            for other in self.names.get(t.untyped_storage()._cdata, ()):
                if other not in own:
                    return f"shared with {other}"
        return None


def thaw(module: FreedWeight) -> None:
    """`weight` is the Parameter that it was, with its values, until `freeze`. Nothing where it is that already."""
    if module._compat_packed is None:
        return
    if module._parameters.get("weight") is None:
        with torch.inference_mode(False), torch.no_grad():
            module._compat_parameter.data = _unpack(module)
        module._parameters["weight"] = module._compat_parameter
    for note in NOTES:
        vars(module).pop(note, None)


def _options(module: nn.Module) -> tuple[int, ...]:
    if isinstance(module, CompatConv1d):
        return module.dilation[0], module.groups
    return (module.stride[0],) if isinstance(module, CompatConvTranspose1d) else ()


def freeze(module: FreedWeight) -> None:
    """Packs `weight` and lets the Parameter go empty. Nothing where the weight is not one that can be packed now."""
    parameter = module._parameters.get("weight")
    if parameter is None or _tensor_refusal(parameter) is not None or _layer_refusal(module, type(module)) is not None:
        return
    with torch.inference_mode(False), torch.no_grad():
        options = _options(module)
        packed = _pack(module, parameter.detach(), options)
        if parameter.is_shared():  # type: ignore[no-untyped-call]
            packed.share_memory_()  # type: ignore[no-untyped-call]
        empty = torch.empty(0)
    # Past everything that may fail. Not by setattr, which would register the Parameter
    vars(module).update(
        _compat_packed=packed, _compat_parameter=parameter, _compat_size=tuple(parameter.shape), _compat_options=options
    )
    module._parameters["weight"] = None
    nbytes = parameter.nbytes
    parameter.data = empty
    _C.give_back(2 * nbytes)  # the weight, and what packing took besides


def free(module: nn.Module) -> None:
    """Makes a patched layer one whose weight is only packed."""
    before = type(module)
    module.__class__ = _freed_class(before)
    try:
        freeze(module)  # type: ignore[arg-type]
    except BaseException:
        module.__class__ = before
        raise


def unfree(module: nn.Module) -> None:
    """The way back to a patched layer with its weight."""
    if not isinstance(module, FreedWeight):
        return
    thaw(module)
    if type(module).__bases__[0] in (
        FreedWeight,
        FreedLayer,
    ):  # else parametrize put a class above, which stays: it works as well
        module.__class__ = type(module).__bases__[1]
