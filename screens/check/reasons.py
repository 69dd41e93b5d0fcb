"""Why each rule of the checker matters: what would happen to a model that breaks it."""

_WHY = {
    "configuration": (
        "An engine builds the model from config.json before it reads a single weight. Without the "
        "architecture's name in it, there is nothing to build."
    ),
    "architecture": (
        "Each architecture is code of the engine's own. Which ones there are differs from release "
        "to release: some come, some go, and the version in the runtime decides."
    ),
    "custom-code": (
        "The model brings Python code that the engine would run on the server, with all that the "
        "server may do. It is off until you say that you trust its authors."
    ),
    "instruct": (
        "A model that was only trained on text continues what it is given. One that was tuned "
        "for turns answers, and ends its answer. What its template ends a turn with must be among "
        "the tokens that end generation."
    ),
    "weights": (
        "Weights in safetensors are plain numbers. Pickled files can run code while they are "
        "loaded, and the formats of other programs are not read at all."
    ),
    "quantization": (
        "Quantized weights need kernels that know their layout. Engines add and drop layouts, and "
        "each kernel asks for a compute capability of the GPU."
    ),
    "gpu": (
        "The engine's kernels are compiled for a range of GPUs, and number types such as bfloat16 "
        "and FP8 came with later generations."
    ),
    "runtime": (
        "A runtime is the pinned stack of vLLM, transformers and torch that servers run on. Its "
        "versions decide what runs."
    ),
    "driver": "A runtime's CUDA needs a driver that is at least as new.",
    "tensor-parallel": (
        "Tensor parallelism gives each GPU an equal share of every layer. Attention heads, "
        "experts and the scales of quantized weights must divide without a rest."
    ),
    "max-tokens": (
        "Beyond the length it was made for, a model loses the thread. Up to there, each request "
        "takes KV cache in proportion to its length."
    ),
    "memory": (
        "vLLM takes a fixed share of the GPU, puts the weights and what a step needs into it, and "
        "gives the rest to the KV cache. It does not start where one request of the longest "
        "context would not fit into that rest."
    ),
    "access": (
        "A gated model is only given to accounts that have accepted its terms; the connection's "
        "token must belong to such an account."
    ),
    "engine": (
        "vLLM is the fastest and is used where it can be. Others run more models, at a fraction "
        "of the speed and with fewer features."
    ),
}
# Other names under which a rule may speak of the same thing.
_SAME = {"fit": "memory", "kv-cache": "memory"}

ABOUT_MEMORY = frozenset({"memory", "fit", "kv-cache", "max-tokens", "gpu"})


def why(rule: str) -> str:
    """One or two sentences; empty for a rule that is not known here."""
    return _WHY.get(_SAME.get(rule, rule), "")
