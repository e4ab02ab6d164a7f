"""Shapes of a MiniGPT-4 (protocols 7.4): its towers' are fixed, its LLaMA's stand in a config.json.

Nothing here imports jax, so text and image code can use it alone.
"""

from dataclasses import dataclass

from sare_jax.models.shared.config import TextConfig, VisionConfig

GROUP = 4  # neighbouring patches that are one image token where there is no Q-Former
VISION_NORM_EPS = 1e-5


@dataclass(frozen=True)
class QFormerConfig:
    """BLIP-2's Q-Former: BERT layers over learned queries, every other of which looks at the image.

    Attributes:
      width: numbers of a query's vector.
      mlp: width inside the MLP.
      num_layers: an even number; the layers 0, 2, 4, … look at the image.
      num_heads: attention heads.
      num_queries: learned queries, and so image tokens.
      eps: added to the variance in every LayerNorm.
    """

    width: int
    mlp: int
    num_layers: int
    num_heads: int
    num_queries: int
    eps: float


@dataclass(frozen=True)
class Towers:
    """What no file says: the shapes of the vision tower and of the Q-Former."""

    vision: VisionConfig
    qformer: QFormerConfig


PUBLISHED = Towers(
    vision=VisionConfig(
        width=1408,
        mlp=6144,
        num_layers=39,
        num_heads=16,
        channels=3,
        image_size=224,
        patch_size=14,
        activation="gelu",
        eps=1e-6,
    ),
    qformer=QFormerConfig(width=768, mlp=3072, num_layers=12, num_heads=12, num_queries=32, eps=1e-12),
)


@dataclass(frozen=True)
class MiniGpt4Config:
    """A MiniGPT-4.

    Attributes:
      vision: shapes of EVA ViT-g.
      qformer: shapes of the Vicuna form's Q-Former; None in the Llama-2 form, which has none.
      text: shapes and constants of the LLaMA.
    """

    vision: VisionConfig
    qformer: QFormerConfig | None
    text: TextConfig

    @property
    def num_image_tokens(self) -> int:
        """P, image slots that one image takes in the text: 64, or 32 with the Q-Former."""
        return self.qformer.num_queries if self.qformer else self.vision.num_patches // GROUP

    @property
    def feature_width(self) -> int:
        """D_v, what `llama_proj` reads of an image token: 5632, or 768 with the Q-Former."""
        return self.qformer.width if self.qformer else GROUP * self.vision.width

    @property
    def image_token_id(self) -> int:
        """Stands in the image slots: the first id beyond the vocabulary.

        MiniGPT-4's own code has no such token; it marks the image by a piece of text.
        """
        return self.text.vocab_size
