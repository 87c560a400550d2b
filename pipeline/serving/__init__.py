"""TorchServe on this machine, and a client for any server."""
