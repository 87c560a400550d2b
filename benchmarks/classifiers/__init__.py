"""Packs and runs every classifier that can be packed: `make classifiers`, and its page, docs/classifiers.md."""
