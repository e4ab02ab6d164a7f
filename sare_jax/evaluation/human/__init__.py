"""MHumanEval: people mark the objects of captions as correct or hallucinated (paper A.2)."""

__all__: list[str] = []
