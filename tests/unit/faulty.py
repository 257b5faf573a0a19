"""Networks that fail, for tests: named by dotted path, so that every process builds them."""

import os
import signal
import time

from maskalign import training
from maskalign.distributed import place
from maskalign.models import ResNet20

training.CHECKPOINT_SECONDS = 0.0


class Faulty(ResNet20):
    """A net whose training pass does what FAULT says: ``what:rank:pass``, or ``slow``."""

    passes = 0

    def forward(self, x):
        fault = os.environ.get("FAULT", "")
        if self.training and fault:
            what, *where = fault.split(":")
            self.passes += 1
            if what == "slow":
                time.sleep(0.05)
            elif [str(place()[0]), str(self.passes)] == where:
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ValueError(f"bad pass\nnumber {self.passes}")
        return super().forward(x)
