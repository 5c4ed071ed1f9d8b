"""Work beside predictions: a thread that gives way to the event loops on its core.

What a thread gives up is given up for good, since without privileges no thread may
raise its priority again. So only threads that do nothing else give way.
"""

import contextlib
import os
import threading

# A tenth of an event loop's weight: on a core that predictions fill, a load goes on
# at that share. 19 would be a seventieth, and a lock that such a thread holds (the GIL
# is one) would be let go as slowly.
BACKGROUND_NICE = 10
# A fifth of its weight, for threads that run models. Refusing what cannot be answered
# is the event loop's work, and so is handing out what was: under a flood it must come to it.
RUN_NICE = 7
_NICE_MAX = 19


def give_way(by: int = BACKGROUND_NICE) -> None:
    """Lower the calling thread's priority, and that of threads which it will start."""
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):  # then it competes as before
        nice = os.getpriority(os.PRIO_PROCESS, thread) + by
        os.setpriority(os.PRIO_PROCESS, thread, min(nice, _NICE_MAX))
