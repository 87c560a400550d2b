"""What runs inside TorchServe, below the entry point."""
