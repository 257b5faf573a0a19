"""Whether the GPU computes what the CPU does; ``make test-gpu``, a minute."""

import pytest
import torch
from maskalign import devices
from maskalign.bench.gpu import checks

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason=f"torch {torch.__version__} can use no GPU here"
)


@pytest.mark.parametrize("name", checks.CHECKS)
def test_a_check_holds(name, tmp_path):
    devices.exact()
    print(checks.CHECKS[name]("cuda", tmp_path))
