"""A pretended GPU: tensors that claim to be on "cuda:0" and are computed on the CPU, for tests on machines without one.

Inside ``accelerator()``, ``torch.device("cuda")`` can be used as if it were there. What a real GPU refuses is refused:
tensors of both devices in one operation, ``numpy()`` on the GPU, a CPU generator of numbers on the GPU, binary
cross-entropy of probabilities under autocast. ``torch.autocast("cuda")`` casts as it does there, float16 included.

How: an ``AcceleratorTensor`` wraps a CPU tensor. Every operator that reaches one goes through ``__torch_dispatch__``,
which compares devices and computes. What creates or moves tensors goes through a ``TorchFunctionMode``. For torch's C++
part the wrapper is a CPU tensor, since autograd asks the driver for the streams of any other. Autocast asks for the
device too; its rules are therefore kernels in Python, in place of torch's as long as the context is open.

Not imitated: kernels that a GPU lacks for a type, other rounding, memory, streams, several processes.
"""

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torchvision  # noqa: F401  its operators get rules of autocast
from torch import Tensor
from torch import library as operators
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten

# CPU indices of a GPU tensor are moved; so is what is copied into another tensor.
_INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
_COPYING = {aten.copy_.default}


class DeviceMismatchError(RuntimeError):
    """What a real GPU would not have done."""


class AcceleratorTensor(Tensor):
    """A tensor on the pretended GPU; ``values`` is the CPU tensor with its numbers."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "AcceleratorTensor":
        wrapper = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="cpu",
            _extra_dispatch_keys=torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA),
        )
        wrapper.values = values
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, subclasses: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        _check_devices(func, args, kwargs)
        if torch.Tag.inplace_view in func.tags:  # changes the shape of the wrapper as well
            with torch._C._DisableTorchDispatch():  # type: ignore[attr-defined]
                func(*args, **kwargs)
        plain_args, plain_kwargs = tree_map_only(AcceleratorTensor, lambda t: t.values, (args, kwargs))
        result = func(*plain_args, **plain_kwargs)
        if any(argument.is_write for argument in _arguments(func)):
            return _written(func, args, kwargs)
        # A view of an ordinary tensor is one also in inference mode.
        is_view = any(one.alias_info is not None for one in func._schema.returns) and not args[0].is_inference()
        with torch.inference_mode(torch.is_inference_mode_enabled() and not is_view):
            return tree_map_only(Tensor, cls, result)

    # --- what a tensor says of itself, and how it gets away from the device --------------------------------------
    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return 0

    def data_ptr(self) -> int:
        return self.values.data_ptr()

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        return _to(self, *args, **kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> Tensor:
        return _to(self, "cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        return self

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> Tensor:  # type: ignore[override]
        return AcceleratorTensor(self.values.new_tensor(data, dtype=dtype))

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy  # type: ignore[assignment]

    def tolist(self) -> Any:
        return self.values.tolist()

    def __repr__(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        return f"cuda:{self.values!r}"

    def __format__(self, spec: str) -> str:
        return self.values.__format__(spec)

    def __deepcopy__(self, memo: dict) -> Tensor:
        copied = AcceleratorTensor(self.values.clone()).requires_grad_(self.requires_grad)
        copied._is_param = getattr(self, "_is_param", False)  # type: ignore[attr-defined]
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.values.__reduce_ex__(protocol)  # a file that was read with map_location "cpu"


def _arguments(func: Any) -> list[Any]:
    """Places of the operator's arguments: name, position, whether it is written to."""
    return [_Argument(a.name, i, a.alias_info is not None and a.alias_info.is_write, a.kwarg_only)
            for i, a in enumerate(func._schema.arguments)]  # fmt: skip


class _Argument:
    def __init__(self, name: str, position: int, is_write: bool, by_name: bool):
        self.name, self.position, self.is_write, self.by_name = name, position, is_write, by_name

    def of(self, args: tuple, kwargs: dict) -> Any:
        if not self.by_name and self.position < len(args):
            return args[self.position]
        return kwargs.get(self.name)


def _written(func: Any, args: tuple, kwargs: dict) -> Any:
    """What an operator returns that writes into arguments: those themselves."""
    written = [a.of(args, kwargs) for a in _arguments(func) if a.is_write]
    returns = len(func._schema.returns)
    if returns == 0:
        return None
    return written[0] if returns == 1 else tuple(written[:returns])


def _check_devices(func: Any, args: tuple, kwargs: dict) -> None:
    """Raise where the operator gets tensors of both devices, unless the GPU takes those of the CPU too."""
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu":
        raise DeviceMismatchError(f"{func}: Expected a 'cuda' device type for generator but found 'cpu'")
    inputs: Any = (args, kwargs)
    if func in _COPYING:
        return
    if func in _INDEXING and isinstance(args[0], AcceleratorTensor):
        inputs = args[2:]
    written = [a.of(args, kwargs) for a in _arguments(func) if a.is_write]
    for tensor in tree_leaves(inputs):
        if not isinstance(tensor, Tensor) or isinstance(tensor, AcceleratorTensor):
            continue
        is_number = tensor.dim() == 0 and (torch.Tag.pointwise in func.tags or func in _INDEXING)
        if not is_number or any(tensor is one for one in written):
            raise DeviceMismatchError(
                f"{func}: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                f"cpu: a CPU tensor of shape {tuple(tensor.shape)}"
            )


# --- moving and creating ---------------------------------------------------------------------------------------------
class _Move(torch.autograd.Function):
    """To the other device and, the gradient, back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _moved(tensor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return _moved(grad)


def _moved(tensor: Tensor) -> Tensor:
    if isinstance(tensor, AcceleratorTensor):
        return tensor.values.detach().clone()
    return AcceleratorTensor(tensor.detach().clone())


def _on(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, a copy only if it is not there."""
    if tensor.device.type == device.type:
        return tensor
    if "cuda" not in (tensor.device.type, device.type):
        return Tensor.to(tensor, device)
    return _Move.apply(tensor)  # type: ignore[no-any-return]


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor.to`` in all its forms."""
    copy = kwargs.pop("copy", False)
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)  # type: ignore[attr-defined]
    options = {} if memory_format is None else {"memory_format": memory_format}
    changed = Tensor.to(tensor, dtype or tensor.dtype, copy=copy, **options)
    return changed if device is None else _on(changed, device)


class _Inside(TorchDispatchMode):
    """Within functions of torch's C++ part: what they make like a tensor of the device, they make on the device."""

    def __torch_dispatch__(self, func: Any, subclasses: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = isinstance(result, Tensor) and not any(isinstance(one, Tensor) for one in tree_leaves((args, kwargs)))
        return AcceleratorTensor(result) if made else result


# Autograd makes the zeros that a gradient is written into.
_MAKING = {torch._C._nn.pad_sequence, Tensor.backward, torch.autograd.backward}  # type: ignore[attr-defined]


class _Creation(TorchFunctionMode):
    """What makes tensors on a device, or moves them there."""

    def __torch_function__(self, func: Any, subclasses: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            return _to(*args, **kwargs)
        if func is Tensor.cuda:
            return _to(args[0], DEVICE)
        if func in _MAKING and any(isinstance(one, AcceleratorTensor) for one in tree_leaves(args)):
            with _Inside():
                return func(*args, **kwargs)
        if kwargs.get("device") is None or func is torch._C._nn._parse_to:  # type: ignore[attr-defined]
            return func(*args, **kwargs)
        device = torch.device(kwargs.pop("device"))
        requires_grad = kwargs.pop("requires_grad", False)
        if device.type == "cuda" and getattr(kwargs.get("generator"), "device", device).type == "cpu":
            raise DeviceMismatchError(f"{func}: Expected a 'cuda' device type for generator but found 'cpu'")
        made = func(*args, **kwargs)
        return _on(made, device).requires_grad_(requires_grad) if made.is_floating_point() else _on(made, device)


# --- autocast --------------------------------------------------------------------------------------------------------
# torch's documented lists, as far as there is a chance of meeting their operators.
_LOWER = "conv1d conv2d conv3d conv_transpose2d convolution prelu addmm matmul einsum mm mv linear baddbmm bmm"
_FLOAT32 = (
    "exp expm1 log log10 log2 log1p reciprocal rsqrt pow softplus layer_norm group_norm cosine_similarity nll_loss "
    "nll_loss2d kl_div l1_loss smooth_l1_loss huber_loss mse_loss binary_cross_entropy_with_logits dist cdist "
    "logsumexp upsample_nearest2d upsample_bilinear2d prod softmax log_softmax cumprod cumsum norm "
    "linalg_vector_norm sum"
)
_WIDEST = "addcdiv addcmul atan2 dot grid_sampler index_put scatter_add tensordot"


def _autocast_library() -> list[operators.Library]:
    """The rules of ``torch.autocast("cuda")`` for ``AcceleratorTensor``, until the libraries are destroyed."""
    libraries = [operators.Library("aten", "IMPL"), operators.Library("torchvision", "IMPL")]
    lower: Callable = lambda tensors: torch.get_autocast_dtype("cuda")  # noqa: E731
    full: Callable = lambda tensors: torch.float32  # noqa: E731
    for names, rule in ((_LOWER, lower), (_FLOAT32, full), (_WIDEST, _widest)):
        for name in names.split():
            packet = getattr(aten, name)
            for overload in packet.overloads():
                if "out" not in overload and not overload.startswith(("names", "dimname")):
                    _register(libraries[0], getattr(packet, overload), rule)
    for name in ("nms", "roi_align", "roi_pool"):
        _register(libraries[1], getattr(torch.ops.torchvision, name).default, full, keeps_type=name != "nms")
    return libraries


def _register(library: operators.Library, op: Any, rule: Callable, keeps_type: bool = False) -> None:
    excluded = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            tensors = [t for t in tree_leaves((args, kwargs)) if _is_castable(t)]
            dtype = rule(tensors)
            cast = tree_map_only(Tensor, lambda t: t.to(dtype) if _is_castable(t) else t, (args, kwargs))
            result = op(*cast[0], **cast[1])
            return tree_map_only(Tensor, lambda t: t.to(tensors[0].dtype), result) if keeps_type else result

    library.impl(op, run, "AutocastCUDA", allow_override=True)


def _is_castable(value: Any) -> bool:
    return isinstance(value, AcceleratorTensor) and value.is_floating_point() and value.dtype != torch.float64


def _widest(tensors: list[Tensor]) -> torch.dtype:
    known = {tensor.dtype for tensor in tensors}
    return torch.float32 if torch.float32 in known or not known else known.pop()


# --- the context -----------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def accelerator() -> Iterator[torch.device]:
    """One pretended GPU; gives its device. Tensors of it are of no use afterwards but for ``cpu()``."""
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "is_bf16_supported": True,
        "synchronize": None,
        "max_memory_allocated": 0,
        "get_device_name": "pretended",
        "get_device_capability": (9, 0),
    }
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, return_value=answer))
        stream = types.SimpleNamespace(is_capturing=lambda: False)
        if hasattr(torch, "accelerator"):  # since torch 2.6; only those ask for the stream
            stack.enter_context(mock.patch.object(torch.accelerator, "current_stream", return_value=stream))
        stack.enter_context(
            mock.patch.object(torch.cuda.amp.common, "amp_definitely_not_available", return_value=False)
        )
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        for library in _autocast_library():
            stack.callback(library._destroy)
        stack.enter_context(_Creation())
        yield DEVICE
