"""Makes `import torchvision` work with PyPI's build (compiled against CUDA torch) and the CPU build of torch.

The import otherwise fails over two operators that are not used here; declaring their schemas first fixes that. This
file is copied into an environment only if needed, so that the peers' code stays as in their documentation.
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
