"""Displacement, taught log-odds and separation of the models of a workdir."""

__all__: list[str] = []
