"""Images, prompts and curated arrays, made into token batches."""

__all__: list[str] = []
