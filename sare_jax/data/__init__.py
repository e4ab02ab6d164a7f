"""Images, prompts and curated arrays, made into token batches."""
