"""Makes tiny pipelines with random weights, offline: `python tiny_pipelines.py FOLDER`.

A runtime's interpreter runs it. Their pictures are noise, but every class and every file is the
real one: diffusers itself builds and saves them. The configurations are as small as the classes
take; none is anybody's model.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

HIDDEN = 32
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DOWN, UP = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """One token a byte, with and without the end of a word."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(vocab=str(vocabulary), merges=str(merges))
    tokenizer.model_max_length = 77
    return tokenizer


def clip(words: int, *, projected: bool = False) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=words, hidden_size=HIDDEN, intermediate_size=37, num_attention_heads=4,
        num_hidden_layers=2, max_position_embeddings=77, projection_dim=HIDDEN,
        bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=1, hidden_act="gelu",
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5() -> tuple[T5Tokenizer, T5EncoderModel]:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    pieces += [(chr(code), -2.0) for code in range(33, 127)]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    tokenizer.model_max_length = 64
    config = T5Config(
        vocab_size=len(pieces) + 10, d_model=HIDDEN, d_ff=37, d_kv=8, num_layers=2, num_heads=4
    )
    return tokenizer, T5EncoderModel(config).eval()


def vae(channels: int, **more: object) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 64), in_channels=3, out_channels=3, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels, norm_num_groups=16, **more,
    )  # fmt: skip


def unet(**more: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=4,
        out_channels=4, down_block_types=DOWN, up_block_types=UP, norm_num_groups=16, **more,
    )  # fmt: skip


def stable_diffusion(tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
    scheduler = DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False)
    return StableDiffusionPipeline(
        vae=vae(4), text_encoder=clip(len(tokenizer)), tokenizer=tokenizer,
        unet=unet(cross_attention_dim=HIDDEN, attention_head_dim=8), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl(tokenizer: CLIPTokenizer) -> StableDiffusionXLPipeline:
    conditioned = unet(
        cross_attention_dim=2 * HIDDEN, attention_head_dim=(2, 4), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2), projection_class_embeddings_input_dim=80,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(**NOISE, timestep_spacing="leading", steps_offset=1)
    return StableDiffusionXLPipeline(
        vae=vae(4), text_encoder=clip(len(tokenizer)), tokenizer=tokenizer,
        text_encoder_2=clip(len(tokenizer), projected=True), tokenizer_2=tokenizer,
        unet=conditioned, scheduler=scheduler,
    )  # fmt: skip


def flux(tokenizer: CLIPTokenizer) -> FluxPipeline:
    pieces, encoder = t5()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=HIDDEN, pooled_projection_dim=HIDDEN,
        axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    plain = {"use_quant_conv": False, "use_post_quant_conv": False}
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(1, shift_factor=0.0609, scaling_factor=1.5035, **plain),
        text_encoder=clip(len(tokenizer)), tokenizer=tokenizer,
        text_encoder_2=encoder, tokenizer_2=pieces, transformer=transformer,
    )  # fmt: skip


MAKERS = {"sd": stable_diffusion, "sdxl": stable_diffusion_xl, "flux": flux}


def main(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer(folder / "tokenizer")
    for name, make in MAKERS.items():
        make(tokenizer).save_pretrained(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
