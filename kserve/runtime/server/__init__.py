"""The container's main process: runs TorchServe with the front door before it, and shuts down without losing requests.

TorchServe calls itself ready before the model is loaded, and drops every connection when it is told to stop. So this
process queries the model regularly, answers the probes accordingly, and delays a stop signal until no client is
connected or its time is up. If TorchServe ends, this process ends too, and with it the container.

    python -m server [/mnt/models]

The folder has `config/config.properties` and `model-store/`. TS_* variables override the former, as in TorchServe.
Where ALEXNET_PUBLIC_KEY names a file, TorchServe is started only with what that key has signed (scripts/package.sh);
where ALEXNET_IDENTITY names an identity, only with what it has signed with Sigstore.
"""
