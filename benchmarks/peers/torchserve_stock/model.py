"""The architecture for torch-model-archiver's --model-file, as TorchServe's examples/image_classifier/alexnet has it:

https://github.com/pytorch/serve/blob/master/examples/image_classifier/alexnet/model.py
"""

from torchvision.models.alexnet import AlexNet


class ImageClassifier(AlexNet):
    pass
