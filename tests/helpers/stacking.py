"""`stacked` and `fit_stacked` that wait for every net, however slow the machine: whole stacks each time."""

from functools import partial
import math

import sk_mixup

stacked = partial(sk_mixup.stacked, window=math.inf)
fit_stacked = partial(sk_mixup.fit_stacked, window=math.inf)
