"""Importers: a model file or a torch module to the IR."""
