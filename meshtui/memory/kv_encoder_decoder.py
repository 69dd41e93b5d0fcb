"""The KV cache of decoders that also look at the output of an encoder.

Sources: vLLM 0.32, whisper.py; for Mllama, vLLM 0.10.
"""

from meshtui.compat.section import Section
from meshtui.domain.errors import InvalidInput
from meshtui.memory.kv_layers import Kind, KvLayer
from meshtui.memory.kv_model import KvContext, KvModel, head_size, kv_heads


def encoder_decoder(context: KvContext) -> KvModel:
    """Every layer of the decoder keeps its own tokens and those of the encoder, of which a step
    may hold as many as it holds tokens."""
    top = context.configuration.top
    nested = top.plain("transf_decoder").plain("config_dict")
    text = nested if nested.raw else _decoder(context)
    layers = text.positive("decoder_layers", "num_hidden_layers", "num_layers")
    heads = text.positive("decoder_attention_heads", "num_attention_heads")
    hidden = text.positive("d_model", "hidden_size")
    if not layers or not heads or not hidden or layers > 2000:
        raise InvalidInput(
            "The configuration does not describe the decoder.",
            hint="Check that config.json is complete and belongs to this model.",
        )
    own = context.attention(heads=heads, head_dim=hidden // heads)
    cross = _cross(own, context.batch_tokens)
    return KvModel(tuple((i, layer) for i in range(layers) for layer in (own, cross)))


def mllama(context: KvContext) -> KvModel:
    """Some layers look at the picture only."""
    text = context.text
    own = context.attention(heads=kv_heads(text), head_dim=head_size(text))
    crossing = set(text.ints("cross_attention_layers"))
    cross = _cross(own, context.batch_tokens)
    return KvModel(tuple((i, cross if i in crossing else own) for i in range(text.num_layers)))


def _decoder(context: KvContext) -> Section:
    decoder = context.configuration.section("decoder")
    return decoder if decoder is not None and decoder.raw else context.text


def _cross(own: KvLayer, tokens: int) -> KvLayer:
    return KvLayer(kind=Kind.CROSS, block=own.block, row_bytes=own.row_bytes, reach=tokens)
