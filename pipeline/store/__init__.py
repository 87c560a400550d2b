"""Cloud Storage: where versions lie, how they get there and come back."""
