"""Small random LLaVA folders, written by transformers itself, for the tests of models, text and inference."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

IMAGE_TOKEN = "<image>"
BOS, EOS = 1, 2
VOCABULARY = 480  # of every tokenizer here at most; models have some rows more, as LLaVA-1.5 has

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": VOCABULARY + 16,
}
# Different heads, grouped queries, tied embeddings, layers, image sizes, widths, feature layers, activations.
SHAPES = {
    "plain": {},
    "grouped": {
        "text": {"num_key_value_heads": 2, "num_hidden_layers": 3},
        "vision": {"num_attention_heads": 4},
    },
    "tied": {"text": {"num_key_value_heads": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-5}},
    "wide": {
        "text": {"hidden_size": 80, "num_attention_heads": 5, "rope_theta": 5e4},
        "vision": {"image_size": 42, "hidden_size": 40, "num_attention_heads": 5, "intermediate_size": 72},
    },
    "last_layer": {
        "vision": {"hidden_act": "gelu", "num_hidden_layers": 2},
        "top": {"vision_feature_layer": -1},
    },
    "full": {
        "vision": {"image_size": 30, "num_hidden_layers": 4},
        "top": {"vision_feature_layer": 2, "vision_feature_select_strategy": "full"},
        "text": {"head_dim": 16},
    },
}


def torch_llava(shape: str = "plain", seed: int = 0) -> LlavaForConditionalGeneration:
    """A random model; weights large enough that its greedy text varies and no two logits nearly tie."""
    parts = SHAPES[shape]
    text = TEXT | parts.get("text", {})
    theta = text.pop("rope_theta", 1e4)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION | parts.get("vision", {})),
        text_config=LlamaConfig(**text, rope_parameters={"rope_type": "default", "rope_theta": theta}),
        image_token_index=image_token_id(),
        **parts.get("top", {}),
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(noise * 0.2 if parameter.ndim > 1 else parameter + 0.1 * noise)
    return model


def write_llava(folder: Path, shape: str = "plain", seed: int = 0, **saving) -> LlavaForConditionalGeneration:
    """Writes a whole model folder; returns the torch model in it. `saving` goes to `save_pretrained`."""
    model = torch_llava(shape, seed)
    model.save_pretrained(folder, **saving)
    write_tokenizer(folder)
    write_processor(folder, model.config)
    return model


def write_processor(folder: Path, config: LlavaConfig, **settings) -> None:
    side = config.vision_config.image_size
    crop = {"height": side, "width": side}
    LlavaImageProcessorPil(size={"shortest_edge": side}, crop_size=crop, **settings).save_pretrained(folder)
    fields = {
        "processor_class": "LlavaProcessor",
        "patch_size": config.vision_config.patch_size,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
        "num_additional_image_tokens": 1,
        "image_token": IMAGE_TOKEN,
    }
    (folder / "processor_config.json").write_text(json.dumps(fields))


def image_token_id() -> int:
    return llama_tokenizer().token_to_id(IMAGE_TOKEN)


def write_tokenizer(folder: Path, tokenizer: Tokenizer | None = None) -> None:
    (tokenizer or llama_tokenizer()).save(str(folder / "tokenizer.json"))
    fields = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))


def llama_tokenizer() -> Tokenizer:
    """LLaMA's form as the published LLaVAs have it: `▁` before every text, bytes as the fallback."""
    raw = models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer(raw)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    controls = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    _train(tokenizer, controls)
    # Bytes are ordinary vocabulary, and the file has no pre-tokenizer.
    settings = json.loads(tokenizer.to_str())
    settings["added_tokens"] = settings["added_tokens"][:3]
    settings["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return _finish(tokenizer)


def rebuilt_llama_tokenizer() -> Tokenizer:
    """The form in which transformers 5 saves LlamaTokenizer: `▁` before the first piece of a text alone."""
    learned = json.loads(llama_tokenizer().to_str())["model"]
    tokenizer = LlamaTokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        pad_token="<pad>",
        extra_special_tokens={"image_token": IMAGE_TOKEN},
    )
    return _finish(tokenizer.backend_tokenizer)


def byte_level_tokenizer() -> Tokenizer:
    """GPT-2's form: bytes as letters, words with the space before them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, ["<unk>", "<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet())
    return _finish(tokenizer)


def pictures(count: int, side: int = 40, seed: int = 0) -> list[Image.Image]:
    """Noise over a gradient, of different proportions."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        height, width = side + 3 * number, side + 5 * (count - number)
        slope = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
        images.append(Image.fromarray((slope + rng.integers(0, 56, slope.shape)).astype(np.uint8)))
    return images


def _train(tokenizer: Tokenizer, controls: list[str], alphabet: list[str] | None = None) -> None:
    lines = [
        "A chat between a curious user and an artificial intelligence assistant.",
        "USER: Please describe the image in great detail. ASSISTANT: A photo of a dog on a bench.",
        "There is a man riding a bicycle on the street, and two dogs are sitting beside him.",
        "Is there a cat in the image? Please answer yes or no. The kitchen has a table and chairs.",
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=controls,
        initial_alphabet=alphabet or [],
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines * 20, trainer)


def _finish(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in (IMAGE_TOKEN, "<pad>")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer
