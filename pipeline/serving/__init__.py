"""TorchServe on this machine, and a client of any server."""
