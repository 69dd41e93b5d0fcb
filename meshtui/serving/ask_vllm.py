"""Asks an installed vLLM how much memory a model would take, without a GPU and without weights.

A script for a runtime's own Python, started by its path; it imports nothing of meshtui:
`python -I ask_vllm.py`. One JSON object comes on standard input (see `main`), one goes to standard
output: the figures, or `{"error": ..., "stage": ...}`.

vLLM is made to believe in a GPU: its own platform class answers from the request, and compiled
kernels are replaced by functions that do nothing, as they are never called. Then it reads the
configuration as its server would, builds the model of one rank on PyTorch's `meta` device, where
nothing is allocated, and its own functions say what the KV cache needs. Written for vLLM 0.32;
other releases may answer with an error.
"""

import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

MIB = 1 << 20
# Tensors from here on get a piece of memory of their own (c10/cuda/CUDACachingAllocator.cpp).
LARGE_BYTES = 10 * MIB
STUBS = (
    "vllm._C_stable_libtorch",
    "vllm._C_stable_libtorch_common",
    "vllm.vllm_flash_attn._vllm_fa2_C",
    "vllm.vllm_flash_attn._vllm_fa3_C",
)


class Kernel:
    """Stands in for a compiled kernel while modules are built."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "Kernel":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        import torch

        if "support" in self._name:
            return True
        return next((one for one in arguments if isinstance(one, torch.Tensor)), None)


class Nothing:
    """Stands in for streams and events."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None


def pretend_gpu(name: str, capability: tuple[int, int], memory_bytes: int, ranks: int) -> None:
    """Makes vLLM and PyTorch answer as if such GPUs were here."""
    for module in STUBS:
        sys.modules.setdefault(module, types.ModuleType(module))
    import torch

    _without_kernels()
    _install_platform(name, capability, memory_bytes, ranks)
    properties = types.SimpleNamespace(
        name=name,
        major=capability[0],
        minor=capability[1],
        total_memory=memory_bytes,
        multi_processor_count=132,
        L2_cache_size=50 * MIB,
        warp_size=32,
        regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=2048,
        shared_memory_per_block_optin=232448,
        shared_memory_per_multiprocessor=233472,
    )
    cuda: Any = torch.cuda
    for attribute, value in {
        "_lazy_init": lambda: None,
        "is_available": lambda: False,
        "Stream": Nothing,
        "Event": Nothing,
        "current_stream": lambda *a, **k: Nothing(),
        "synchronize": lambda *a, **k: None,
        "get_device_capability": lambda *a, **k: capability,
        "get_device_name": lambda *a, **k: name,
        "device_count": lambda: ranks,
        "current_device": lambda: 0,
        "get_device_properties": lambda *a, **k: properties,
    }.items():
        setattr(cuda, attribute, value)


def _without_kernels() -> None:
    import torch
    import torch._ops
    import torch.library

    namespace: Any = torch._ops._OpNamespace
    find = namespace.__getattr__

    def found(self: Any, name: str) -> Any:
        try:
            return find(self, name)
        except AttributeError:
            ours = self.name.startswith(("_C", "_moe_C", "_vllm", "vllm_fa"))
            if ours and not name.startswith("__"):
                return Kernel(name)
            raise

    namespace.__getattr__ = found
    library: Any = torch.library.Library
    register = library._register_fake

    def registered(self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return register(self, *arguments, **options)
        except RuntimeError as error:
            if "does not exist" not in str(error):
                raise
            return None

    library._register_fake = registered
    module: Any = torch.nn.Module
    move = module.to

    def moved(self: Any, *arguments: Any, **options: Any) -> Any:
        """What is nowhere stays there; only types change."""
        tensors = [*self.parameters(), *self.buffers()]
        if any(tensor.is_meta for tensor in tensors):
            arguments = tuple(one for one in arguments if isinstance(one, torch.dtype))
            options = {"dtype": options["dtype"]} if options.get("dtype") else {}
            if not arguments and not options:
                return self
        return move(self, *arguments, **options)

    module.to = moved


def _install_platform(
    name: str, capability: tuple[int, int], memory_bytes: int, ranks: int
) -> None:
    import vllm.platforms
    from vllm.platforms.cuda import NonNvmlCudaPlatform
    from vllm.platforms.interface import DeviceCapability

    def pair(wanted: Any) -> tuple[int, int]:
        return wanted if isinstance(wanted, tuple) else divmod(wanted, 10)

    answers: dict[str, Callable[..., Any]] = {
        "get_device_capability": lambda *a, **k: DeviceCapability(*capability),
        "has_device_capability": lambda wanted, *a, **k: capability >= pair(wanted),
        "is_device_capability": lambda wanted, *a, **k: capability == pair(wanted),
        "is_device_capability_family": lambda wanted, *a, **k: capability[0] == wanted // 10,
        "get_device_name": lambda *a, **k: name,
        "get_device_total_memory": lambda *a, **k: memory_bytes,
        "device_count": lambda *a, **k: max(8, ranks),
        "is_fully_connected": lambda *a, **k: True,
        "get_cuda_runtime_major": lambda *a, **k: 12,
        "is_pin_memory_available": lambda *a, **k: False,
        "import_kernels": lambda *a, **k: None,
        "num_compute_units": lambda *a, **k: 132,
        "is_integrated_gpu": lambda *a, **k: False,
        "use_custom_allreduce": lambda *a, **k: False,
        "get_device_communicator_cls": lambda *a, **k: (
            "vllm.distributed.device_communicators.base_device_communicator.DeviceCommunicatorBase"
        ),
    }
    fields = {key: staticmethod(answer) for key, answer in answers.items()}
    # Stray allocations must not need CUDA.
    kind = type("PretendedGpu", (NonNvmlCudaPlatform,), {"device_type": "cpu", **fields})
    platforms: Any = vllm.platforms
    platforms._current_platform = kind()
    platforms.vllm_version_matches_substr = lambda text: False


def engine_config(request: dict[str, Any]) -> Any:
    """The configuration as the OpenAI server would make it."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.models import registry
    from vllm.usage.usage_lib import UsageContext

    # Otherwise classes are looked into by another process, which knows nothing of this GPU.
    lazy: Any = registry._LazyRegisteredModel
    lazy.inspect_model_cls = lambda self: registry._ModelInfo.from_model_cls(self.load_model_cls())

    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("vllm.") and hasattr(module, "has_deep_gemm"):
            vars(module)["has_deep_gemm"] = lambda: True
    ranks = request["tensor_parallel_size"]
    arguments = {
        "model": request["folder"],
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "enforce_eager": True,
        "tensor_parallel_size": ranks,
        "max_model_len": request.get("max_model_len"),
        "kv_cache_dtype": request.get("kv_cache_dtype") or "auto",
        "quantization": request.get("quantization"),
        "trust_remote_code": False,
        "distributed_executor_backend": "mp" if ranks > 1 else None,
    }
    for key in ("max_num_batched_tokens", "max_num_seqs"):
        if request.get(key):
            arguments[key] = request[key]
    return EngineArgs(**arguments).create_engine_config(UsageContext.OPENAI_API_SERVER)


def build(config: Any, ranks: int) -> Any:
    """The model of the first rank, on no device at all."""
    import torch
    import torch.distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state

    group: Any = torch.distributed
    group.init_process_group(backend="fake", rank=0, world_size=ranks, store=FakeStore())
    new_group = group.new_group
    group.new_group = lambda members=None, *a, **k: new_group(members, backend="fake")
    state: Any = parallel_state
    make = state.init_model_parallel_group
    state.init_model_parallel_group = lambda *a, **k: make(
        *a, **{**k, "use_message_queue_broadcaster": False}
    )
    state.in_the_same_node_as = lambda pg, source_rank=0: [True] * ranks

    class NoCuda(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, kinds: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            options = dict(options or {})
            if str(options.get("device") or "").startswith("cuda"):
                options["device"] = "meta"
            if getattr(function, "__name__", "") == "to":
                arguments = tuple(
                    "meta" if isinstance(one, str | torch.device) and str(one).startswith("cuda")
                    else one
                    for one in arguments
                )  # fmt: skip
            return function(*arguments, **options)

    with set_current_vllm_config(config):
        state.init_distributed_environment(
            world_size=ranks,
            rank=0,
            local_rank=0,
            distributed_init_method="env://",
            backend="fake",
        )
        state.initialize_model_parallel(ranks, 1)
        from vllm.model_executor.model_loader.utils import initialize_model
        from vllm.utils.torch_utils import set_default_torch_dtype

        model_config = config.model_config
        if hasattr(model_config, "maybe_untie_word_embeddings"):
            model_config.maybe_untie_word_embeddings()
        with set_default_torch_dtype(model_config.dtype), torch.device("meta"), NoCuda():
            return initialize_model(config)


def tensors(model: Any) -> Iterator[int]:
    """The sizes of all parameters and buffers, each once."""
    seen = set()
    for _, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor.numel() * tensor.element_size()


def allocated(size: int) -> int:
    """What PyTorch's allocator takes for it: units of 512 bytes, and for large ones a segment of
    whole 2 MiB that is not divided for a rest of up to 1 MiB."""
    rounded = -(-size // 512) * 512
    if rounded >= LARGE_BYTES:
        segment = -(-rounded // (2 * MIB)) * 2 * MIB
        return segment if segment - rounded <= MIB else rounded
    return rounded


def cache_needs(config: Any, lengths: list[int]) -> dict[str, Any]:
    """Bytes of one request of each length, by vLLM's own functions."""
    from vllm.platforms import current_platform
    from vllm.v1.attention.backends.utils import (
        get_supported_kv_cache_layouts,
        resolve_kv_cache_layout,
    )
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner
    from vllm.v1.worker.worker_base import get_current_attn_backends

    current_platform.update_block_size_for_backend(config)
    runner: Any = types.SimpleNamespace(vllm_config=config, shared_kv_cache_layers={})
    layers = GPUModelRunner.get_kv_cache_spec(runner)
    if not layers:
        return {"request_bytes": dict.fromkeys(map(str, lengths), 0), "layers": 0}
    try:
        from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs

        register_all_kvcache_specs(config)
    except ImportError:
        pass
    backends = get_current_attn_backends(config)
    layouts = [layout.name for layout in get_supported_kv_cache_layouts(backends)]
    ranks = config.parallel_config.world_size
    resolve_kv_cache_layout(config, [layouts] * ranks, list(layers.values()))
    groups = kv_cache_utils.get_kv_cache_groups(config, dict(layers))
    needed = {}
    kept = config.model_config.max_model_len
    for length in lengths:
        config.model_config.max_model_len = length
        needed[str(length)] = kv_cache_utils._max_memory_usage_bytes_from_groups(config, groups)
    config.model_config.max_model_len = kept
    return {"request_bytes": needed, "layers": len(layers)}


def main() -> None:
    """The request: `folder` (with config.json), `gpu` (`name`, `capability` times ten,
    `memory_bytes`), `tensor_parallel_size`, `lengths`, and what a server would be started with."""
    request = json.loads(sys.stdin.read())
    answer: dict[str, Any] = {}
    stage = "start"
    # What libraries print must not get into the answer.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        gpu, ranks = request["gpu"], request["tensor_parallel_size"]
        stage = "platform"
        capability = divmod(gpu["capability"], 10)
        pretend_gpu(gpu["name"], capability, gpu["memory_bytes"], ranks)
        stage = "configuration"
        import vllm

        answer["vllm_version"] = vllm.__version__
        config = engine_config(request)
        answer["max_model_len"] = config.model_config.max_model_len
        stage = "model"
        model = build(config, ranks)
        sizes = list(tensors(model))
        answer["tensor_bytes"] = sum(sizes)
        answer["weights_bytes"] = sum(allocated(size) for size in sizes)
        stage = "KV cache"
        lengths = request["lengths"] or [answer["max_model_len"]]
        answer |= cache_needs(config, lengths)
    except BaseException as error:
        answer |= {"error": f"{type(error).__name__}: {error}"[:2000], "stage": stage}
    out.write(json.dumps(answer) + "\n")
    out.flush()
    # Threads of libraries are no reason to stay.
    os._exit(1 if "error" in answer else 0)


if __name__ == "__main__":
    for variable, value in {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        # Without it, Triton counts as missing where no driver is.
        "CUDA_VISIBLE_DEVICES": "",
    }.items():
        os.environ[variable] = value
    main()
