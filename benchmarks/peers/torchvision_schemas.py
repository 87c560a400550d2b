"""Lets `import torchvision` work where it is PyPI's build (compiled against CUDA torch) and torch is the CPU build.

The import then fails over two operators that are nowhere used here; declaring their schemas first cures that. This file
is copied into an environment only where it is needed, so that the code of peers stays as their documentation has it.
"""

import sys


class _Schemas:
    def find_spec(self, name, path=None, target=None):  # noqa: ARG002
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.torchvision_schemas = self  # as long as the process lives
        return


sys.meta_path.insert(0, _Schemas())
