"""Cloud Storage and registries: where versions lie, how they get there and come back."""
