"""One file an experiment; `get_config()` returns a locked ConfigDict."""
