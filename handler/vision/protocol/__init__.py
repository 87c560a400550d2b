"""Request bodies to instances, answers to response bodies; no pixels."""
