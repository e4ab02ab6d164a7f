"""How a model is measured."""

from dataclasses import dataclass
from typing import Literal


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
