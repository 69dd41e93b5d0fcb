"""What the families' rules read: the configuration, the ranks, and modules shared out over them.

Sources: vllm/model_executor/layers/linear.py and vocab_parallel_embedding.py of vLLM 0.32.
"""

import math

import msgspec

from meshtui.compat.configuration import Configuration
from meshtui.compat.section import Section
from meshtui.domain.errors import InvalidInput
from meshtui.memory.kv_model import head_size, kv_heads
from meshtui.memory.settings import ServingSettings
from meshtui.memory.weights_modules import Experts, Linear, Module, Plain

VOCABULARY_MULTIPLE = 64


class WeightsContext(msgspec.Struct, frozen=True, kw_only=True):
    """`text` is the configuration of the language model, `model_dtype` the type of what is not
    quantized. `tied` says whether the head is the embedding, as far as it is known, and
    `splits_tower` whether this version splits the towers that it once repeated on every rank."""

    configuration: Configuration
    text: Section
    settings: ServingSettings
    model_dtype: str
    element_bytes: int
    tied: bool
    splits_tower: bool = True

    @property
    def tp(self) -> int:
        return self.settings.tensor_parallel_size

    @property
    def hidden(self) -> int:
        """The size of hidden states. Raises `InvalidInput` where it is missing."""
        size = self.text.positive("hidden_size", "n_embd", "d_model", "embed_dim")
        if size is None:
            raise InvalidInput(
                "The configuration does not say how wide the model's layers are.",
                hint="Check that config.json is complete and belongs to this model.",
            )
        return size

    @property
    def heads(self) -> int:
        return self.text.num_heads

    @property
    def kv_heads(self) -> int:
        return kv_heads(self.text)

    @property
    def head_dim(self) -> int:
        return head_size(self.text)

    def share(self, size: int) -> int:
        """One rank's part of a size that is split, rounded up."""
        return math.ceil(size / self.tp)

    def vocabulary(self, item: str, name: str, rows: int, width: int) -> Plain:
        """A table with one row a token, padded to a multiple of 64 and split."""
        padded = math.ceil(rows / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        return Plain(item, name, self.share(padded) * width)

    def head(self, vocabulary: int) -> Linear:
        """The output head: as large as the embedding, and quantized where the files say so."""
        rows = math.ceil(vocabulary / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        return Linear("head", "lm_head", self.hidden, (self.share(rows),))

    def attention(
        self,
        name: str,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        value_dim: int | None = None,
        hidden: int | None = None,
        qkv_bias: bool = False,
        out_bias: bool = False,
        qkv_name: str = "qkv_proj",
        out_name: str = "o_proj",
        gate: bool = False,
        item: str = "attention",
    ) -> list[Module]:
        """Merged query, key and value, and the output: heads are split, KV heads repeated where
        there are more ranks. `gate` doubles the queries."""
        if heads % self.tp:
            raise InvalidInput(
                f"The model's {heads} attention heads cannot be split over {self.tp} GPUs.",
                hint="Choose a tensor parallel size that divides the heads.",
            )
        width = hidden or self.hidden
        own, own_kv = heads // self.tp, max(1, math.ceil(kv_heads / self.tp))
        values = head_dim if value_dim is None else value_dim
        queries = own * head_dim * (2 if gate else 1)
        qkv = Linear(
            item,
            f"{name}.{qkv_name}",
            width,
            (queries, own_kv * head_dim, own_kv * values),
            qkv_bias,
            ("q_proj", "k_proj", "v_proj"),
        )
        return [qkv, Linear(item, f"{name}.{out_name}", own * values, (width,), out_bias)]

    def mlp(
        self,
        name: str,
        width: int,
        *,
        hidden: int | None = None,
        gated: bool = True,
        bias: bool = False,
        down_bias: bool | None = None,
        item: str = "mlp",
        split: bool = True,
        names: tuple[str, str] = ("gate_up_proj", "down_proj"),
    ) -> list[Module]:
        """A way up (with its gate) and a way down."""
        own = self.share(width) if split else width
        size = hidden or self.hidden
        parts = ("gate_proj", "up_proj") if gated else ()
        outputs = (own, own) if gated else (own,)
        return [
            Linear(item, f"{name}.{names[0]}", size, outputs, bias, parts),
            Linear(
                item, f"{name}.{names[1]}", own, (size,), bias if down_bias is None else down_bias
            ),
        ]

    def experts(
        self,
        name: str,
        count: int,
        width: int,
        *,
        hidden: int | None = None,
        gated: bool = True,
        bias: bool = False,
    ) -> Experts:
        """Routed experts: each is split, or, with expert parallelism, they are handed out."""
        size = hidden or self.hidden
        if self.settings.expert_parallel and self.tp > 1:
            return Experts("experts", name, math.ceil(count / self.tp), size, width, gated, bias)
        return Experts("experts", name, count, size, self.share(width), gated, bias)
