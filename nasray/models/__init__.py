"""Networks with weights: elastic layers, the supernet, and the plain networks extracted from it."""

import os

# A search meets thousands of layer shapes, and oneDNN compiles a kernel for each. Its cache holds 1,024 by default, so
# that most of a supernet's step went into compiling the same kernels again (2-4 times the whole step). The variable is
# read at the first convolution; a value from outside is kept.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
