"""The architecture for torch-model-archiver's --model-file, from TorchServe's examples/image_classifier/alexnet:

https://github.com/pytorch/serve/blob/master/examples/image_classifier/alexnet/model.py
"""

from torchvision.models.alexnet import AlexNet


class ImageClassifier(AlexNet):
    pass
