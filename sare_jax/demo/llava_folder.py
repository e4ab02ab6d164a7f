"""The demo LLaVA as a Hugging Face folder: its configuration, and its files as the hub has them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from sare_jax import files
from sare_jax.demo.prompts import CHAT_TEMPLATE
from sare_jax.demo.scenes import SIZE
from sare_jax.demo.tokenizer import IMAGE

PATCH = 16
IMAGE_TOKENS = (SIZE // PATCH) ** 2

# Tensor names: transformers 5 on the left, the hub's (and transformers 4's) on the right.
_HUB_PREFIXES = {
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}


def make_model(tokenizer: LlamaTokenizer) -> LlavaForConditionalGeneration:
    """An untrained model of about a million parameters, in evaluation mode."""
    vision = CLIPVisionConfig(
        image_size=SIZE,
        patch_size=PATCH,
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        projection_dim=96,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    padding: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id}  # taken, but no declared field
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.get_vocab()[IMAGE],
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=False,
        **padding,
    )
    return LlavaForConditionalGeneration(config).eval()


def make_processor(tokenizer: LlamaTokenizer) -> LlavaProcessor:
    """Image processor and tokenizer; images are taken at their own size and normalised as CLIP does."""
    images = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def save_llava(model: LlavaForConditionalGeneration, tokenizer: LlamaTokenizer, folder: Path) -> None:
    """Writes everything that `from_pretrained` reads, weights as float16 under the hub's names; atomic."""
    with files.replacing(folder) as draft:
        draft.mkdir()
        processor = make_processor(tokenizer)
        processor.save_pretrained(draft)
        processor.image_processor.save_pretrained(draft)  # where transformers 4 looks for it
        model.config.architectures = ["LlavaForConditionalGeneration"]
        model.config.dtype = torch.float16
        model.config.save_pretrained(draft)
        GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ).save_pretrained(draft)
        tensors = {hub_name(name): value.half().contiguous() for name, value in model.state_dict().items()}
        save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})


def hub_name(name: str) -> str:
    """The published name of a parameter that transformers 5 calls `name`."""
    for here, hub in _HUB_PREFIXES.items():
        if name.startswith(here):
            return hub + name.removeprefix(here)
    raise ValueError(f"{name}: a parameter with no place in a LLaVA checkpoint")
