"""A judge: a language model whose replies are scores."""

from sare_jax.llm.asking import Answer, Asker

Judge = Asker[float]
Verdict = Answer[float]
