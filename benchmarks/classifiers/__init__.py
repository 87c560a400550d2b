"""Every classifier that can be packed, packed and asked: `make classifiers`, and docs/classifiers.md, its page."""
