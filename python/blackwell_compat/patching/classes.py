"""Which class a layer gets, and the way back. Only `module.__class__` changes, so what refers to the layer holds."""

from __future__ import annotations

import copyreg
import inspect
import types
import weakref
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from blackwell_compat.patching.layers import (
    PATCHED,
    CompatConv1d,
    CompatConvTranspose1d,
    CompatLinear,
    CompatTransposedLinear,
)

BASES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: CompatLinear,
    nn.Conv1d: CompatConv1d,
    nn.ConvTranspose1d: CompatConvTranspose1d,
}
TRANSPOSED = {"transformers.pytorch_utils.Conv1D", "transformers.modeling_utils.Conv1D"}

# Classes made here, by the id of the original: each keeps its original alive, and so the id
_made: weakref.WeakValueDictionary[int, type[nn.Module]] = weakref.WeakValueDictionary()


class Unsupported(Exception):
    """Why a class is left alone."""


def full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def base_of(cls: type[nn.Module]) -> type[nn.Module] | None:
    """The layer among the bases of `cls` (or `cls` itself) that we have an op for."""
    for base in cls.__mro__:
        if base in BASES or full_name(base) in TRANSPOSED:
            return base
    return None


def is_patched(module: nn.Module) -> bool:
    return isinstance(module, PATCHED)


def has_parametrized_class(module: nn.Module) -> bool:
    """Whether torch.nn.utils.parametrize gave this module a class of its own."""
    cls = type(module)
    return parametrize.is_parametrized(module) and "__getstate__" in cls.__dict__ and len(cls.__bases__) == 1


def _names(code: types.CodeType) -> set[str]:
    names = {*code.co_names, *code.co_freevars}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def check_forward(cls: type[nn.Module], base: type[nn.Module]) -> None:
    """Raises Unsupported where the forward of `cls` does not come to that of `base` through super()."""
    for owner in cls.__mro__[: cls.__mro__.index(base)]:
        if "_conv_forward" in vars(owner):
            raise Unsupported(f"{owner.__name__} has its own _conv_forward; reached by the dispatcher only")
        if "forward" not in vars(owner):
            continue
        function = inspect.unwrap(vars(owner)["forward"])
        code = getattr(function, "__code__", None)
        names = _names(code) if code is not None else set()
        if "_conv_forward" in names and issubclass(base, nn.Conv1d):
            continue
        if "super" not in names or "forward" not in names:
            called = sorted(names & {"linear", "conv1d", "conv_transpose1d", "addmm", "matmul", "Linear", "Conv1d"})
            what = ", ".join(called) or "something else"
            raise Unsupported(f"own forward calls functional {what}, not super(); reached by the dispatcher only")


def patched_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The class for layers of `cls`; for a subclass ours comes between it and the layer in the MRO.

    Raises:
        Unsupported: `cls` has no such class; the text says why.
    """
    if cls in BASES:
        return BASES[cls]
    if id(cls) in _made:
        return _made[id(cls)]
    base = base_of(cls)
    if base is None:
        raise Unsupported("no replacement for this class; left to the dispatcher")
    check_forward(cls, base)
    if base in BASES:
        bases: tuple[type[nn.Module], ...] = (cls, BASES[base])
    else:
        bases = (CompatTransposedLinear, cls) if cls is base else (cls, patched_class(base))
    made = _make(cls, bases, _new)
    _made[id(cls)] = made
    return made


def _make(cls: type[nn.Module], bases: tuple[type[nn.Module], ...], new: Callable[..., nn.Module]) -> type[nn.Module]:
    """A class for layers of `cls`; a pickle of one calls `new(cls)`."""

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
        reduced: Any = super(made, self).__reduce_ex__(max(protocol, 2))
        make, args, *rest = reduced
        if make is copyreg.__newobj__ and args[0] is made:  # type: ignore[attr-defined]
            make, args = new, (cls, *args[1:])
        return (make, args, *rest)

    namespace = {
        "__module__": cls.__module__,
        "__qualname__": f"Compat{cls.__qualname__}",
        "__doc__": cls.__doc__,
        "__reduce_ex__": __reduce_ex__,
        "_compat_original": cls,
    }
    try:
        made: type[nn.Module] = types.new_class(f"Compat{cls.__name__}", bases, {}, lambda ns: ns.update(namespace))
        object.__new__(cls).__class__ = made  # Python checks that the two have the same layout
    except Exception as error:  # a metaclass, __init_subclass__ or __slots__ of the user's class may object
        raise Unsupported(f"{cls.__name__} cannot be subclassed: {error}") from error
    return made


def _new(cls: type[nn.Module], *args: Any) -> nn.Module:
    """What a pickle of a patched layer calls: an empty layer of the patched class."""
    made = patched_class(cls)
    return made.__new__(made, *args)


def _rebased(cls: type[nn.Module], base: type[nn.Module], extra: dict[str, Any]) -> type[nn.Module]:
    """A copy of a Parametrized class over another base. torch makes that class for one module, and takes its base from
    it when the parametrization is removed, so ours has to be below it and not above."""
    drop = ("__dict__", "__weakref__", "_compat_original")
    namespace = {name: value for name, value in vars(cls).items() if name not in drop}
    return type(f"Parametrized{base.__name__}", (base,), {**namespace, **extra})


def swapped_class(module: nn.Module) -> type[nn.Module]:
    """The class that makes `module` a patched layer. Raises Unsupported."""
    cls = type(module)
    if has_parametrized_class(module):
        return _rebased(cls, patched_class(cls.__bases__[0]), {"_compat_original": cls})
    return patched_class(cls)


def original_class(module: nn.Module) -> type[nn.Module] | None:
    """The class that a patched layer had, None where it has none of ours."""
    cls = type(module)
    if has_parametrized_class(module):
        base = _original(cls.__bases__[0])
        if base is None:
            return None
        before = vars(cls).get("_compat_original")
        if before is not None and before.__bases__ == (base,):
            tensors = {name for name, value in vars(cls).items() if isinstance(value, property)}
            if tensors == {name for name, value in vars(before).items() if isinstance(value, property)}:
                return before  # type: ignore[no-any-return]
        return _rebased(cls, base, {})
    return _original(cls)


def _original(cls: type[nn.Module]) -> type[nn.Module] | None:
    for original, compat in BASES.items():
        if cls is compat:
            return original
    return vars(cls).get("_compat_original")
