"""What decides the KV cache of a model: its configuration, the settings, and the block size."""

from collections.abc import Callable

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.compat.section import Section
from meshtui.domain.errors import InvalidInput
from meshtui.memory.kv_layers import Kind, KvLayer
from meshtui.memory.settings import ServingSettings, dtype_bytes

DEFAULT_BLOCK = 16


class KvModel(msgspec.Struct, frozen=True):
    """The caches of a model's layers, by the index of the layer. `packed`: see `group_layers`."""

    layers: tuple[tuple[int, KvLayer], ...]
    packed: bool = False


class KvContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules of the families read.

    `text` is the configuration of the language model. `kv_dtype` is `auto`, `fp8` or another of
    vLLM's `--kv-cache-dtype`, resolved against the checkpoint. `batch_tokens` bounds encoder
    inputs.
    """

    configuration: Configuration
    text: Section
    settings: ServingSettings
    kv_dtype: str
    model_dtype: str
    batch_tokens: int

    @property
    def tp(self) -> int:
        return self.settings.tensor_parallel_size

    @property
    def block(self) -> int:
        """Tokens of a page, before hybrids raise it."""
        return self.settings.block_size or DEFAULT_BLOCK

    @property
    def element_bytes(self) -> int:
        return element_bytes(self.kv_dtype, self.model_dtype)

    @property
    def quantized(self) -> bool:
        return self.kv_dtype.startswith("fp8") or self.kv_dtype.startswith("nvfp4")

    @property
    def common_window(self) -> int | None:
        """The window of all layers, where the configuration tells no layer apart
        (vllm/engine/arg_utils.py: `CacheConfig.sliding_window`)."""
        types = self.text.layer_types
        if types and any(kind != "sliding_attention" for kind in types):
            return None
        return self.text.sliding_window

    def rank_heads(self, total: int, name: str = "KV heads") -> int:
        """Heads on one rank: split, or repeated where there are fewer than ranks.

        Raises `InvalidInput` where neither comes out even.
        """
        if total >= self.tp and total % self.tp == 0:
            return total // self.tp
        if 0 < total < self.tp and self.tp % total == 0:
            return 1
        raise InvalidInput(
            f"The model's {total} {name} cannot be shared out over {self.tp} GPUs.",
            hint="Choose a tensor parallel size that divides the heads.",
        )

    def split(self, total: int, name: str) -> int:
        """A size that is split over the ranks; raises `InvalidInput` where it does not divide."""
        if total <= 0 or total % self.tp:
            raise InvalidInput(
                f"The model's {name} ({total}) cannot be split over {self.tp} GPUs.",
                hint="Choose a smaller tensor parallel size.",
            )
        return total // self.tp

    def attention(
        self,
        *,
        heads: int,
        head_dim: int,
        value_dim: int | None = None,
        window: int | None = None,
        block: int | None = None,
    ) -> KvLayer:
        """Keys and values of one layer, `heads` being KV heads of the whole model."""
        row = self.rank_heads(heads) * row_content(
            head_dim, head_dim if value_dim is None else value_dim, self.kv_dtype, self.model_dtype
        )
        return KvLayer(
            kind=Kind.SLIDING if window else Kind.FULL,
            block=block or self.block,
            row_bytes=row,
            reach=window or 0,
        )


Family = Callable[[KvContext], KvModel]


def element_bytes(kv_dtype: str, model_dtype: str) -> int:
    """Bytes of one element of the cache."""
    if kv_dtype == "auto":
        return dtype_bytes(model_dtype)
    if kv_dtype.startswith(("fp8", "int8", "int4", "nvfp4")):
        return 1
    return dtype_bytes({"half": "float16", "float": "float32"}.get(kv_dtype, kv_dtype))


def row_content(key_dim: int, value_dim: int, kv_dtype: str, model_dtype: str) -> int:
    """Bytes of one token's key and value in one head. Formats with scales beside the data store
    them inline (vllm/v1/attention/backends: triton_attn.py and flashinfer.py,
    `customize_spec`)."""
    both = key_dim + value_dim
    if kv_dtype.startswith("nvfp4"):
        return sum(dim // 2 + dim // 16 for dim in (key_dim, value_dim))
    if kv_dtype == "int4_per_token_head":
        return both // 2 + 8
    if kv_dtype.endswith("per_token_head"):
        return both + 8
    return both * element_bytes(kv_dtype, model_dtype)


def kv_heads(text: Section) -> int:
    """KV heads of the whole model (vllm/transformers_utils/model_arch_config_convertor.py,
    `get_total_num_kv_heads`): as many as attention heads where nothing else is said."""
    if (
        text.model_type in ("falcon", "RefinedWeb", "RefinedWebModel")
        and text.get_bool("multi_query")
        and not text.get_bool("new_decoder_architecture")
    ):
        return 1
    if text.model_type == "dbrx":
        found = text.plain("attn_config").positive("kv_n_heads")
        if found:
            return found
    found = text.positive(
        "n_head_kv",
        "num_kv_heads",
        "num_key_value_heads",
        "multi_query_group_num",
        "num_attention_groups",
    )
    return found or text.num_heads


def head_size(text: Section) -> int:
    """The size of one head. Raises `InvalidInput` where the configuration does not tell it."""
    size = text.positive("head_dim", "hidden_size_per_head", "kv_channels") or text.head_dim
    if not size:
        raise InvalidInput(
            "The configuration does not say how large an attention head is.",
            hint="Check that config.json is complete and belongs to this model.",
        )
    return size
