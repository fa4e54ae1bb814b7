"""Networks with weights: elastic layers, the supernet, and the plain networks extracted from it."""

import os

# A supernet meets thousands of layer shapes, and oneDNN compiles a kernel for each. Its cache holds 1,024 by default;
# on more than one thread, compiling the same kernels again then takes over half of a step (300 against 130 ms on two
# threads, no difference on one). The variable is read at the first convolution; a value from outside is kept.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
