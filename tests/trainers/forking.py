"""Several processes of one launch, as torchrun would start them: forks of this one, so libraries are imported once.

The one that forks must not have computed a gradient. Of torchrun itself: tests/test_several_processes.py.
"""

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable

import torch.distributed as dist


def launch(work: Callable[[], None], size: int) -> int:
    """Does the work in `size` processes; 0 where all ended well, and 1 where one did not, which ends the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            if size > 1:
                place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
                os.environ.update(place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
            os._exit(_status(work))
        children.append(child)
    while children:
        ended, status = os.wait()
        children.remove(ended)
        if status:
            for child in children:  # it waits for the one that is gone
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            return 1
    return 0


def _status(work: Callable[[], None]) -> int:
    try:
        work()
        if dist.is_initialized():
            dist.destroy_process_group()
    except SystemExit as ended:  # of a command line
        return int(str(ended.code or 0))
    except BaseException:  # noqa: BLE001 (printed; the fork must not go on as its parent would)
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
