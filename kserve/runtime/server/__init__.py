"""The container's main process: TorchServe, the front door before it, and an end that loses no request.

TorchServe calls itself ready before the model is loaded, and breaks off every connection when it is told to stop. So
this process asks the model a question now and then, answers the probes by what came of it, and keeps a signal to itself
until no client is connected, or for as long as it may. Where TorchServe ends, it ends too, and with it the container.

    python -m server [/mnt/models]

The folder has `config/config.properties` and `model-store/`. TS_* variables override the former, as for TorchServe.
Where ALEXNET_PUBLIC_KEY names a file, TorchServe is started only with what that key has signed (scripts/package.sh);
where ALEXNET_IDENTITY names somebody, only with what they have signed with Sigstore.
"""
