"""What stops a command.

PipelineError             one line that says what is wrong, where, and what to do
├── WeightsUnavailable    the ImageNet weights cannot be downloaded
└── NoServer              nothing answers at the URL
"""


class PipelineError(Exception):
    """Shown to the user as it is, without a traceback; the command ends with exit status 1."""


class WeightsUnavailable(PipelineError):
    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class NoServer(PipelineError):
    pass
